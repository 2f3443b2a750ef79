package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// played plays one act on real Envoys, this test binary being rampart. Seconds are not judged here; that is for the demo itself and for `make bench`.
func played(t *testing.T, number int) []findings {
	t.Helper()
	one := demoActs()[number-1]
	for i := range one.parts {
		// Without the 1 % step, which only lasts: 20 requests are slow to come there.
		one.parts[i].script.plan.steps = "5%, 25%, 50%, 100%"
		one.parts[i].script.plan.bake = 3 * time.Second
	}
	var out, errs live
	a := newApp(streams{in: strings.NewReader(""), out: &out, err: &errs})
	var found []findings
	err := a.onStage(t.Context(), stageConfig{rate: demoRate, quiet: true}, func(ctx context.Context, s *stage) error {
		s.announce(one.title)
		var err error
		found, err = s.playAct(ctx, one)
		if err != nil {
			err = fmt.Errorf("%w\nthe server said:\n%s", err, tail(filepath.Join(s.fleet.folder, "serve.log")))
		}
		return err
	})
	t.Log(errs.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Logf("%s: %s", f.version, one.tell(found))
		var m missed
		m.common(f, f.outcome)
		for _, why := range m {
			t.Error(why)
		}
	}
	return found
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// inOrder checks that the events of these names come in this order, others between them.
func inOrder(t *testing.T, f findings, names ...string) {
	t.Helper()
	rest := names
	for _, e := range f.events {
		if len(rest) > 0 && strings.HasPrefix(e.name+": "+e.text, rest[0]) {
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		t.Errorf("%q did not come, or not after what is before it in %q; there was: %+v", rest[0], names, f.events)
	}
}

func ends(t *testing.T, f findings, outcome policy.Result) {
	t.Helper()
	if f.outcome != outcome {
		t.Errorf("%s was %s, want %s", f.version, orNothing(f.outcome), outcome)
	}
}

func usersSawNoFailure(t *testing.T, f findings) {
	t.Helper()
	if f.users.Failed != 0 || f.users.Requests == 0 {
		t.Errorf("%s: %d of %d requests failed%s: %+v", f.version, f.users.Failed, f.users.Requests, f.failingText(), f.users.Outcomes)
	}
}

// turnsUntilDecided bounds how many of the judge's turns lay between the trouble and the decision.
func turnsUntilDecided(t *testing.T, f findings, most int) {
	t.Helper()
	const turn = 250 * time.Millisecond
	if turns := int((f.decided.Sub(f.onset()) + turn - 1) / turn); f.decided.IsZero() || turns > most {
		t.Errorf("%s: decided %d turns after the onset, want at most %d", f.version, turns, most)
	}
}

// TestActOneAGoodReleaseIsCommittedStepByStepAndMayBeTriedOut goes through the command itself, with the plan of the demo, and then tries what --stay says can
// be tried, as a user in another terminal would.
func TestActOneAGoodReleaseIsCommittedStepByStepAndMayBeTriedOut(t *testing.T) {
	d := startDemo(t, "--act", "1", "--output", "json", "--stay")
	d.await(2*time.Minute, "the end of the act", func() bool { return strings.Contains(d.errs.String(), "/metrics\n") })
	var results []result
	if err := json.Unmarshal([]byte(d.out.String()), &results); err != nil || len(results) != 1 {
		t.Fatalf("%v: %s%s", err, d.out, d.errs)
	}
	r := results[0]
	if r.Outcome != string(policy.Committed) || r.Failed != 0 || r.Requests == 0 || r.StepsConfirmed != 5 {
		t.Errorf("got %+v", r)
	}
	f := findings{}
	for _, e := range r.Parts[0].Events {
		name, text, _ := strings.Cut(e, ": ")
		f.events = append(f.events, event{name: name, text: text})
	}
	inOrder(t, f, "began", "moved: 0 % → 1 %", "confirmed: 1 %", "moved: 1 % → 5 %", "confirmed: 5 %", "moved: 5 % → 25 %", "confirmed: 25 %",
		"moved: 25 % → 50 %", "confirmed: 50 %", "moved: 50 % → 95 %", "confirmed: 95 %", "committing", "committed")
	d.tryWhatItSays()
	if status := d.end(syscall.SIGINT); (status == 0) != r.Kept {
		t.Errorf("exit status %d with kept %t: %s", status, r.Kept, d.errs)
	}
	d.leftNothing()
}

// tryWhatItSays runs every command that --stay has printed and that ends by itself, in order.
func (d *demoProcess) tryWhatItSays() {
	d.t.Helper()
	_, said, _ := strings.Cut(d.errs.String(), "In another terminal:")
	contains(d.t, said, "curl ", "rampart why shop", "rampart etcdctl put /rampart/v1/services/shop", "rampart watch shop", "etcdctl --endpoints 127.0.0.1:")
	script := "set -eu\n"
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "rampart watch"):
		case strings.HasPrefix(line, "alias rampart="):
			script += "rampart() { " + strings.TrimPrefix(line, "alias rampart=") + ` "$@"; }` + "\n"
		case strings.HasPrefix(line, "etcdctl "):
			// Our own tool is the plain one: it only has to be told where to go.
			script += strings.Replace(line, "etcdctl --endpoints", "rampart etcdctl --etcd", 1) + "\n"
		case strings.HasPrefix(line, "rampart rollback"):
			// A user sees in `watch` that it has begun.
			script += "until rampart get shop | grep -q gated; do :; done\n" + line + "\n"
		default:
			script += line + "\n"
		}
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	shell.Env = withCurl(d.t)
	shell.WaitDelay = time.Second
	output, err := shell.CombinedOutput()
	text := string(output)
	if err != nil {
		d.t.Errorf("%v:\n%s\nof the script\n%s", err, text, script)
	}
	contains(d.t, text, "200 OK", "shop is steady: green v2 is live.", "edge-3", "OK\n", "shop rolled back blue "+stayVersion, "rampart_leader 1", `"live":`)
}

func TestActTwoABadReleaseIsTakenBack(t *testing.T) {
	f := played(t, 2)[0]
	ends(t, f, policy.RolledBack)
	if own := f.users.Versions[f.version].Failed; f.users.Failed != own || own == 0 {
		t.Errorf("%d requests failed, %d of them answered by %s", f.users.Failed, own, f.version)
	}
	turnsUntilDecided(t, f, 12)
	if f.lastAck.Before(f.seenOn) || f.seenOff.IsZero() {
		t.Errorf("last ACK at %v, but an Envoy's page still had the weight at %v (off at %v)", f.lastAck, f.seenOn, f.seenOff)
	}
	inOrder(t, f, "began", "confirmed: 5 %", "confirmed: 25 %", "rolling back", "rolled back")
}

func TestActThreeADeadReleaseCostsUsersNothing(t *testing.T) {
	f := played(t, 3)[0]
	ends(t, f, policy.RolledBack)
	usersSawNoFailure(t, f)
	turnsUntilDecided(t, f, 24)
	inOrder(t, f, "confirmed: 50 %", "rolling back", "rolled back")
}

func TestActFourADeadControlPlaneIsSurvived(t *testing.T) {
	found := played(t, 4)
	brief, long := found[0], found[1]
	for _, f := range found {
		ends(t, f, policy.Committed)
		usersSawNoFailure(t, f)
	}
	if brief.lowest < quarter || len(brief.named("restarted")) > 0 {
		t.Errorf("a brief death was noticed: lowest weight %s, events %+v", weightText(brief.lowest), brief.events)
	}
	if long.stamps.lastAsked.IsZero() || long.stamps.lastAsked.Before(long.beaten) {
		t.Errorf("the candidate was last asked at %v, the last heartbeat was at %v", long.stamps.lastAsked, long.beaten)
	}
	if long.strays != 0 {
		t.Errorf("the candidate got %d requests after the restart, before its release had begun again", long.strays)
	}
	inOrder(t, long, "confirmed: 25 %", "restarted", "moved: 0 % → 5 %", "confirmed: 25 %", "committed")
}

func TestActFiveASharedOutageBlamesNobody(t *testing.T) {
	f := played(t, 5)[0]
	ends(t, f, policy.Committed)
	for _, e := range f.named("moved") {
		if e.at.After(f.injected) && e.at.Before(f.mended) {
			t.Errorf("moved %s in the outage", e.text)
		}
	}
	if f.users.Versions[f.version].Failed == 0 {
		t.Error("the outage did not reach the candidate's users")
	}
	inOrder(t, f, "confirmed: 25 %", "moved: 25 % → 50 %", "committed")
}

// family lists all processes below one.
func family(parent int) []int {
	var all []int
	children, err := childrenOf(parent)
	if err != nil {
		return nil
	}
	for _, child := range children {
		all = append(all, child)
		all = append(all, family(child)...)
	}
	return all
}

// demoProcess is `rampart demo` in a process of its own.
type demoProcess struct {
	t         *testing.T
	cmd       *exec.Cmd
	folder    string // all of its files
	out, errs *live
	all       []int // processes below it, as last seen
}

func startDemo(t *testing.T, args ...string) *demoProcess {
	t.Helper()
	// A test's own folder has a name that is too long for sockets.
	folder, err := os.MkdirTemp("", "rampart-end-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	d := &demoProcess{t: t, folder: folder, out: &live{}, errs: &live{}, cmd: exec.Command(os.Args[0], append([]string{"demo"}, args...)...)}
	d.cmd.Env = append(os.Environ(), "TMPDIR="+folder)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.errs
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	// The server, its etcd, three Envoys and three model servers.
	d.await(15*time.Second, "all processes of the demo", func() bool { return len(d.family()) >= 8 })
	return d
}

func (d *demoProcess) family() []int {
	d.all = family(d.cmd.Process.Pid)
	return d.all
}

// await is eventually for what takes its time.
func (d *demoProcess) await(most time.Duration, what string, holds func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), most)
	defer cancel()
	if err := testenv.Eventually(ctx, func() (bool, error) { return holds(), nil }); err != nil {
		d.t.Fatalf("not in %s: %s\n%s%s", most, what, d.out, d.errs)
	}
}

// end ends the demo with a signal, waits until none of its processes is left, and returns its exit status.
func (d *demoProcess) end(signal syscall.Signal) int {
	d.t.Helper()
	all := d.family()
	if err := d.cmd.Process.Signal(signal); err != nil {
		d.t.Fatal(err)
	}
	// How it ends is in its state.
	_ = d.cmd.Wait()
	d.await(15*time.Second, "the end of all processes", func() bool {
		return !slices.ContainsFunc(all, func(pid int) bool {
			stat, err := readStat(pid)
			return err == nil && !stat.dead
		})
	})
	return d.cmd.ProcessState.ExitCode()
}

// leftNothing checks that no file is left.
func (d *demoProcess) leftNothing() {
	d.t.Helper()
	left, err := filepath.Glob(filepath.Join(d.folder, "*"))
	if err != nil || len(left) > 0 {
		d.t.Errorf("left behind: %v %v", left, err)
	}
}

func TestAnInterruptedDemoLeavesNothingBehind(t *testing.T) {
	d := startDemo(t, "--act", "1")
	if status := d.end(syscall.SIGINT); status != statusNotHere {
		t.Errorf("exit status %d: %s", status, d.errs)
	}
	d.leftNothing()
}

func TestAKilledDemoLeavesNothingRunning(t *testing.T) {
	startDemo(t, "--act", "1").end(syscall.SIGKILL)
}
