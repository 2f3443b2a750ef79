package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestWhatIsNoCommandIsAUsageError(t *testing.T) {
	t.Setenv("RAMPART_DATA", t.TempDir())
	for _, c := range []struct {
		line string
		says string
	}{
		{"aply shop.yaml", "did you mean apply"},
		{"get --nope", "get: unknown flag: --nope; see `rampart get --help`"},
		{"get -o xml", `get: --output "xml": expected one of [table yaml json]; see`},
		{"get --defaults", "--defaults shows documents"},
		{"why", "why: expected the name of one service, got 0"},
		{"pause a b", "pause: expected the name of one service, got 2"},
		{"apply", "apply: no documents given"},
		{"apply nowhere.yaml", "apply: stat nowhere.yaml: no such file or directory"},
		{"lint", "lint: no documents given"},
		{"simulate shop.yaml", "say how many requests per second there are"},
		{"wait shop --timeout soon", `wait: --timeout "soon": expected a time with its unit, such as 500ms, 3s or 2m; see`},
		{"history shop --last few", `history: --last "few": expected a whole number; see`},
		{"simulate shop.yaml --rate high", `simulate: --rate "high": expected a number; see`},
		{"simulate shop.yaml --seed -1", `simulate: --seed "-1": expected a whole number, not below 0; see`},
		{"proxies --rejected=maybe", `proxies: --rejected "maybe": expected true or false; see`},
		{"bench-xds --proxies many", `bench-xds: --proxies "many": expected whole numbers with commas between them; see`},
		{"bench-xds --services 10,0", "bench-xds: --services 0: expected 1 or more"},
		{"bench-xds --latency -1", "bench-xds: --latency -1: expected 0 or more"},
		{"bench-xds --idle -1s", "bench-xds: --rest 30s, --pause 100ms, --idle -1s: expected 0s or more"},
		{"bench-xds --envoys 2 --churn 5", "bench-xds: --envoys and --churn are measured one at a time"},
		{"history shop --last 0", "history shop: --last 0 is not above 0"},
		{"delete shop now", "delete: expected `delete SERVICE`"},
		{"bootstrap --print all", "bootstrap: --print \"all\" is not full or snippet"},
		{"bootstrap --grpc --admin-port 9901", "--print snippet and --admin-port are for Envoys"},
		{"bootstrap --grpc --xds a:1 --xds b:1", "--grpc takes one --xds"},
		{"bootstrap --grpc --xds replica", "server \"replica\": expected host:port or unix:/path"},
		{"get --etcd etcd", "--etcd \"etcd\": expected host:port, with commas between several"},
		{"get --etcd 127.0.0.1:1,etcd:many", "--etcd \"etcd:many\": expected host:port"},
		{"get --etcd http://:2379", "--etcd \"http://:2379\": expected host:port"},
		{"get --etcd-cacert ca.pem", "name it with --etcd"},
		{"get --etcd 127.0.0.1:1 --etcd-cert a.pem", "--etcd-cert and --etcd-key go together"},
		{"get --etcd 127.0.0.1:1 --etcd-cacert nowhere.pem", "read --etcd-cacert: open nowhere.pem"},
	} {
		got := rampart(strings.Fields(c.line)...)
		if got.status != statusUsage || got.out != "" || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, c.says) {
			t.Errorf("rampart %s: exit status %d, %q%q, want %d and one line with %q", c.line, got.status, got.out, got.err, statusUsage, c.says)
		}
	}
}

// DESIGN §9: client commands talk to etcd, or to the embedded one's socket.
func TestWithoutAServerEveryClientCommandSaysHowToStartOne(t *testing.T) {
	folder := t.TempDir()
	document := filepath.Join(folder, "shop.yaml")
	if err := os.WriteFile(document, []byte(shopYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"get", "get shop -o yaml", "watch shop", "wait shop", "pause shop", "resume shop", "advance shop", "promote shop", "rollback shop", "retry shop",
		"why shop", "history shop", "proxies", "delete shop --yes", "adopt --yes", "etcdctl get a", "apply " + document,
	} {
		got := rampart(append([]string{"--data", folder}, strings.Fields(line)...)...)
		name, _, _ := strings.Cut(line, " ")
		if got.status != statusNotHere || strings.Count(got.err, "\n") != 1 || !strings.HasPrefix(got.err, name) ||
			!strings.Contains(got.err, "start it with `rampart serve --data "+folder+"`") {
			t.Errorf("rampart %s: exit status %d, %q", line, got.status, got.err)
		}
	}
	got := rampart("--etcd", "127.0.0.1:1", "get")
	if got.status != statusNotHere || !strings.HasPrefix(got.err, "get: reach etcd at 127.0.0.1:1: ") {
		t.Errorf("an etcd that is not there: exit status %d, %q", got.status, got.err)
	}
}

func TestEveryFlagIsReadFromTheEnvironment(t *testing.T) {
	t.Setenv("RAMPART_DATA", "/from/env")
	t.Setenv("RAMPART_OUTPUT", "json")
	if got := rampart("get"); !strings.Contains(got.err, "no server runs on /from/env") {
		t.Errorf("RAMPART_DATA: %q", got.err)
	}
	if got := rampart("get", "--data", "/from/flag"); !strings.Contains(got.err, "no server runs on /from/flag") {
		t.Errorf("a flag comes before its variable: %q", got.err)
	}
	if got := rampart("version"); got.status != 0 || !strings.HasPrefix(got.out, "{") {
		t.Errorf("RAMPART_OUTPUT: %q", got.out)
	}
	t.Setenv("RAMPART_OUTPUT", "xml")
	if got := rampart("version"); got.status != statusUsage || !strings.HasPrefix(got.err, "read RAMPART_OUTPUT: ") {
		t.Errorf("a bad variable is a usage error that names it: %d %q", got.status, got.err)
	}
}

// DESIGN §9: state lives in /var/lib/rampart (root) or ~/.local/state/rampart.
func TestTheDataFolderDependsOnTheUser(t *testing.T) {
	t.Setenv("HOME", "/home/somebody")
	want := "/home/somebody/.local/state/rampart"
	if os.Geteuid() == 0 {
		want = "/var/lib/rampart"
	}
	if got := newApp(streams{}).dataFolder(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHelpNamesEveryCommandOfTheManual(t *testing.T) {
	got := rampart("--help")
	for _, name := range strings.Fields("serve bootstrap apply delete get watch wait pause resume advance promote rollback retry why history replay proxies lint simulate adopt etcdctl version completion") {
		if !strings.Contains(got.out, "\n  "+name+" ") {
			t.Errorf("%s is missing in:\n%s", name, got.out)
		}
	}
	if strings.Contains(got.out, embeddedName) || strings.Contains(got.out, etcdctlTool) {
		t.Errorf("what is no command of the manual is shown:\n%s", got.out)
	}
}

func TestCompletionIsThereForTheUsualShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := rampart("completion", shell); got.status != 0 || len(got.out) < 1000 {
			t.Errorf("completion %s: exit status %d, %d bytes, %s", shell, got.status, len(got.out), got.err)
		}
	}
	got := rampart("__complete", "get", "-o", "")
	contains(t, got.out, "table\n", "yaml\n", "json\n")
}

func TestVersionTellsWhatWasBuilt(t *testing.T) {
	b := buildOf(&debug.BuildInfo{Main: debug.Module{Version: "v0.1.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"},
	}})
	if b.Version != "v0.1.0" || b.Commit != "0123456789ab with changes" {
		t.Errorf("got %+v", b)
	}
	if b := buildOf(nil); b.Version != "(devel)" || b.Commit != "unknown" {
		t.Errorf("got %+v", b)
	}
	got := rampart("version")
	contains(t, got.out, "rampart ", "commit ", "go1.")
}

func TestEtcdctlGetsItsOwnFlagsUntouched(t *testing.T) {
	for _, c := range []struct {
		args, left []string
		data       string
	}{
		{[]string{"get", "--prefix", "/rampart/"}, []string{"get", "--prefix", "/rampart/"}, ""},
		{[]string{"--data", "/x", "put", "a", "b"}, []string{"put", "a", "b"}, "/x"},
		{[]string{"--data=/x", "-w", "json", "get", "a"}, []string{"-w", "json", "get", "a"}, "/x"},
		{[]string{"put", "--data", "a"}, []string{"put", "--data", "a"}, ""},
		{[]string{"--write-out=table", "endpoint", "status"}, []string{"--write-out=table", "endpoint", "status"}, ""},
	} {
		a := newApp(streams{})
		left, err := a.ownFlags(c.args)
		if err != nil || !slices.Equal(left, c.left) || a.flags.data != c.data {
			t.Errorf("%v: %v, %v, data %q", c.args, left, err, a.flags.data)
		}
	}
	if _, err := newApp(streams{}).ownFlags([]string{"--data"}); err == nil {
		t.Error("a flag without its value is an error")
	}
}

func TestEtcdctlIsPointedAtRampartsEtcd(t *testing.T) {
	inherited := []string{"HOME=/root", "ETCDCTL_ENDPOINTS=elsewhere:2379", "ETCDCTL_CACERT=old.pem", "ETCDCTL_API=3"}
	env := etcdctlEnvironment(inherited, []string{"unix:///s"}, clientFlags{cert: "c.pem", key: "k.pem"})
	slices.Sort(env)
	want := []string{"ETCDCTL_API=3", "ETCDCTL_CERT=c.pem", "ETCDCTL_ENDPOINTS=unix:///s", "ETCDCTL_KEY=k.pem", "HOME=/root"}
	if !slices.Equal(env, want) {
		t.Errorf("got %v, want %v", env, want)
	}
	env = unsaid(env, []string{"--endpoints", "127.0.0.1:2379", "--cert=mine.pem", "get", "--keys-only"})
	if want := []string{"ETCDCTL_API=3", "ETCDCTL_KEY=k.pem", "HOME=/root"}; !slices.Equal(env, want) {
		t.Errorf("beside flags that say it themselves: got %v, want %v", env, want)
	}
}

func TestFlagsHaveOneMeaningEach(t *testing.T) {
	// A variable sets a flag of every command that has one of its name: so a name must not stand for two kinds of values.
	kinds := map[string]string{}
	for _, c := range newRoot(newApp(streams{})).Commands() {
		if c.Hidden {
			continue
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			kind := strings.TrimSuffix(f.Value.Type(), "Slice")
			if before, seen := kinds[f.Name]; seen && before != kind {
				t.Errorf("--%s is a %s and a %s", f.Name, before, kind)
			}
			kinds[f.Name] = kind
		})
	}
}
