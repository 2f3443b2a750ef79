package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// tryServe runs a `rampart serve` that must not come to serve; one that does ends after a while, content.
func tryServe(args ...string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return rampartWith(ctx, "", append([]string{"serve"}, args...)...)
}

func TestServeRefusesACommandLineBeforeItTouchesAnything(t *testing.T) {
	const needsTLS = ": not on loopback, and that needs TLS with client certificates, which this version does not have; expected "
	cases := []struct{ line, says string }{
		{"now", `unknown command "now" for "rampart serve"`},
		{"--log-format xml", `serve: --log-format "xml" is not text or json`},
		{"--log-level loud", `serve: --log-level "loud" is not debug, info, warn or error`},
		{"--leader-ttl 1999ms", "serve: --leader-ttl 1.999s is below 2s, "},
		{"--leader-ttl soon", `serve: --leader-ttl "soon": expected a time`},
		{"--report-bytes 999999", "serve: --report-bytes 999999 is below 1000000, "},
		{"--prometheus prometheus:9090", `serve: --prometheus "prometheus:9090"; expected a URL such as http://prometheus:9090`},
		{"--etcd 127.0.0.1:1 --etcd-listen 127.0.0.1:0", "serve: --etcd-listen opens the embedded etcd, and --etcd 127.0.0.1:1 is used instead of that; expected one of the two"},
		{"--etcd-listen unix:/tmp/etcd.sock", "serve: --etcd-listen unix:/tmp/etcd.sock: expected a host and a port on loopback: 127.0.0.1:PORT\n"},
		{"--etcd-listen 0.0.0.0:2379", "serve: --etcd-listen 0.0.0.0:2379" + needsTLS + "127.0.0.1:PORT"},
	}
	for _, flag := range []string{"--xds", "--http"} {
		for _, host := range []string{"0.0.0.0", "[::]", "", "192.0.2.1", "[2001:db8::1]", "shop.example.com", "localhost.example.com"} {
			address := flag + " " + host + ":0"
			cases = append(cases, struct{ line, says string }{address, "serve: " + address + needsTLS + "127.0.0.1:PORT or unix:/path"})
		}
		for _, address := range []string{"127.0.0.1", "18000", "::1", "127.0.0.1:http:1", "127.0.0.1:65536", "127.0.0.1:", "127.0.0.1:-1", "http://127.0.0.1:18000"} {
			cases = append(cases, struct{ line, says string }{flag + " " + address, "serve: " + flag + " " + address + ": expected a host and a port on loopback: 127.0.0.1:PORT or unix:/path"})
		}
		for _, address := range []string{"unix:", "unix:xds.sock", "unix:@xds", "unix://xds.sock/x" + strings.Repeat("x", 200)} {
			cases = append(cases, struct{ line, says string }{flag + " " + address, "serve: " + flag + " " + address + ": expected unix:/path, absolute and of at most "})
		}
	}
	for _, c := range cases {
		folder := filepath.Join(t.TempDir(), "data")
		got := tryServe(append([]string{"--data", folder}, strings.Fields(c.line)...)...)
		if got.status != statusUsage || got.out != "" || strings.Count(got.err, "\n") != 1 || !strings.HasPrefix(got.err, c.says) {
			t.Errorf("serve %s: exit status %d, %q%q, want %d and one line that begins with %q", c.line, got.status, got.out, got.err, statusUsage, c.says)
		}
		if _, err := os.Stat(folder); !os.IsNotExist(err) {
			t.Errorf("serve %s: the data folder was made, %v", c.line, err)
		}
	}
}

func TestEveryFlagOfServeIsReadFromTheEnvironment(t *testing.T) {
	for name, c := range map[string]struct{ value, says string }{
		"RAMPART_XDS":                    {"0.0.0.0:1", "serve: --xds 0.0.0.0:1: not on loopback"},
		"RAMPART_HTTP":                   {"0.0.0.0:2", "serve: --http 0.0.0.0:2: not on loopback"},
		"RAMPART_ETCD_LISTEN":            {"0.0.0.0:3", "serve: --etcd-listen 0.0.0.0:3: not on loopback"},
		"RAMPART_LEADER_TTL":             {"1s", "serve: --leader-ttl 1s is below 2s"},
		"RAMPART_DRAIN":                  {"7s", "serve: --drain 7s: expected 0s to 6s"},
		"RAMPART_MAX_STREAMS":            {"0", "serve: --max-streams 0: expected 1 to"},
		"RAMPART_MAX_ARRIVAL_BYTES":      {"0", "serve: --max-arrival-bytes 0: expected 1 to"},
		"RAMPART_MAX_FIRST_BYTES":        {"0", "serve: --max-first-bytes 0: expected 1 to"},
		"RAMPART_MAX_CONNECTION_STREAMS": {"0", "serve: --max-connection-streams 0: expected 1 to"},
		"RAMPART_MAX_NODE_STREAMS":       {"0", "serve: --max-node-streams 0: expected 1 to"},
		"RAMPART_MAX_LAYERS":             {"0", "serve: --max-layers 0: expected 1 to"},
		"RAMPART_MAX_TYPES":              {"-1", "serve: --max-types -1: expected 1 to"},
		"RAMPART_MAX_NAMES":              {"0", "serve: --max-names 0: expected 1 to"},
		"RAMPART_MAX_REQUESTS":           {"0", "serve: --max-requests 0: expected 1 to"},
		"RAMPART_MAX_REQUEST_BYTES":      {"0", "serve: --max-request-bytes 0: expected 1 to"},
		"RAMPART_MAX_SILENCE":            {"0s", "serve: --max-silence 0s: expected 1s to 1h"},
		"RAMPART_REPORT_BYTES":           {"7", "serve: --report-bytes 7 is below 1000000"},
		"RAMPART_LOG_FORMAT":             {"xml", `serve: --log-format "xml" is not text or json`},
		"RAMPART_LOG_LEVEL":              {"loud", `serve: --log-level "loud" is not`},
		"RAMPART_PROMETHEUS":             {"here", `serve: --prometheus "here"; expected a URL`},
		"RAMPART_DATA":                   {"/dev/null/data", "serve: lock data folder: mkdir /dev/null: not a directory; expected a folder for this server alone: name one with --data\n"},
		"RAMPART_ETCD":                   {"127.0.0.1:1", "serve: --etcd-listen opens the embedded etcd, and --etcd 127.0.0.1:1 is used instead"},
		"RAMPART_ETCD_CACERT":            {"nowhere.pem", "read flags: certificates are for another etcd"},
		"RAMPART_ETCD_CERT":              {"nowhere.pem", "read flags: certificates are for another etcd"},
		"RAMPART_ETCD_KEY":               {"nowhere.pem", "read flags: certificates are for another etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "RAMPART_DATA" {
				t.Setenv("RAMPART_DATA", t.TempDir())
			}
			t.Setenv(name, c.value)
			var args []string
			if name == "RAMPART_ETCD" {
				args = append(args, "--etcd-listen", "127.0.0.1:0")
			}
			if got := tryServe(args...); got.status == 0 || !strings.HasPrefix(got.err, c.says) {
				t.Errorf("%s=%s: exit status %d, %q, want %q", name, c.value, got.status, got.err, c.says)
			}
		})
	}
}

func TestNoFlagOfServeIsLeftOutOfTheManual(t *testing.T) {
	want := "data drain etcd etcd-cacert etcd-cert etcd-key etcd-listen http leader-ttl log-format log-level max-arrival-bytes max-connection-streams max-first-bytes max-layers max-names " +
		"max-node-streams max-request-bytes max-requests max-silence max-streams max-types prometheus report-bytes xds"
	root := newRoot(newApp(streams{}))
	serve, _, err := root.Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	all := pflag.NewFlagSet("all", pflag.ContinueOnError)
	all.AddFlagSet(serve.Flags())
	all.AddFlagSet(root.PersistentFlags())
	all.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if got := strings.Join(names, " "); got != want {
		t.Errorf("flags %s, want %s: TestEveryFlagOfServeIsReadFromTheEnvironment has a line for each", got, want)
	}
}

// occupied is a place where somebody else listens.
func occupied(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestServeSaysWhatIsInItsWayAtOnce(t *testing.T) {
	folder := shortFolder(t)
	port, free := occupied(t, "tcp", "127.0.0.1:0").Addr().String(), freeAddress(t)
	socket, file := filepath.Join(folder, "theirs.sock"), filepath.Join(folder, "file")
	occupied(t, "unix", socket)
	if err := os.WriteFile(file, []byte("not a socket"), 0o600); err != nil {
		t.Fatal(err)
	}
	const taken = ": address already in use; expected a place where nobody listens"
	for _, c := range []struct{ xds, http, etcdListen, says string }{
		{port, free, "", "listen on --xds " + port + taken},
		{free, port, "", "listen on --http " + port + taken},
		{free, free, "", "listen on --http " + free + taken},
		{"127.0.0.1:0", "127.0.0.1:0", port, "listen on --etcd-listen " + port + taken},
		{"127.0.0.1:0", free, free, "listen on --etcd-listen " + free + taken},
		{"unix:" + socket, free, "", "listen on --xds unix:" + socket + taken},
		{free, "unix:" + socket, "", "listen on --http unix:" + socket + taken},
		{"unix:" + file, free, "", "listen on --xds unix:" + file + ": file exists; expected a path where nothing is"},
		{free, "unix:" + folder + "/nowhere/http.sock", "", "listen on --http unix:" + folder + "/nowhere/http.sock: no such file or directory; expected a path in a folder that exists"},
	} {
		data := filepath.Join(t.TempDir(), "data")
		args := []string{"--data", data, "--xds", c.xds, "--http", c.http}
		if c.etcdListen != "" {
			args = append(args, "--etcd-listen", c.etcdListen)
		}
		got := tryServe(args...)
		if got.status != statusNo || got.err != "serve: "+c.says+"\n" {
			t.Errorf("%s: exit status %d, %q, want %d, %q", strings.Join(args, " "), got.status, got.err, statusNo, "serve: "+c.says+"\n")
		}
		if _, err := os.Stat(filepath.Join(data, "etcd")); !os.IsNotExist(err) {
			t.Errorf("%s: etcd was started, %v", strings.Join(args, " "), err)
		}
	}
	// What was opened before the refusal is free again, and what belongs to others is untouched.
	occupied(t, "tcp", free)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatalf("the other server's socket was taken: %v", err)
	}
	_ = conn.Close()
	if text, err := os.ReadFile(file); err != nil || string(text) != "not a socket" {
		t.Errorf("the file in the way: %q, %v", text, err)
	}
}

func TestASecondServerOnOneFolderOrSocketIsRefusedAndTheFirstGoesOn(t *testing.T) {
	folder := shortFolder(t)
	socket := "unix:" + filepath.Join(folder, "http.sock")
	first := serveOn(t, folder, "--http", socket)
	for says, args := range map[string][]string{
		"serve: data folder " + folder + " is in use by process ":  {"--data", folder, "--xds", "127.0.0.1:0", "--http", "127.0.0.1:0"},
		"serve: listen on --http " + socket + ": address already ": {"--data", shortFolder(t), "--xds", "127.0.0.1:0", "--http", socket},
	} {
		if got := tryServe(args...); got.status != statusNo || strings.Count(got.err, "\n") != 1 || !strings.HasPrefix(got.err, says) {
			t.Errorf("%v: exit status %d, %q, want %q", args, got.status, got.err, says)
		}
		first.mustLive()
		if status, body := first.ask("GET", "/readyz"); status != 200 {
			t.Errorf("the first server, after %q: %d %q", says, status, body)
		}
	}
	first.mustEnd()
	// Its folder is free again.
	serveOn(t, folder).mustEnd()
}

func TestAServerWithoutItsEtcdSaysWhereItLooked(t *testing.T) {
	nobody := freeAddress(t)
	got := tryServe("--data", shortFolder(t), "--xds", "127.0.0.1:0", "--http", "127.0.0.1:0", "--etcd", nobody)
	want := "serve: reach etcd at " + nobody + ": dial tcp " + nobody + ": connect: connection refused\n"
	if got.status != statusNotHere || got.err != want {
		t.Errorf("exit status %d, %q, want %d, %q", got.status, got.err, statusNotHere, want)
	}
}

func TestAServerThatWaitsForItsEtcdEndsContentWhenAsked(t *testing.T) {
	// Somebody who takes the connection and says nothing: the server waits for an answer.
	silent := occupied(t, "tcp", "127.0.0.1:0")
	s := launch(t, "--data", shortFolder(t), "--xds", "127.0.0.1:0", "--http", "127.0.0.1:0", "--etcd", silent.Addr().String())
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.mustEnd()
}

func TestAServerEndsContentWheneverItIsAsked(t *testing.T) {
	for _, until := range []string{"lock", "etcd", "run/etcd.sock", "replica", "latch"} {
		folder := shortFolder(t)
		s := launch(t, "--data", folder, "--xds", "127.0.0.1:0", "--http", "127.0.0.1:0")
		eventually(t, until+" is there", func() bool {
			_, err := os.Stat(filepath.Join(folder, until))
			return err == nil
		})
		s.mustEnd()
	}
}
