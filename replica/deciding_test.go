package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/queries"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/xds"
)

// halves are a serving and a deciding half over a real etcd that the test feeds itself.
func halves(t testing.TB) (*Serving, *Deciding) {
	t.Helper()
	etcd := anEtcd(t)
	return halvesOver(t, etcd)
}

func anEtcd(t testing.TB) *testenv.Etcd {
	t.Helper()
	program, err := testenv.Self(testenv.RoleEtcd)
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := testenv.StartEtcd(context.WithoutCancel(t.Context()), testenv.EtcdConfig{Program: program, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Kill() })
	return etcd
}

func halvesOver(t testing.TB, etcd *testenv.Etcd) (*Serving, *Deciding) {
	t.Helper()
	s, err := store.Dial(t.Context(), store.Config{Endpoints: []string{etcd.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	folder, log := t.TempDir(), slog.New(slog.DiscardHandler)
	latch, err := store.OpenLatch(filepath.Join(folder, "latch"))
	if err != nil {
		t.Fatal(err)
	}
	server := xds.New(xds.Config{Cluster: s.ClusterID(), Group: envoy.GroupOf, Now: time.Now, Log: log})
	m := newMetrics(prometheus.NewRegistry())
	serving := NewServing(ServingConfig{
		ID: "a", Store: s, Latch: latch, Xds: server, Folder: folder, Now: time.Now, Log: log,
		Collector: envoy.NewCollector(envoy.CollectorConfig{Now: time.Now, Touch: server.Touch, Log: log}),
	}, m)
	poller := queries.New(queries.Config{Now: time.Now, Log: log})
	return serving, NewDeciding(DecidingConfig{ID: "a", LeaderTTL: 2 * time.Second, Queries: poller, Now: time.Now, Log: log}, serving, m)
}

func TestNobodyLeadsBeforeItKnowsWhatIsServed(t *testing.T) {
	serving, d := halves(t)
	ctx, cancel := context.WithCancel(t.Context())
	elected, over, ended := make(chan *store.Leadership), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		d.campaign(ctx, elected, over)
	}()
	select {
	case <-elected:
		t.Error("elected without having seen etcd")
	case <-time.After(500 * time.Millisecond): // an election takes a few milliseconds
	}
	serving.follow(store.Batch{Revision: 1, Relisted: true})
	select {
	case <-elected:
	case <-time.After(20 * time.Second):
		t.Error("not elected although it has seen etcd")
	}
	cancel()
	close(over)
	<-ended
}

func TestALatchThatAProxyBringsAlongIsAdopted(t *testing.T) {
	serving, _ := halves(t)
	running(t, serving)
	serving.TakeOver([]envoy.Latched{{Service: "shop", Release: "green-6"}, {Service: "other", Release: "green-7"}})
	if all := serving.latch.All(); len(all) > 0 {
		t.Errorf("what does not run here is latched: %v", all)
	}
	serving.TakeOver([]envoy.Latched{{Service: "other", Release: "green-5"}, {Service: "shop", Release: "green-7"}})
	if !serving.latch.Holds("shop", "green-7") {
		t.Error("the running release is not latched")
	}
	if open := serving.openPermits(); len(open) != 1 || open[0].Release != "green-7" {
		t.Errorf("the permit is not due to be deleted: %v", open)
	}
}

// running makes the two halves know of a release of shop at 25 %, as green-7 at revision 7.
func running(t *testing.T, serving *Serving) {
	t.Helper()
	release := &policy.Release{ID: "green-7", Phase: policy.Soaking, Weight: 2500}
	serving.follow(store.Batch{Revision: 7, Relisted: true, Changes: []store.Change{
		{Kind: store.ServedService, Name: "shop", Value: servedShop(t, release), Mod: 7},
		{Kind: store.Permit, Name: "shop", Release: "green-7", Mod: 7},
	}})
}

func TestOnlyALeaderAsksPrometheusAndOnlyWhileAReleaseRuns(t *testing.T) {
	serving, d := halves(t)
	query := policy.Query{Name: "gpu", Prometheus: `avg(gpu{backend="{{.Backend}}"})`, Better: policy.Lower}
	serve := func(revision int64, release *policy.Release) {
		var served policy.Served
		if err := json.Unmarshal(servedShop(t, release), &served); err != nil {
			t.Fatal(err)
		}
		served.Service = served.Service.WithDefaults()
		served.Service.Analysis.Queries = []policy.Query{query}
		value, err := json.Marshal(served)
		if err != nil {
			t.Fatal(err)
		}
		serving.follow(store.Batch{Revision: revision, Changes: []store.Change{{Kind: store.ServedService, Name: "shop", Value: value, Mod: revision}}})
	}
	candidate := policy.Arm{Ref: policy.Ref{Backend: "green", Revision: "v2"}}
	serve(7, &policy.Release{ID: "green-7", Phase: policy.Soaking, Weight: 2500, Candidate: candidate})
	asked := func() []policy.QueryReading {
		d.judge(time.Now(), turnEvery, serving.work())
		return d.config.Queries.Take(time.Now(), "shop")
	}
	if got := asked(); got != nil {
		t.Errorf("a follower has %+v", got)
	}
	d.lead = newLead(nil, nil)
	if got := asked(); len(got) != 1 || !strings.HasPrefix(got[0].Problem, "no Prometheus is named") {
		t.Errorf("the leader has %+v", got)
	}
	wanted := d.wantedQueries(serving.work())
	if len(wanted) != 1 || wanted[0].Release != "green-7" || wanted[0].Live.Backend != "blue" || wanted[0].Candidate != candidate.Ref {
		t.Errorf("wanted is %+v", wanted)
	}
	serve(8, nil)
	if got := asked(); got != nil {
		t.Errorf("after the release: %+v", got)
	}
}

func TestAConvictionWaitsForNothing(t *testing.T) {
	serving, d := halves(t)
	running(t, serving)
	v, _ := serving.view("shop")
	tr := d.track("shop")
	tr.after, tr.served, tr.mod = 99, v.served, v.servedMod // it saved at 99, and the watch stands at 7
	tr.evidence = &policy.Evidence{Release: "green-6"}
	tr.judgement = policy.Judgement{Verdict: policy.Unhealthy, Reason: "errors: green 48 %"}
	d.convict("shop")
	if serving.latch.Holds("shop", "green-7") {
		t.Fatal("taken back by the evidence of another release")
	}
	tr.evidence.Release = "green-7"
	serving.follow(store.Batch{Revision: 8, Changes: []store.Change{{Kind: store.Permit, Name: "shop", Release: "green-7", Mod: 8, Deleted: true}}})
	d.convict("shop")
	if serving.latch.Holds("shop", "green-7") {
		t.Fatal("taken back although somebody has done that")
	}
	serving.follow(store.Batch{Revision: 9, Changes: []store.Change{{Kind: store.Permit, Name: "shop", Release: "green-7", Mod: 9}}})
	d.convict("shop")
	if !serving.latch.Holds("shop", "green-7") {
		t.Error("not taken back")
	}
}

func TestAnEtcdThatDoesNotAnswerIsLeftAloneForATurn(t *testing.T) {
	serving, d := halves(t)
	running(t, serving)
	now := time.Now()
	d.lead = newLead(nil, nil)
	d.lead.stall(now, fmt.Errorf("save: %w", context.DeadlineExceeded))
	serving.touchAll()
	d.turn(t.Context(), false)
	if work := serving.work(); !work.dirty["shop"] || !work.gateways {
		t.Errorf("what the turn did not get to is lost: %+v", work)
	}
	d.lead.stall(now, errors.New("another error"))
	if d.lead.stalled.After(now.Add(patience)) {
		t.Error("an answer counts as none")
	}
}

// Times are saved every few seconds and move the served key, but nothing that proxies get.
func TestAnotherReplicasWordIsAboutWhatProxiesGet(t *testing.T) {
	serving, d := halves(t)
	running(t, serving)
	serving.follow(store.Batch{Revision: 50, Changes: []store.Change{
		{Kind: store.ServedService, Name: "shop", Value: servedShop(t, &policy.Release{ID: "green-7", Phase: policy.Soaking, Weight: 2500, Age: time.Second}), Mod: 50},
	}})
	v, _ := serving.view("shop")
	for applied, want := range map[int64]int{6: 0, 7: 2, 49: 2, 50: 2} {
		d.reports = map[string]store.Report{"b": {ID: "b", Applied: applied, Releases: map[string]store.ReleaseReport{
			"shop": {Release: "green-7", Fleet: policy.Fleet{Connected: 2, Confirmed: 2}},
		}}}
		if fleet := d.mergedFleet("shop", v, time.Now()); fleet.Connected != 2 || fleet.Confirmed != want {
			t.Errorf("published up to %d: %+v, want %d confirmed", applied, fleet, want)
		}
	}
}

func TestAGatewayWhoseDecisionWasNotSavedIsDecidedAboutAgain(t *testing.T) {
	serving, d := halves(t)
	proof, err := serving.store.Campaign(t.Context(), store.Candidate{ID: "a", TTL: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d.lead = &lead{proof: proof}
	serving.follow(store.Batch{Revision: 7, Relisted: true, Changes: []store.Change{put(store.GatewayDoc, "edge", []byte("gateway: edge\n"), 7)}})
	if !serving.work().gateways {
		t.Fatal("the document is not looked at")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	d.decideGateways(gone)
	if !serving.work().gateways {
		t.Error("not looked at again")
	}
}

func TestAServiceWhoseServedKeyCannotBeReadIsNotBegunAnew(t *testing.T) {
	serving, d := halves(t)
	serving.follow(store.Batch{Revision: 9, Relisted: true, Changes: []store.Change{
		put(store.ServiceDoc, "shop", []byte(shopDocument), 5), put(store.ServedService, "shop", []byte("\xffgarbage"), 6),
	}})
	d.lead = newLead(nil, nil)
	v, _ := serving.view("shop")
	if turn := d.read("shop", v, turnInput{now: time.Now()}); !turn.Orphan {
		t.Error("its document would be made live at once")
	}
	if alarms := serving.alarms(); len(alarms) != 1 {
		t.Errorf("alarms: %q", alarms)
	}
}

func TestTheDeadMansTimesOfAService(t *testing.T) {
	s := newState()
	served := &policy.Served{Service: policy.Service{Gateways: []string{"edge", "mesh"}}}
	for _, c := range []struct {
		edge, mesh        time.Duration
		shortest, longest time.Duration
	}{
		{15 * time.Second, 6 * time.Second, 6 * time.Second, 15 * time.Second},
		{15 * time.Second, 0, 15 * time.Second, 0},
		{0, 0, 0, 0},
	} {
		for name, d := range map[string]time.Duration{"edge": c.edge, "mesh": c.mesh} {
			deadman := policy.Deadman(d)
			s.gateway(name).served = &policy.ServedGateway{Gateway: policy.Gateway{Name: name, Deadman: &deadman}}
		}
		if shortest, longest := s.deadman(served); shortest != c.shortest || longest != c.longest {
			t.Errorf("%v and %v: %v to %v", c.edge, c.mesh, shortest, longest)
		}
	}
}
