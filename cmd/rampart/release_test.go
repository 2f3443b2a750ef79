package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/store"
)

// released is an etcd with a leader and a release of shop that has begun, and stays where it is until the leader's turns take time.
func released(t *testing.T) (*etcd, *leader) {
	t.Helper()
	e := startEtcd(t)
	l := e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", blueYAML()))
	e.expect(0, "apply", e.file("shop.yaml", shopYAML))
	return e, l
}

func (l *leader) hurry() { l.set(func(l *leader) { l.elapsed = 5 * time.Second }) }

func (l *leader) rest() { l.set(func(l *leader) { l.elapsed = 0 }) }

// DESIGN §9: wait waits until served reflects the document, then for its outcome.
func TestWaitSaysYesWhenTheReleaseIsCommitted(t *testing.T) {
	e, l := released(t)
	out, errs, ended := e.start(t.Context(), "wait", "shop", "--timeout", "1m")
	eventually(t, "wait shows progress", func() bool { return strings.Contains(out.String(), "shop: green v42 gated at 0 %") })
	l.hurry()
	if status := <-ended; status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, out, errs)
	}
	contains(t, out.String(), "green v42 soaking at 25 %", "green v42 baking at 95 %", "shop: green v42 is live\n")
	contains(t, e.expect(0, "why", "shop").out, "shop is steady: green v42 is live.", "green v42 took over from blue v41")
	golden(t, "history.golden", narrow(e.expect(0, "history", "shop").out))
	var lines []store.Line
	if err := json.Unmarshal([]byte(e.expect(0, "history", "shop", "--last", "1", "-o", "json").out), &lines); err != nil || len(lines) != 1 || lines[0].Event != "committed" {
		t.Errorf("the last line: %+v, %v", lines, err)
	}
}

func TestWaitSaysNoWhenTheReleaseIsRolledBack(t *testing.T) {
	e, l := released(t)
	_, errs, ended := e.start(t.Context(), "wait", "shop")
	l.set(func(l *leader) {
		l.judgement = policy.Judgement{Verdict: policy.Unhealthy, Reason: "errors: green 48 % (61 of 127)"}
	})
	if status := <-ended; status != statusNo {
		t.Fatalf("exit status %d\n%s", status, errs)
	}
	contains(t, errs.String(), "wait shop: green v42 was rolled back: errors: green 48 % (61 of 127)")
	contains(t, e.expect(0, "why", "shop").out, "shop rolled back green v42 at 0 %", "`rampart retry shop`")
	contains(t, e.expect(0, "apply", e.file("shop.yaml", shopYAML)).out, "nothing changes", "was rolled back and is refused until the wish changes")
	contains(t, e.expect(0, "get").out, "green v42 was rolled back: errors: green 48 %")
}

func TestWaitEndsInTimeAndByCtrlCAndLeavesTheReleaseAlone(t *testing.T) {
	e, l := released(t)
	l.awaitPhase("shop", policy.Gated, 0)
	before := e.dump()
	contains(t, e.expect(statusNotHere, "wait", "shop", "--timeout", "50ms").err, "wait shop: not over within 50ms: shop: green v42 gated at 0 %")
	ctx, cancel := context.WithCancel(t.Context())
	out, errs, ended := e.start(ctx, "wait", "shop")
	eventually(t, "wait waits", func() bool { return out.String() != "" })
	cancel()
	if status := <-ended; status != statusNotHere {
		t.Errorf("exit status %d", status)
	}
	contains(t, errs.String(), "interrupted; the release goes on without this command")
	if after := e.dump(); after != before {
		t.Errorf("the release was touched:\n%s\n%s", before, after)
	}
}

func TestRollbackDeletesThePermitAndWaitsForTheProxies(t *testing.T) {
	e, l := released(t)
	l.hurry()
	l.awaitPhase("shop", policy.Soaking, 500)
	l.rest()
	got := e.expect(0, "rollback", "shop")
	contains(t, got.out, "shop rolled back green v42 at ", "; blue v41 is live, confirmed by 3 of 3 proxies.", "`rampart retry shop`")
	contains(t, e.expect(statusNo, "rollback", "shop").err, "rollback shop: no release runs: blue v41 is live")
	contains(t, e.expect(statusNo, "rollback", "nothing").err, "there is no service nothing")
	view, err := e.store.Service(t.Context(), "shop")
	if err != nil || len(view.Permits) != 0 {
		t.Errorf("permits left: %v, %v", view.Permits, err)
	}
}

func TestARollbackThatProxiesDoNotConfirmSaysWhereItStands(t *testing.T) {
	e, l := released(t)
	l.set(func(l *leader) { l.fleet.Confirmed = 1 })
	got := e.expect(statusNotHere, "rollback", "shop", "--timeout", "1s")
	contains(t, got.err, "rollback shop: not confirmed within 1s: waits for ")
	contains(t, got.out, "the permit of green v42 is deleted")
}

func TestRollbackWorksWithoutALeader(t *testing.T) {
	e := startEtcd(t)
	ctx, cancel := context.WithCancel(t.Context())
	proof, err := e.store.Campaign(ctx, store.Candidate{ID: "gone", TTL: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	e.put(store.ServiceDoc, "shop", shopYAML)
	p := still(t)
	save := store.Save{Kind: store.ServedService, Name: "shop", Value: p.service.served, CreatePermit: "green-9"}
	view, err := e.store.Service(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	save.Seen.Wish = view.Doc.Mod
	if _, err := e.store.Save(ctx, proof, save); err != nil {
		t.Fatal(err)
	}
	if err := proof.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	got := e.expect(statusNotHere, "rollback", "shop", "--timeout", "200ms")
	contains(t, got.err, "no replica leads, so nobody has noted it yet; replicas give it weight 0 all the same")
	if view, err = e.store.Service(t.Context(), "shop"); err != nil || len(view.Permits) != 0 {
		t.Errorf("permits left: %v, %v", view.Permits, err)
	}
	contains(t, e.expect(0, "why", "shop").out, "shop takes green v42 back: its permit is gone.", "No replica leads at present")
}

// DESIGN §9: a pause lasts until resume.
func TestAPauseRestsTheClimbUntilResume(t *testing.T) {
	e, l := released(t)
	contains(t, e.expect(0, "pause", "shop").out, "shop is paused with green v42 at 0 %", "`rampart resume shop`")
	contains(t, e.expect(0, "pause", "shop").out, "shop is paused already")
	l.hurry()
	eventually(t, "why says so", func() bool { return strings.Contains(e.rampart("why", "shop").out, "paused before the first step") })
	contains(t, e.expect(0, "get").out, "paused by an operator")
	contains(t, e.expect(0, "resume", "shop").out, "shop goes on with green v42")
	l.awaitPhase("shop", policy.Soaking, 100)
	contains(t, e.expect(0, "resume", "shop").out, "shop is not paused.")
	contains(t, e.expect(statusNo, "pause", "nothing").err, "pause nothing: there is no service nothing")
}

func TestResumeEndsAHoldOfRampartsOwn(t *testing.T) {
	e, l := released(t)
	l.set(func(l *leader) {
		l.elapsed = 20 * time.Minute
		l.judgement = policy.Judgement{Reason: "errors: green no requests", Lacks: "20 finished requests to green at this weight"}
	})
	eventually(t, "patience ends", func() bool {
		return strings.Contains(e.rampart("why", "shop").out, "shop is held at 1 %: too little evidence")
	})
	l.rest()
	contains(t, e.expect(0, "resume", "shop").out, "shop: ")
	v, err := readService(t.Context(), e.store, "shop")
	if err != nil || v.release() == nil || v.release().Held != "" || v.order != "" {
		t.Errorf("still held: %+v, %v", v, err)
	}
}

// DESIGN §9: promote is full weight at once.
func TestOrdersAreObeyedOrSayWhyNot(t *testing.T) {
	e, l := released(t)
	contains(t, e.expect(statusNo, "retry", "shop").err, "retry shop: a release of green v42 runs already")
	contains(t, e.expect(0, "advance", "shop").out, "shop: moved: 0 % → 1 %.")
	l.awaitPhase("shop", policy.Soaking, 100)
	contains(t, e.expect(0, "advance", "shop").out, "shop: moved: 1 % → 5 %.")
	l.awaitPhase("shop", policy.Soaking, 500)
	contains(t, e.expect(0, "promote", "shop").out, "shop: moved: 5 % → 99.99 %")
	e.expect(0, "rollback", "shop")
	contains(t, e.expect(statusNo, "promote", "shop").err, "promote shop: no release runs; change `serve`")
	contains(t, e.expect(0, "retry", "shop").out, "shop: began: green v42 over blue v41")
}

func TestAnOrderNobodyObeysIsNotInTime(t *testing.T) {
	e, l := released(t)
	l.set(func(l *leader) { l.fleet.Ready = 1 })
	contains(t, e.expect(0, "advance", "shop").out, "Ordered. The advance follows as soon as the proxies have confirmed")
	view, err := e.store.Service(t.Context(), "shop")
	if words := strings.Fields(string(view.Order.Value)); err != nil || len(words) != 2 || words[0] != "advance" || !strings.HasPrefix(words[1], "green-") {
		t.Errorf("an order names its release: %q, %v", view.Order.Value, err)
	}
}

func TestWatchPrintsALinePerEvent(t *testing.T) {
	e, l := released(t)
	ctx, cancel := context.WithCancel(t.Context())
	out, errs, ended := e.start(ctx, "watch", "shop")
	jsonOut, _, jsonEnded := e.start(ctx, "watch", "shop", "--output", "json")
	eventually(t, "both watch", func() bool { return out.String() != "" && jsonOut.String() != "" })
	l.hurry()
	eventually(t, "the events of a whole release", func() bool {
		return strings.Contains(out.String(), "committed: green v42 is live") && strings.Contains(jsonOut.String(), "committed: green v42 is live")
	})
	cancel()
	if status := <-ended; status != 0 {
		t.Errorf("exit status %d", status)
	}
	<-jsonEnded
	contains(t, errs.String(), "shop is left as it is.")
	contains(t, out.String(), "moved: 0 % → 1 %", "moved: 25 % → 50 %", "confirmed: 50 % confirmed by 3 of 3")
	for _, line := range strings.Split(strings.TrimSpace(jsonOut.String()), "\n") {
		var parsed watchLine
		if err := json.Unmarshal([]byte(line), &parsed); err != nil || parsed.Service != "shop" {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestWatchEndsWhenTheServiceIsGone(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", blueYAML()))
	out, errs, ended := e.start(t.Context(), "watch", "shop")
	eventually(t, "it watches", func() bool { return out.String() != "" })
	e.expect(0, "delete", "shop", "--yes")
	if status := <-ended; status != 0 || !strings.Contains(errs.String(), "shop is no longer there.") {
		t.Errorf("exit status %d, %q", status, errs)
	}
}

func TestProxiesAreListedFromEveryReplica(t *testing.T) {
	e, l := released(t)
	now := time.Now()
	l.serveProxies([]replica.ProxyView{
		{Proxy: "edge-2", Gateway: "edge", Version: "Envoy 1.40.0", Connected: now.Add(-192 * time.Minute), LastSeen: now, Deadman: "15s", Known: true},
		{Proxy: "edge-1", Gateway: "edge", Version: "Envoy 1.36.0", Connected: now.Add(-41 * time.Minute), LastSeen: now, Deadman: "15s", Known: true, Pending: 2, Rejections: []string{"shop/green: no such\x1b[2J thing"},
			Resources: []replica.ResourceView{
				{Type: "cluster", Name: "shop/blue", Version: "c1.7/0123", Since: now.Add(-time.Minute)},
				{Type: "endpoints", Name: "shop/green", Missing: true},
				{Type: "routes", Name: "edge", Version: "c1.7/4567", Since: now.Add(-time.Minute), Rejected: "c1.9/89ab"},
				{Type: "layer", Name: "ramp-03", Sent: "c1.9/cdef"},
			}},
		{Proxy: "lost", Gateway: "nowhere", Version: "gRPC", Connected: now, LastSeen: now, Deadman: "no", Duplicate: true},
	})
	got := e.expect(0, "proxies").out
	contains(t, got, "PROXY", "edge-2  edge     1.40.0  3h12m      15s       all        –", "edge-1  edge     1.36.0  41m        15s       all but 3  1",
		"edge-1: rejected shop/green: no such·[2J thing", `lost: its gateway "nowhere" does not exist`, "lost: another stream has the same node id")
	if only := e.expect(0, "proxies", "--gateway", "edge").out; strings.Contains(only, "lost") || strings.Index(only, "edge-1") > strings.Index(only, "edge-2") {
		t.Errorf("proxies of one gateway, sorted:\n%s", only)
	}
	if only := e.expect(0, "proxies", "--rejected", "--unconfirmed").out; strings.Contains(only, "edge-2") || !strings.Contains(only, "edge-1") {
		t.Errorf("proxies that reject something:\n%s", only)
	}
	if only := e.expect(0, "proxies", "--unconfirmed").out; strings.Contains(only, "edge-2") || !strings.Contains(only, "edge-1") || !strings.Contains(only, "lost") {
		t.Errorf("proxies that have not confirmed all:\n%s", only)
	}
	contains(t, e.expect(0, "proxies", "--gateway", "default", "--rejected").out, "None of the connected proxies is such.")
	contains(t, e.expect(statusNo, "proxies", "--gateway", "other").err, "proxies: there is no gateway other; there are: default, edge")
	contains(t, e.expect(statusNotHere, "proxies", "edge-9").err, "no proxy edge-9 is connected")
	contains(t, e.expect(0, "proxies", "edge-1").out, "edge-1 has",
		"TYPE", "cluster    shop/blue   c1.7/0123  1m     confirmed", "routes     edge        c1.7/4567  1m     rejects c1.9/89ab",
		"endpoints  shop/green  –          –      is not there", "layer      ramp-03     –          –      was sent c1.9/cdef")
	var views []proxy
	if err := json.Unmarshal([]byte(e.expect(0, "proxies", "-o", "json").out), &views); err != nil || len(views) != 3 || views[0].Replica != "one" {
		t.Errorf("%+v, %v", views, err)
	}
	l.set(func(l *leader) { l.http = "127.0.0.1:1" })
	eventually(t, "a replica that does not answer is named", func() bool { return e.rampart("proxies").status == statusNotHere })
	contains(t, e.rampart("proxies").err, "proxies: ask replica one at 127.0.0.1:1: ", "proxies: none of 1 replica could be asked")
}

func TestAdoptSaysWhatIsMissingAndNeedsAYes(t *testing.T) {
	e := startEtcd(t)
	l := e.lead()
	l.set(func(l *leader) {
		l.alarms = []string{"shop: its served key is gone; what was served is kept until `rampart adopt`"}
	})
	eventually(t, "the alarm is reported", func() bool { return strings.Contains(e.rampart("adopt").out, "shop: its served key is gone") })
	contains(t, e.expect(statusUsage, "adopt").err, "adopt: nobody is there to ask")
	contains(t, e.expect(0, "adopt", "--yes", "--reason", "restored").out, "Adopted")
	contains(t, e.dump(), "/rampart/v1/adopt restored\n")
}

func TestEtcdctlIsThePlainTool(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	tool := func(stdin string, args ...string) answer {
		return rampartWith(t.Context(), stdin, append([]string{"--data", e.folder, "etcdctl"}, args...)...)
	}
	first := strings.Replace(blueYAML(), "gateways: [edge]\n", "", 1)
	if got := tool(first, "put", "/rampart/v1/services/shop"); got.status != 0 || got.out != "OK\n" {
		t.Fatalf("put: %+v", got)
	}
	eventually(t, "the document is served", func() bool { return strings.Contains(e.rampart("get", "shop").out, "blue v41  blue v41  steady") })
	contains(t, tool("", "get", "--prefix", "/rampart/v1/services/", "--keys-only").out, "/rampart/v1/services/shop\n")
	contains(t, tool("", "-w", "json", "endpoint", "status").out, `"version":"3.7`)
	contains(t, tool("", "del", "/rampart/v1/pauses/shop").out, "0\n")
	if got := tool("mod(\"x\") = \"0\"\n\nput x y\n\nput x z\n\n", "txn"); got.status != 0 || !strings.Contains(got.out, "SUCCESS") {
		t.Errorf("txn: %+v", got)
	}
	if got := tool("", "frobnicate"); got.status == 0 || got.err == "" {
		t.Errorf("an unknown command: %+v", got)
	}
	if got := tool("", "watch", "--rev=1", "/rampart/v1/services/shop", "--", "false"); got.status == 0 {
		t.Errorf("its exit status is handed on: %+v", got)
	}
}

func TestNoColourWithoutATerminal(t *testing.T) {
	e, _ := released(t)
	for _, line := range []string{"get", "why shop", "history shop", "get gateways"} {
		if got := e.expect(0, strings.Fields(line)...); strings.Contains(got.out, "\x1b") {
			t.Errorf("rampart %s: %q", line, got.out)
		}
	}
	t.Setenv("COLUMNS", "40")
	for _, line := range strings.Split(e.expect(0, "why", "shop").out, "\n") {
		if len([]rune(line)) > 40 {
			t.Errorf("%q is wider than COLUMNS", line)
		}
	}
}

func TestServiceNamesAreCompleted(t *testing.T) {
	e, _ := released(t)
	contains(t, e.expect(0, "__complete", "why", "").out, "shop\n")
}

func TestGetTellsMachinesEverything(t *testing.T) {
	e, _ := released(t)
	var view serviceView
	if err := json.Unmarshal([]byte(e.expect(0, "get", "shop", "-o", "json").out), &view); err != nil {
		t.Fatal(err)
	}
	if view.Service != "shop" || view.Document.Serve != "green" || view.Served.Release == nil || len(view.Permits) != 1 || view.Revision == 0 {
		t.Errorf("got %+v", view)
	}
	var all []serviceView
	if err := json.Unmarshal([]byte(e.expect(0, "get", "-o", "json").out), &all); err != nil || len(all) != 1 {
		t.Errorf("all of them are a list: %+v, %v", all, err)
	}
	contains(t, e.expect(statusNo, "get", "nothing").err, "get: there is no service nothing; there are: shop")
	contains(t, e.expect(statusNo, "get", "gateway", "nothing").err, "get: there is no gateway nothing; there are: default, edge")
	var why whyView
	if err := json.Unmarshal([]byte(e.expect(0, "why", "shop", "-o", "json").out), &why); err != nil || why.Answer == "" || why.Served == nil || !why.Led {
		t.Errorf("why: %+v, %v", why, err)
	}
}

func TestABootstrapIsWrittenForTheGatewayAndReplicasNamed(t *testing.T) {
	got := rampart("bootstrap", "--gateway", "edge", "--id", "edge-7", "--xds", "127.0.0.1:18000", "--xds", "127.0.0.1:18010")
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	contains(t, got.out, "edge-7", "edge", "18000", "18010")
	if strings.Index(got.out, "18000") > strings.Index(got.out, "18010") {
		t.Error("the replicas' order is lost")
	}
	got = rampart("bootstrap", "--grpc", "--gateway", "edge", "--id", "app-7", "--xds", "rampart:18000")
	if want := `{
  "xds_servers": [
    {
      "server_uri": "rampart:18000",
      "channel_creds": [
        {
          "type": "insecure"
        }
      ]
    }
  ],
  "node": {
    "id": "app-7",
    "cluster": "edge"
  }
}
`; got.status != 0 || got.out != want {
		t.Errorf("bootstrap --grpc: exit status %d, %q%q", got.status, got.out, got.err)
	}
	if got := rampart("bootstrap", "--print", "snippet"); got.status != 0 || got.out == "" {
		t.Errorf("snippet: %+v", got)
	}
	host, err := os.Hostname()
	if got := rampart("bootstrap"); err == nil && !strings.Contains(got.out, host) {
		t.Errorf("an Envoy is named by its host:\n%s", got.out)
	}
}
