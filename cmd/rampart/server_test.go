package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/testenv"
)

// promisedEnd is how long a server may take to end when it is asked to.
const promisedEnd = 5 * time.Second

// server is a `rampart serve` that runs in this process.
type server struct {
	t         *testing.T
	xds, http string // where it listens
	log       *live
	cancel    context.CancelFunc
	ended     <-chan int
}

// shortFolder is a folder that leaves room for the names of sockets. It is gone after the test.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "rampart-cli-")
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

// launch starts a server and does not wait for it. The end of the test ends it.
func launch(t *testing.T, args ...string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	s := &server{t: t, log: &live{}, cancel: cancel, ended: ended}
	go func() {
		ended <- run(ctx, append([]string{"serve"}, args...), streams{in: strings.NewReader(""), out: &live{}, err: s.log})
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

// serveOn starts a server on a folder, on ports that the system chooses unless args say otherwise, and waits until it lets proxies in.
func serveOn(t *testing.T, folder string, args ...string) *server {
	t.Helper()
	s := launch(t, append([]string{"--data", folder, "--xds", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...)
	s.awaitReady()
	return s
}

// awaitReady learns from the log where the server listens, and waits until /readyz says yes.
func (s *server) awaitReady() {
	s.t.Helper()
	says := regexp.MustCompile(`(?m)msg"?[=:]"?serves"?[ ,]"?xds"?[=:]"?([^ ,"]+)"?[ ,]"?http"?[=:]"?([^ ,"]+)`)
	eventually(s.t, "the server says where it listens", func() bool {
		s.mustLive()
		found := says.FindStringSubmatch(s.log.String())
		if found != nil {
			s.xds, s.http = found[1], found[2]
		}
		return found != nil
	})
	eventually(s.t, "the server is ready", func() bool {
		s.mustLive()
		status, _ := s.ask("GET", "/readyz")
		return status == http.StatusOK
	})
}

func (s *server) mustLive() {
	s.t.Helper()
	select {
	case status := <-s.ended:
		s.t.Fatalf("the server ended by itself, exit status %d:\n%s", status, s.log)
	default:
	}
}

// ask sends a request to the server's HTTP address. Status 0 means that nobody answered.
func (s *server) ask(method, page string) (status int, body string) {
	s.t.Helper()
	network := "tcp"
	if strings.HasPrefix(s.http, "/") {
		network = "unix"
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.http)
	}}
	request, err := http.NewRequest(method, "http://replica"+page, strings.NewReader("text"))
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport, Timeout: promisedEnd}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// mustEnd asks the server to end, as a signal would, and expects it to do so in time and content.
func (s *server) mustEnd() {
	s.t.Helper()
	s.cancel()
	timer := time.NewTimer(promisedEnd)
	defer timer.Stop()
	select {
	case status := <-s.ended:
		if status != 0 {
			s.t.Errorf("exit status %d, want 0:\n%s", status, s.log)
		}
	case <-timer.C:
		s.t.Errorf("not ended %s after it was asked to:\n%s", promisedEnd, s.log)
	}
}

// freeAddress is an address on loopback that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// listening lists the TCP ports that this process and its children listen on (proc(5), /proc/net/tcp).
func listening(t *testing.T) []int {
	t.Helper()
	children, err := childrenOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, pid := range append(children, os.Getpid()) {
		files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			// A descriptor may have been closed since the folder was listed.
			if target, err := os.Readlink(file); err == nil {
				ours[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
			}
		}
	}
	var ports []int
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			const listens = "0A"
			fields := strings.Fields(line)
			if fields[3] != listens || !ours[fields[9]] {
				continue
			}
			_, port, _ := strings.Cut(fields[1], ":")
			number, err := strconv.ParseInt(port, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(number))
		}
	}
	slices.Sort(ports)
	return ports
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

func TestAServerAnswersOnItsAddressesAndOpensNoOther(t *testing.T) {
	before := listening(t)
	folder, etcdAddress := shortFolder(t), freeAddress(t)
	s := serveOn(t, folder, "--etcd-listen", etcdAddress)

	opened := slices.DeleteFunc(listening(t), func(port int) bool { return slices.Contains(before, port) })
	want := []int{portOf(t, s.xds), portOf(t, s.http), portOf(t, etcdAddress)}
	slices.Sort(want)
	if !slices.Equal(opened, want) {
		t.Errorf("ports %v are open, want %v", opened, want)
	}
	for page, says := range map[string]string{"/healthz": "alive\n", "/readyz": "ready\n", "/metrics": "rampart_", "/proxies": "[]\n"} {
		if status, body := s.ask("GET", page); status != http.StatusOK || !strings.Contains(body, says) {
			t.Errorf("GET %s: %d %q, want %q", page, status, body, says)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			if status, body := s.ask(method, page); status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d %q, want it refused", method, page, status, body)
			}
		}
	}
	if got := rampart("--data", folder, "etcdctl", "put", "greeting", "through the socket"); got.status != 0 {
		t.Errorf("etcdctl: exit status %d, %s", got.status, got.err)
	}
	if got := rampart("--etcd", etcdAddress, "etcdctl", "get", "greeting"); got.out != "greeting\nthrough the socket\n" {
		t.Errorf("etcdctl over %s: exit status %d, %q%s", etcdAddress, got.status, got.out, got.err)
	}
	s.mustEnd()
	if left, err := childrenOf(os.Getpid()); err != nil || len(left) > 0 {
		t.Errorf("children %v are left, %v", left, err)
	}
}

func TestWithoutEtcdListenOnlyProxiesAndReadersFindAPort(t *testing.T) {
	before := listening(t)
	s := serveOn(t, shortFolder(t))
	opened := slices.DeleteFunc(listening(t), func(port int) bool { return slices.Contains(before, port) })
	want := []int{portOf(t, s.xds), portOf(t, s.http)}
	slices.Sort(want)
	if !slices.Equal(opened, want) {
		t.Errorf("ports %v are open, want %v", opened, want)
	}
	s.mustEnd()
}

func TestAServerOnSocketsOpensNoPortAndLeavesNothingBehind(t *testing.T) {
	before, folder := listening(t), shortFolder(t)
	xds, page := filepath.Join(folder, "xds.sock"), filepath.Join(folder, "http.sock")
	// What a server that was killed leaves is in nobody's way.
	for _, path := range []string{xds, page} {
		leaveSocket(t, path)
	}
	s := serveOn(t, folder, "--xds", "unix:"+xds, "--http", "unix:"+page)
	if opened := listening(t); !slices.Equal(opened, before) {
		t.Errorf("ports %v are open, want %v as before", opened, before)
	}
	for _, path := range []string{xds, page} {
		if found, err := os.Stat(path); err != nil || found.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want a socket for this user alone", path, found, err)
		}
	}
	eventually(t, "`rampart proxies` finds the server's socket", func() bool {
		got := rampart("--data", folder, "proxies")
		return got.status == 0 && got.err == "" && strings.HasPrefix(got.out, "No proxy is connected.")
	})
	s.mustEnd()
	for _, path := range []string{xds, page} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// leaveSocket leaves a socket that nobody listens on, as a process that was killed does.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestALongDataFolderIsServed(t *testing.T) {
	folder := filepath.Join(shortFolder(t), strings.Repeat("long", 30), strings.Repeat("longer", 30))
	s := serveOn(t, folder)
	if got := rampart("--data", folder, "etcdctl", "put", "a", "b"); got.status != 0 {
		t.Errorf("etcdctl: exit status %d, %s", got.status, got.err)
	}
	s.mustEnd()
}

func TestAServerIsToldEverythingByItsEnvironment(t *testing.T) {
	folder, etcdAddress := shortFolder(t), freeAddress(t)
	for name, value := range map[string]string{
		"DATA": folder, "XDS": "unix:" + filepath.Join(folder, "xds.sock"), "HTTP": "localhost:0", "ETCD_LISTEN": etcdAddress,
		"LEADER_TTL": "7s", "LOG_FORMAT": "json", "LOG_LEVEL": "debug",
	} {
		t.Setenv("RAMPART_"+name, value)
	}
	s := launch(t)
	s.awaitReady()
	if s.xds != filepath.Join(folder, "xds.sock") || s.log.String()[0] != '{' {
		t.Errorf("xDS on %s, log:\n%s", s.xds, s.log)
	}
	eventually(t, "the leader's lease lasts as long as it was told", func() bool {
		leases := rampart("--etcd", etcdAddress, "etcdctl", "lease", "list")
		for id := range strings.FieldsSeq(leases.out) {
			if strings.Contains(rampart("--data", folder, "etcdctl", "lease", "timetolive", id).out, "granted with TTL(7s)") {
				return true
			}
		}
		return false
	})
	s.mustEnd()
}

// process is a `rampart serve` in a process of its own, with its etcd in another.
func process(t *testing.T) (p *testenv.Proc, etcdPid int) {
	t.Helper()
	folder := shortFolder(t)
	program, err := testenv.Self("serve", "--data", folder, "--xds", "127.0.0.1:0", "--http", "unix:"+filepath.Join(folder, "http.sock"))
	if err != nil {
		t.Fatal(err)
	}
	p, err = testenv.StartProc(t.Context(), testenv.Command{Program: program, Log: filepath.Join(folder, "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	s := &server{t: t, http: filepath.Join(folder, "http.sock"), log: &live{}}
	eventually(t, "the process is ready", func() bool {
		status, _ := s.ask("GET", "/readyz")
		return status == http.StatusOK
	})
	children, err := childrenOf(p.Pid())
	if err != nil || len(children) != 1 {
		t.Fatalf("children %v, %v; want etcd alone", children, err)
	}
	return p, children[0]
}

// mustHaveEnded waits for a process that was signalled, which must end with status 0 in time, and with it its etcd.
func mustHaveEnded(t *testing.T, p *testenv.Proc, etcdPid int) {
	t.Helper()
	timer := time.NewTimer(promisedEnd)
	defer timer.Stop()
	select {
	case <-p.Ended():
	case <-timer.C:
		t.Fatalf("not ended %s after the signal", promisedEnd)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if stat, err := readStat(etcdPid); err == nil && !stat.dead {
		t.Errorf("etcd outlives its server: process %d", etcdPid)
	}
}

func TestASignalEndsAServerAndItsEtcd(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p, etcdPid := process(t)
		if err := p.Signal(signal); err != nil {
			t.Fatal(err)
		}
		mustHaveEnded(t, p, etcdPid)
	}
}

func TestASignalEndsAServerWhoseEtcdHangs(t *testing.T) {
	p, etcdPid := process(t)
	if err := syscall.Kill(etcdPid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	mustHaveEnded(t, p, etcdPid)
}
