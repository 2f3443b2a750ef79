package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sockets returns the lines of /proc/net/<table> that belong to sockets of the process.
func sockets(t *testing.T, pid int, table string) []string {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]bool{}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(folder, fd.Name()))
		if inode := regexp.MustCompile(`^socket:\[(\d+)\]$`).FindStringSubmatch(target); err == nil && inode != nil {
			inodes[inode[1]] = true
		}
	}
	if len(inodes) == 0 {
		t.Fatal("the process has no sockets at all: this does not look at the right one")
	}
	text, err := os.ReadFile("/proc/net/" + table)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if slices.ContainsFunc(strings.Fields(line), func(f string) bool { return inodes[f] }) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestTheEmbeddedEtcdOpensNoPortAndNoSocketThatOthersCanReach(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		if lines := sockets(t, e.pid(), table); len(lines) > 0 {
			t.Errorf("%s: %q", table, lines)
		}
	}
	unix := sockets(t, e.pid(), "unix")
	if len(unix) < 2 {
		t.Errorf("%d unix sockets, want the clients' and the peers'", len(unix))
	}
	for _, line := range unix {
		if fields := strings.Fields(line); strings.HasPrefix(fields[len(fields)-1], "@") {
			t.Errorf("an abstract socket, which anybody can open: %s", line)
		}
	}
	for _, path := range []string{e.Socket, peerSocket(e.Socket)} {
		if found, err := os.Stat(path); err != nil || found.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, found, err)
		}
	}
	if found, err := os.Stat(filepath.Dir(e.Socket)); err != nil || found.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", filepath.Dir(e.Socket), found, err)
	}
	err := filepath.WalkDir(e.Dir, func(path string, found fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if about, err := found.Info(); err == nil && about.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may read %s: %v", path, about.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAListenAddressOpensOnePortOnLoopbackWithoutAWayInForWebPages(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	address := "http://127.0.0.1:" + port
	e := prepareEtcd(t, shortFolder(t))
	e.Listen = address
	e.start()
	s := dialTo(t, "127.0.0.1:"+port)
	put(t, s, Key(ServiceDoc, "shop"), "through the port")
	if got := value(t, e.dial(), Key(ServiceDoc, "shop")); got != "through the port" {
		t.Errorf("read %q through the socket", got)
	}
	listening := 0
	for _, line := range append(sockets(t, e.pid(), "tcp"), sockets(t, e.pid(), "tcp6")...) {
		if strings.Fields(line)[3] == "0A" { // LISTEN
			listening++
		}
	}
	if listening != 1 {
		t.Errorf("%d listening TCP sockets, want 1", listening)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	answer, err := client.Post(address+"/v3/kv/put", "text/plain", strings.NewReader(`{"key":"Zm9v","value":"YmFy"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("a web page's put: %s", answer.Status)
	}
	if _, err := loopback("http://0.0.0.0:2379"); err == nil {
		t.Error("an address that is not on loopback was accepted")
	}
	if _, err := loopback("http://127.0.0.1"); err == nil {
		t.Error("an address without a port was accepted")
	}
}

func TestAKilledEtcdComesBackWithItsDataAndItsIdentity(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := e.dial()
	put(t, s, Key(ServiceDoc, "shop"), "kept")
	before := e.pid()
	e.signal(syscall.SIGKILL)
	eventually(t, "a new child", func() bool { return e.pid() != before })
	if got := value(t, s, Key(ServiceDoc, "shop")); got != "kept" {
		t.Errorf("read %q after the restart", got)
	}
	if again := e.dial(); again.ClusterID() != s.ClusterID() || len(s.ClusterID()) != 16 {
		t.Errorf("cluster %s is %s after a restart", s.ClusterID(), again.ClusterID())
	}
	other := startEtcd(t).dial()
	if other.ClusterID() == s.ClusterID() {
		t.Error("two clusters have one id: a wiped etcd would look like the old one")
	}
}

func TestAnEtcdThatIsWatchedStopsAtOnce(t *testing.T) {
	t.Parallel()
	e := prepareEtcd(t, shortFolder(t))
	stop := e.start()
	s := e.dial()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	first := make(chan struct{}, 1)
	go func() {
		ended <- s.Watch(ctx, func(Batch) error {
			first <- struct{}{}
			return nil
		})
	}()
	<-first
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-stopped:
	case <-time.After(stopTimeout + 3*time.Second):
		t.Fatal("it does not stop")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watch: %v", err)
	}
}

func TestASecondProcessOnTheSameDataSaysSo(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cmd := again("embedded-etcd", "--dir", e.Dir, "--socket", filepath.Join(shortFolder(t), "run", "other.sock"))
	var output bytes.Buffer
	cmd.Stderr = &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Should it serve after all, it may not outlive the test.
	expired := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer expired.Stop()
	err := cmd.Wait()
	want := fmt.Sprintf("in use by process %d", e.pid())
	if err == nil || !strings.Contains(output.String(), want) {
		t.Errorf("second process: %v, %q, want %q", err, output.String(), want)
	}
}

// DESIGN §9: children die with their parent.
func TestEtcdDiesWithItsKilledParent(t *testing.T) {
	t.Parallel()
	data := shortFolder(t)
	parent := again("embedded-parent", data)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- parent.Wait() }()
	e := Embedded{Socket: SocketPath(data)}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := e.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(data, "etcd", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !alive(child) {
		t.Fatalf("child %d: %v", child, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-waited
	eventually(t, "the end of the child", func() bool { return !alive(child) })
}

// alive reports whether the process runs; one that nobody has waited for yet does not.
func alive(pid int) bool {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if state, found := strings.CutPrefix(lines.Text(), "State:"); found {
			return !strings.HasPrefix(strings.TrimSpace(state), "Z")
		}
	}
	return false
}

func TestALongDataFolderWorks(t *testing.T) {
	t.Parallel()
	data := filepath.Join(shortFolder(t), strings.Repeat("long/", 30))
	e := prepareEtcd(t, data)
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(e.Socket)) })
	e.start()
	put(t, e.dial(), Key(ServiceDoc, "shop"), "here")
	if found, err := os.Stat(filepath.Dir(e.Socket)); err != nil || found.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", filepath.Dir(e.Socket), found, err)
	}
}

func TestARollbackWorksWhenEtcdIsOutOfSpace(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, "--quota", strconv.Itoa(4<<20))
	s := e.dial()
	l := elect(t, s, "a")
	save := Save{Kind: ServedService, Name: "shop", Value: "1 %", CreatePermit: "green-1"}
	revision, err := s.Save(t.Context(), l, save)
	if err != nil {
		t.Fatal(err)
	}
	flood(t, s)
	if err := s.SetPause(t.Context(), "shop"); err == nil {
		t.Fatal("etcd is out of space and takes a put: the test does not test anything")
	}
	next := Save{Kind: ServedService, Name: "shop", Value: "5 %", Seen: Seen{Served: revision}, NeedPermit: "green-1"}
	if _, err := s.Save(t.Context(), l, next); err == nil || errors.Is(err, ErrStale) || errors.Is(err, ErrNotLeader) {
		t.Errorf("an advance without space: %v", err)
	}
	for range 2 {
		if err := s.DeletePermit(t.Context(), "shop", "green-1"); err != nil {
			t.Fatalf("a rollback without space: %v", err)
		}
	}
	if view, err := s.Service(t.Context(), "shop"); err != nil || len(view.Permits) != 0 {
		t.Errorf("permits %v, %v", view.Permits, err)
	}

	// With the flood still there a restart changes nothing; without it, it takes writes again.
	restart(t, e)
	if err := s.SetPause(t.Context(), "shop"); err == nil {
		t.Error("etcd takes writes although its quota is used up")
	}
	del(t, s, "/flood", clientv3.WithPrefix())
	restart(t, e)
	eventually(t, "etcd to take writes again", func() bool { return s.SetPause(t.Context(), "shop") == nil })
}

func flood(t *testing.T, s *Store) {
	t.Helper()
	for i := range 100 {
		if _, err := s.client.Put(t.Context(), fmt.Sprintf("/flood/%d", i), strings.Repeat("x", 200<<10)); err != nil {
			return
		}
	}
	t.Fatal("etcd does not run out of space")
}

// restart kills the child and waits for the next one to answer.
func restart(t *testing.T, e *etcd) {
	t.Helper()
	before := e.pid()
	e.signal(syscall.SIGKILL)
	eventually(t, "a new child", func() bool { return e.pid() != before })
	if err := e.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestASupervisorThatCannotStartItsChildFails(t *testing.T) {
	e := Embedded{Dir: t.TempDir(), Socket: "x", Command: func(args ...string) *exec.Cmd { return exec.Command("/nonexistent") }}
	if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "start embedded etcd") {
		t.Errorf("ran with %v", err)
	}
}

func TestWhatTheChildSaysIsLoggedByLine(t *testing.T) {
	var lines []string
	l := &lineLogger{log: testSink(func(reason string) { lines = append(lines, reason) })}
	for _, part := range []string{"one\ntw", "o\n\n", "three", " and more\n"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := []string{"one", "two", "three and more"}; !slices.Equal(lines, want) {
		t.Errorf("logged %q, want %q", lines, want)
	}
	_, _ = l.Write(bytes.Repeat([]byte("x"), 1<<20))
	if len(l.rest) >= 64<<10 {
		t.Errorf("%d bytes without an end are kept", len(l.rest))
	}
}
