package testenv

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleParent starts one process of each kind, prints their ids, and waits to be killed.
const roleParent = "testenv-parent"

// TestMain lets this binary be the processes that the tests run on.
func TestMain(m *testing.M) {
	RunRole()
	if len(os.Args) > 2 && os.Args[1] == roleParent {
		if err := parent(os.Args[2]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// parent is the body of roleParent.
func parent(folder string) error {
	ctx := context.Background()
	model, err := StartModel(ctx, ModelConfig{Program: Program{Path: os.Args[0], Args: []string{RoleModel}}, Version: "v1"})
	if err != nil {
		return err
	}
	envoy, err := StartEnvoy(ctx, EnvoyConfig{ID: "orphan", Dir: folder, Bootstrap: []byte("{}")})
	if err != nil {
		return err
	}
	etcd, err := StartEtcd(ctx, EtcdConfig{Program: Program{Path: os.Args[0], Args: []string{RoleEtcd}}, Dir: filepath.Join(folder, "e")})
	if err != nil {
		return err
	}
	fmt.Println(model.Pid(), envoy.Pid(), etcd.Pid())
	// The end of standard input is the end of whoever started us, should it not come to kill us.
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}

// patience is the deadline of requests in tests that are not about deadlines: other tests may be using the machine.
const patience = time.Minute

// within bounds a wait; it is only reached by tests that fail.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually fails the test when a condition does not come to hold.
func eventually(t testing.TB, condition func() (bool, error)) {
	t.Helper()
	if err := Eventually(within(t, 20*time.Second), condition); err != nil {
		t.Fatal(err)
	}
}

func self(t testing.TB, role ...string) Program {
	t.Helper()
	p, err := Self(role...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// running tells whether a process exists and is more than an entry that nobody has collected yet.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// The state follows the command's name in parentheses, which may itself contain some.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// gone fails the test when a process does not end.
func gone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, func() (bool, error) {
		if running(pid) {
			return false, fmt.Errorf("process %d still runs", pid)
		}
		return true, nil
	})
}

// startModel runs a model server until the test ends.
func startModel(t testing.TB, version string) *Model {
	t.Helper()
	m, err := StartModel(context.Background(), ModelConfig{
		Program: self(t, RoleModel), Version: version, Median: 5 * time.Millisecond, P99: 20 * time.Millisecond, Log: filepath.Join(t.TempDir(), "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.http.CloseIdleConnections()
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
	})
	return m
}
