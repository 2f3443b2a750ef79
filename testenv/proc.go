package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end by itself when Command.Grace does not say.
const stopGrace = 5 * time.Second

// Program is a binary and the arguments that choose its role.
type Program struct {
	Path string
	Args []string
}

// Self is the running binary in another role: rampart's hidden subcommands, or those a test binary answers to through RunRole.
func Self(role ...string) (Program, error) {
	path, err := os.Executable()
	if err != nil {
		return Program{}, fmt.Errorf("find our own binary: %w", err)
	}
	return Program{Path: path, Args: role}, nil
}

// Command is what a Proc runs.
type Command struct {
	Program
	Env   []string      // added to our own environment
	Dir   string        // working folder; "" is ours
	Log   string        // file that gets its output, appended; "" discards it
	Grace time.Duration // between Stop's SIGTERM and its SIGKILL; 0 is 5 s
	Extra []*os.File    // inherited as descriptors 3 and on; the caller closes its own copies
}

// Proc is a running process in a group of its own.
type Proc struct {
	command Command       // fixed after StartProc
	pid     int           // fixed after StartProc
	ended   chan struct{} // closed by live when the process has ended
	err     error         // written by live before it closes ended
	asked   atomic.Bool   // Stop, Kill or the end of the context asked for its end
}

// StartProc starts a process that lives until it ends by itself, is stopped, ctx ends, or our own process dies, however that happens.
func StartProc(ctx context.Context, c Command) (*Proc, error) {
	p := &Proc{command: c, ended: make(chan struct{})}
	cmd, err := c.build()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go p.live(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(c.Path), err)
	}
	p.pid = cmd.Process.Pid
	forget := context.AfterFunc(ctx, func() { _ = p.end(syscall.SIGKILL) })
	go func() {
		<-p.ended
		forget()
	}()
	return p, nil
}

func (c Command) build() (*exec.Cmd, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = append(os.Environ(), c.Env...), c.Dir, c.Extra
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	if c.Log == "" {
		return cmd, nil
	}
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(c.Path), err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, nil
}

// live starts the process and stays with it. The kernel ties the death signal to the thread that started the child, so this goroutine keeps its thread for as
// long as the child lives; a thread that the scheduler took back would take the child with it.
func (p *Proc) live(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if log, ok := cmd.Stdout.(*os.File); ok {
		_ = log.Close()
	}
	started <- err
	if err != nil {
		return
	}
	p.err = cmd.Wait()
	// What the process left of its group must not outlive it.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	close(p.ended)
}

// Pid is the process id, which is also the id of its group.
func (p *Proc) Pid() int { return p.pid }

// Ended is closed when the process has ended.
func (p *Proc) Ended() <-chan struct{} { return p.ended }

// Signal sends s to the process and all of its group.
func (p *Proc) Signal(s syscall.Signal) error {
	select {
	case <-p.ended:
		return fmt.Errorf("signal %s: %w", filepath.Base(p.command.Path), os.ErrProcessDone)
	default:
	}
	if err := syscall.Kill(-p.pid, s); err != nil {
		return fmt.Errorf("signal %s: %w", filepath.Base(p.command.Path), err)
	}
	return nil
}

// Pause stops the process where it stands, as a machine that hangs does.
func (p *Proc) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Proc) Resume() error { return p.Signal(syscall.SIGCONT) }

// Kill ends the process and its group at once and waits until it is gone. A process that has ended already is no error.
func (p *Proc) Kill() error {
	err := p.end(syscall.SIGKILL)
	<-p.ended
	return err
}

// Stop asks the process to end, and kills it when it does not within its grace. A process that has ended already is no error.
func (p *Proc) Stop() error {
	if err := p.end(syscall.SIGTERM); err != nil {
		return err
	}
	// One that is paused would not hear of it.
	_ = p.Signal(syscall.SIGCONT)
	grace := p.command.Grace
	if grace == 0 {
		grace = stopGrace
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		return p.Kill()
	}
}

// end sends a signal that is meant to end the process.
func (p *Proc) end(s syscall.Signal) error {
	p.asked.Store(true)
	if err := p.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// Wait blocks until the process has ended. It returns an error, with the end of its log, if the process failed by itself.
func (p *Proc) Wait() error {
	<-p.ended
	if p.err == nil || p.asked.Load() {
		return nil
	}
	return fmt.Errorf("%s ended: %w%s", filepath.Base(p.command.Path), p.err, p.lastWords())
}

// lastWords is the end of the log, for an error.
func (p *Proc) lastWords() string {
	if p.command.Log == "" {
		return ""
	}
	text, err := os.ReadFile(p.command.Log)
	if err != nil || len(text) == 0 {
		return ""
	}
	const enough = 2000
	if len(text) > enough {
		text = text[len(text)-enough:]
	}
	return "; its last words:\n" + strings.TrimSpace(string(text))
}
