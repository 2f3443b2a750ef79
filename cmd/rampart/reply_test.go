package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rampart-proxy/rampart/policy"
)

// value runs a command for a machine and returns its one value. The word of its outcome is one that the manual promises.
func value[T any](e *etcd, status int, args ...string) T {
	e.t.Helper()
	got := e.expect(status, append(args, "-o", "json")...)
	if (got.err == "") != (status == 0) {
		e.t.Errorf("rampart %v: exit status %d, and on standard error %q", args, status, got.err)
	}
	return parsed[T](e, got.out)
}

func parsed[T any](e *etcd, text string) T {
	e.t.Helper()
	var v T
	var bare struct{ Outcome string }
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		e.t.Fatalf("%v: %q", err, text)
	}
	if err := json.Unmarshal([]byte(text), &bare); err != nil {
		e.t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/scripts.md")
	if err != nil {
		e.t.Fatal(err)
	}
	contains(e.t, string(manual), "| `"+bare.Outcome+"` |")
	return v
}

// told checks the outcome of a command about a service, and that a person would have been told something too.
func (e *etcd) told(want ending, status int, args ...string) serviceReply {
	e.t.Helper()
	v := value[serviceReply](e, status, args...)
	if v.Outcome != want || v.Command != args[0] || v.Service != "shop" || (status == 0 && len(v.Text) == 0) {
		e.t.Errorf("rampart %v: got %+v, want %q", args, v, want)
	}
	return v
}

func TestApplyTellsMachinesWhatBecameOfEachDocument(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	edge, blue, green := e.file("edge.yaml", edgeYAML), e.file("blue.yaml", blueYAML()), e.file("green.yaml", shopYAML)
	first := value[applied](e, 0, "apply", edge, blue)
	if len(first.Documents) != 2 || first.Outcome != endedAccepted || first.Documents[0].Gateway != "edge" {
		t.Fatalf("got %+v", first)
	}
	shop := first.Documents[1]
	if shop.Service != "shop" || shop.Outcome != endedAccepted || shop.Live.Backend != "blue" || shop.Revision == 0 || len(shop.Changes) == 0 {
		t.Errorf("got %+v", shop)
	}
	before := e.dump()
	if dry := value[applied](e, 0, "apply", "--dry-run", edge, green); dry.Outcome != endedDry || dry.Documents[0].Outcome != endedIdle || dry.Documents[1].Outcome != endedDry {
		t.Errorf("a dry run: %+v", dry)
	}
	if same := value[applied](e, 0, "apply", blue); same.Outcome != endedIdle || len(same.Documents[0].Changes) != 0 {
		t.Errorf("nothing changes: %+v", same)
	}
	if bad := value[applied](e, statusNo, "apply", e.file("bad.yaml", shopYAML+"stepz: 1\n")); bad.Outcome != endedRefused || len(bad.Problems) != 1 {
		t.Errorf("a document that cannot be read: %+v", bad)
	}
	clash := strings.Replace(shopYAML, "service: shop", "service: other", 1)
	if bad := value[applied](e, statusNo, "apply", e.file("other.yaml", clash)); bad.Outcome != endedRefused || len(bad.Problems) == 0 {
		t.Errorf("a document that clashes: %+v", bad)
	}
	if after := e.dump(); after != before {
		t.Errorf("written:\n%s\n%s", before, after)
	}
	begun := value[applied](e, 0, "apply", green)
	if d := begun.Documents[0]; d.Release == nil || d.Release.Candidate.Revision != "v42" || !strings.Contains(strings.Join(begun.Text, "\n"), "has begun") {
		t.Errorf("a release that has begun: %+v", begun)
	}
}

func TestWithoutALeaderApplyTellsMachinesThatItIsStored(t *testing.T) {
	e := startEtcd(t)
	got := e.expect(statusNotHere, "apply", "-o", "json", e.file("edge.yaml", edgeYAML))
	if v := parsed[applied](e, got.out); v.Outcome != endedStored || v.Documents[0].Outcome != endedStored || v.Documents[0].Revision == 0 {
		t.Errorf("got %+v", v)
	}
	contains(t, got.err, "no leader has accepted them")
}

func TestOrdersAndPausesTellMachinesHowTheyEnded(t *testing.T) {
	e, l := released(t)
	l.awaitPhase("shop", policy.Gated, 0)
	if v := e.told(endedAsAsked, 0, "pause", "shop"); v.Release == nil || v.Live.Backend != "blue" {
		t.Errorf("got %+v", v)
	}
	e.told(endedIdle, 0, "pause", "shop")
	e.told(endedAsAsked, 0, "resume", "shop")
	e.told(endedIdle, 0, "resume", "shop")
	if v := e.told(endedAsAsked, 0, "advance", "shop"); v.Release.Weight != 100 {
		t.Errorf("the release is shown as it is after the order: %+v", v.Release)
	}
	if v := e.told(endedBack, 0, "rollback", "shop"); v.Release != nil || v.Last.Result != policy.RolledBack {
		t.Errorf("got %+v", v)
	}
	if got := e.expect(statusNo, "promote", "shop", "-o", "json"); got.out != "" || !strings.Contains(got.err, "no release runs") {
		t.Errorf("what could not be tried is an error alone: %+v", got)
	}
	e.told(endedAsAsked, 0, "retry", "shop")
	l.set(func(l *leader) { l.fleet.Ready = 1 })
	e.told(endedStored, 0, "advance", "shop")
	l.set(func(l *leader) { l.fleet.Confirmed = 1 })
	if v := e.told(endedPending, statusNotHere, "rollback", "shop", "--timeout", "1s"); v.Release == nil {
		t.Errorf("got %+v", v)
	}
}

func TestWaitTellsMachinesTheOutcome(t *testing.T) {
	e, l := released(t)
	l.awaitPhase("shop", policy.Gated, 0)
	got := e.expect(statusNotHere, "wait", "shop", "--timeout", "50ms", "-o", "json")
	if v := parsed[serviceReply](e, got.out); v.Outcome != endedRunning || v.Release == nil {
		t.Errorf("got %+v", v)
	}
	contains(t, got.err, "shop: green v42 gated at 0 %\n", "not over within 50ms")
	l.set(func(l *leader) { l.judgement = policy.Judgement{Verdict: policy.Unhealthy, Reason: "errors: many"} })
	got = e.expect(statusNo, "wait", "shop", "-o", "json")
	if v := parsed[serviceReply](e, got.out); v.Outcome != endedBack || v.Last.Reason != "errors: many" {
		t.Errorf("got %+v", v)
	}
	e.expect(0, "apply", e.file("shop.yaml", blueYAML()))
	if v := e.told(endedLive, 0, "wait", "shop"); v.Live.Backend != "blue" {
		t.Errorf("got %+v", v)
	}
}

func TestDeleteTellsMachinesWhatIsGone(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", blueYAML()))
	if got := e.expect(statusUsage, "delete", "shop", "-o", "json"); got.out != "" {
		t.Errorf("nobody said yes: %+v", got)
	}
	e.told(endedDeleted, 0, "delete", "shop", "--yes")
	got := e.expect(0, "delete", "gateway", "edge", "--yes", "-o", "yaml").out
	contains(t, got, "gateway: edge\n", "command: delete\n", "outcome: deleted\n")
}

func TestWatchWritesADocumentOfYAMLPerState(t *testing.T) {
	e, l := released(t)
	ctx, cancel := context.WithCancel(t.Context())
	out, _, ended := e.start(ctx, "watch", "shop", "-o", "yaml")
	eventually(t, "it watches", func() bool { return strings.HasSuffix(out.String(), "\n...\n") })
	l.hurry()
	eventually(t, "the commit", func() bool { return strings.Contains(out.String(), "committed: green v42 is live") })
	cancel()
	<-ended
	documents, events := yaml.NewDecoder(strings.NewReader(out.String())), 0
	for n := 0; ; n++ {
		var one map[string]any
		if err := documents.Decode(&one); err != nil {
			if n < 5 || events < 5 || err.Error() != "EOF" {
				t.Fatalf("%d documents, %d events: %v", n, events, err)
			}
			return
		}
		if when, err := time.Parse(time.RFC3339, one["time"].(string)); err != nil || when.IsZero() || one["service"] != "shop" {
			t.Fatalf("got %v", one)
		}
		if one["event"] != nil {
			events++
		}
	}
}
