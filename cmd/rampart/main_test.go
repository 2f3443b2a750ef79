package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// TestMain lets the test binary be the program itself: what re-executes os.Executable with a subcommand gets the released commands.
func TestMain(m *testing.M) {
	testenv.RunRole()
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
	}
	// The race detector makes every process wait for a second at its end; the children that the tests start have nothing to report by then.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// answer is what one command line came to.
type answer struct {
	status   int
	out, err string
}

// rampart runs a command line in this process, with nothing on standard input.
func rampart(args ...string) answer { return rampartWith(context.Background(), "", args...) }

func rampartWith(ctx context.Context, stdin string, args ...string) answer {
	var out, err bytes.Buffer
	status := run(ctx, args, streams{in: strings.NewReader(stdin), out: &out, err: &err})
	return answer{status, out.String(), err.String()}
}

// live is a buffer that is read while a command still writes.
type live struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *live) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(data)
}

func (l *live) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not in 15 s: %s", what)
		}
	}
}

// etcd is a real embedded etcd in a process of its own, on a folder of its own.
type etcd struct {
	t      *testing.T
	folder string
	store  *store.Store
}

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	folder, err := os.MkdirTemp("", "rampart-cli-")
	if err != nil {
		t.Fatal(err)
	}
	embedded := store.Embedded{Dir: filepath.Join(folder, "etcd"), Socket: store.SocketPath(folder), Command: embeddedCommand}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- embedded.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("etcd: %v", err)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if err := embedded.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := store.Dial(ctx, store.Config{Endpoints: []string{"unix://" + embedded.Socket}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &etcd{t: t, folder: folder, store: s}
}

// rampart runs a command against this etcd.
func (e *etcd) rampart(args ...string) answer {
	return rampart(append([]string{"--data", e.folder}, args...)...)
}

// expect runs a command and checks its exit status.
func (e *etcd) expect(status int, args ...string) answer {
	e.t.Helper()
	got := e.rampart(args...)
	if got.status != status {
		e.t.Fatalf("rampart %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), got.status, status, got.out, got.err)
	}
	return got
}

// etcdctl runs the plain tool, which must succeed.
func (e *etcd) etcdctl(args ...string) answer {
	e.t.Helper()
	return e.expect(0, append([]string{"etcdctl"}, args...)...)
}

// file writes a document for a command to read.
func (e *etcd) file(name, text string) string {
	e.t.Helper()
	path := filepath.Join(e.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	return path
}

// put writes a document as etcdctl would: unread.
func (e *etcd) put(kind store.Kind, name, text string) {
	e.t.Helper()
	view := store.Entry{}
	if kind == store.ServiceDoc {
		found, err := e.store.Service(context.Background(), name)
		if err != nil {
			e.t.Fatal(err)
		}
		view = found.Doc
	}
	if err := e.store.Put(context.Background(), []store.Write{{Kind: kind, Name: name, Value: []byte(text), Mod: view.Mod}}); err != nil {
		e.t.Fatal(err)
	}
}

// dump is everything in etcd that replicas act on, to compare before and after.
func (e *etcd) dump() string {
	e.t.Helper()
	batch, err := e.store.Read(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	var text strings.Builder
	for _, c := range batch.Changes {
		if c.Kind == store.Beat {
			continue
		}
		text.WriteString(store.Key(c.Kind, c.Name) + c.Release + " " + string(c.Value) + "\n")
	}
	return text.String()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

// golden compares text with a file of testdata, times and ids made equal.
func golden(t *testing.T, name, text string) {
	t.Helper()
	text = normal(text)
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, text, want)
	}
}

// normal takes out of a text what differs from run to run.
func normal(text string) string {
	for _, rule := range []struct{ pattern, by string }{
		{`\b(blue|green|canary)-\d+\b`, "$1-N"},
		{`\d\d:\d\d:\d\d`, "TIME"},
		{`rampart-cli-\d+`, "FOLDER"},
		{`/tmp/Test[^ :]*/`, ""},
	} {
		text = regexp.MustCompile(rule.pattern).ReplaceAllString(text, rule.by)
	}
	return text
}

// narrow takes out how wide columns are, for tables whose cells are as long as a revision happens to be.
func narrow(text string) string { return regexp.MustCompile(` {2,}`).ReplaceAllString(text, "  ") }

// start runs a command in the background until its context ends.
func (e *etcd) start(ctx context.Context, args ...string) (out, errs *live, ended <-chan int) {
	out, errs = &live{}, &live{}
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"--data", e.folder}, args...), streams{in: strings.NewReader(""), out: out, err: errs})
	}()
	return out, errs, done
}
