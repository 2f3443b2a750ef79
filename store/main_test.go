package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
)

// TestMain lets the test binary be the embedded etcd's process and the parent of one, as rampart's own binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "embedded-etcd":
			runChild(func(ctx context.Context) error { return EmbeddedMain(ctx, os.Args[2:]) })
		case "embedded-parent":
			runChild(func(ctx context.Context) error {
				e := Embedded{Dir: filepath.Join(os.Args[2], "etcd"), Socket: SocketPath(os.Args[2])}
				e.Command = func(args ...string) *exec.Cmd { return again("embedded-etcd", args...) }
				return e.Run(ctx)
			})
		}
	}
	goleak.VerifyTestMain(m)
}

func runChild(body func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := body(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// again starts this test binary in another role.
func again(role string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, append([]string{role}, args...)...)
	// The race detector sleeps for a second at exit, to let other goroutines report; here that would be a second in each test.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// etcd is a real embedded etcd under its supervisor.
type etcd struct {
	Embedded
	t *testing.T
}

// startEtcd runs an embedded etcd until the test ends. Extra arguments go to the child.
func startEtcd(t *testing.T, extra ...string) *etcd {
	t.Helper()
	e := prepareEtcd(t, shortFolder(t), extra...)
	e.start()
	return e
}

func prepareEtcd(t *testing.T, data string, extra ...string) *etcd {
	e := &etcd{t: t, Embedded: Embedded{Dir: filepath.Join(data, "etcd"), Socket: SocketPath(data), Log: testLog(t)}}
	e.Command = func(args ...string) *exec.Cmd { return again("embedded-etcd", append(args, extra...)...) }
	return e
}

// start runs the supervisor until stop is called or the test ends, and waits for an answer.
func (e *etcd) start() (stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Errorf("supervisor: %v", err)
		}
	})
	e.t.Cleanup(stop)
	wait, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	if err := e.Ready(wait); err != nil {
		e.t.Fatal(err)
	}
	return stop
}

// pid returns the process of the newest child, as its lock says.
func (e *etcd) pid() int {
	e.t.Helper()
	pid := 0
	eventually(e.t, "a child's process id", func() bool {
		text, err := os.ReadFile(filepath.Join(e.Dir, "lock"))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil && pid > 1
	})
	return pid
}

func (e *etcd) signal(s syscall.Signal) {
	e.t.Helper()
	if err := syscall.Kill(e.pid(), s); err != nil {
		e.t.Fatal(err)
	}
}

// dial connects a store to this etcd for the rest of the test.
func (e *etcd) dial() *Store { return dialTo(e.t, "unix://"+e.Socket) }

func dialTo(t *testing.T, endpoint string) *Store {
	t.Helper()
	s, err := Dial(t.Context(), Config{Endpoints: []string{endpoint}, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// testLog is silent unless the test is run with -v.
func testLog(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("test", t.Name())
}

// shortFolder is a temporary folder whose path leaves room for a socket's name.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "st")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// eventually waits for a condition and fails the test when it does not come.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}

// put writes a key past the store's own methods, as etcdctl does.
func put(t *testing.T, s *Store, key, value string) int64 {
	t.Helper()
	answer, err := s.client.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.Revision
}

func del(t *testing.T, s *Store, key string, options ...clientv3.OpOption) int64 {
	t.Helper()
	answer, err := s.client.Delete(t.Context(), key, options...)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.Revision
}

func value(t *testing.T, s *Store, key string) string {
	t.Helper()
	answer, err := s.client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Kvs) == 0 {
		return ""
	}
	return string(answer.Kvs[0].Value)
}

// elect makes s lead for the rest of the test.
func elect(t *testing.T, s *Store, id string) *Leadership {
	t.Helper()
	l, err := s.Campaign(context.Background(), Candidate{ID: id, TTL: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Resign(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}
