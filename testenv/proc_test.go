package testenv

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell runs a script until the test ends, in which the script says "ready" when it is.
func shell(t *testing.T, ctx context.Context, script string) *Proc {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := StartProc(ctx, Command{
		Program: Program{Path: "/bin/sh", Args: []string{"-c", script}}, Log: log, Grace: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	eventually(t, func() (bool, error) {
		text, err := os.ReadFile(log)
		return strings.Contains(string(text), "ready"), err
	})
	return p
}

const deaf = "trap '' TERM; echo ready; while :; do sleep 1; done"

func TestStopEndsAProcessThatDoesNotListen(t *testing.T) {
	p := shell(t, t.Context(), deaf)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if running(p.Pid()) {
		t.Error("the process still runs")
	}
	if err := p.Wait(); err != nil {
		t.Errorf("an end that was asked for is no failure: %v", err)
	}
}

func TestStopEndsAPausedProcess(t *testing.T) {
	p := shell(t, t.Context(), "echo ready; while :; do sleep 1; done")
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if running(p.Pid()) {
		t.Error("the process still runs")
	}
}

func TestTheEndOfTheContextEndsTheProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := shell(t, ctx, deaf)
	cancel()
	if err := p.Wait(); err != nil {
		t.Errorf("an end that was asked for is no failure: %v", err)
	}
}

func TestWhatAProcessLeavesOfItsGroupEndsWithIt(t *testing.T) {
	folder := t.TempDir()
	p := shell(t, t.Context(), "(trap '' TERM; exec sleep 1000) & echo $! > "+folder+"/pid; echo ready; wait")
	var orphan int
	eventually(t, func() (bool, error) {
		text, err := os.ReadFile(folder + "/pid")
		if err != nil {
			return false, err
		}
		_, err = fmt.Sscan(string(text), &orphan)
		return err == nil, err
	})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	gone(t, orphan)
}

func TestAProcessThatFailsIsQuoted(t *testing.T) {
	p := shell(t, t.Context(), "echo ready; echo the disk is on fire; exit 7")
	err := p.Wait()
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Errorf("want the status and the last words, got %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing what has ended is no failure: %v", err)
	}
}

func TestAProgramThatIsNotThereIsAnErrorOfTheStart(t *testing.T) {
	if _, err := StartProc(t.Context(), Command{Program: Program{Path: "/nowhere/envoy"}}); err == nil || !strings.HasPrefix(err.Error(), "start envoy: ") {
		t.Errorf("got %v", err)
	}
}

// The kernel has to end our children, because a process that is killed can do nothing for itself any more.
func TestKillingTheParentLeavesNothingRunning(t *testing.T) {
	program := self(t, roleParent, t.TempDir())
	cmd := exec.Command(program.Path, program.Args...)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pids := make([]int, 3)
	if _, err := fmt.Sscan(line, &pids[0], &pids[1], &pids[2]); err != nil {
		t.Fatalf("the parent says %q", line)
	}
	for _, pid := range pids {
		if !running(pid) {
			t.Fatalf("process %d does not run", pid)
		}
		// Should the promise be broken, this test must not leave them either.
		t.Cleanup(func() {
			if t.Failed() && running(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, pid := range pids {
		gone(t, pid)
	}
}
