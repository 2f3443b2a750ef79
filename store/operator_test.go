package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// DESIGN §9: apply writes all documents in one compare-and-put transaction.
func TestDocumentsAreAllPutOrNone(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	shop := Write{Kind: ServiceDoc, Name: "shop", Value: []byte("a")}
	edge := Write{Kind: GatewayDoc, Name: "edge", Value: []byte("b")}
	if err := s.Put(t.Context(), []Write{shop, edge}); err != nil {
		t.Fatal(err)
	}
	view, err := s.Service(t.Context(), "shop")
	if err != nil || string(view.Doc.Value) != "a" || view.Doc.Mod != view.Revision {
		t.Fatalf("view %+v, %v", view, err)
	}
	shop.Mod, shop.Value = view.Doc.Mod, []byte("a2")
	edge.Value = []byte("b2") // as if it were not there
	err = s.Put(t.Context(), []Write{shop, edge})
	if !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), Key(GatewayDoc, "edge")) || strings.Contains(err.Error(), Key(ServiceDoc, "shop")) {
		t.Errorf("put: %v", err)
	}
	if got := value(t, s, Key(ServiceDoc, "shop")); got != "a" {
		t.Errorf("shop is %q", got)
	}
	edge.Mod = view.Doc.Mod // both were written by one transaction
	if err := s.Put(t.Context(), []Write{shop, edge}); err != nil {
		t.Errorf("put: %v", err)
	}
	for name, w := range map[string]Write{
		"a served copy":  {Kind: ServedService, Name: "shop"},
		"a huge value":   {Kind: ServiceDoc, Name: "shop", Value: make([]byte, MaxValue+1)},
		"no name":        {Kind: ServiceDoc},
		"a path as name": {Kind: ServiceDoc, Name: "a/b"},
	} {
		if err := s.Put(t.Context(), []Write{w}); err == nil {
			t.Errorf("%s was put", name)
		}
	}
	if err := s.Put(t.Context(), make([]Write, MaxWrites+1)); err == nil {
		t.Error("too many documents were put")
	}
}

func TestWhatOperatorsDoIsWatched(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	m := follow(t, s)
	put(t, s, permitKey("shop", "green-1"), "{}")
	put(t, s, permitKey("shop", "blue-2"), "{}")
	put(t, s, permitKey("shopping", "green-1"), "{}")
	for name, err := range map[string]error{
		"pause": s.SetPause(t.Context(), "shop"),
		"order": s.PutOrder(t.Context(), "shop", "promote green-1"),
		"adopt": s.Adopt(t.Context(), "the old etcd is lost"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	view, err := s.Service(t.Context(), "shop")
	if err != nil || view.Pause.Mod == 0 || string(view.Order.Value) != "promote green-1" || view.Doc.Mod+view.Served.Mod != 0 {
		t.Errorf("view %+v, %v", view, err)
	}
	if got := slices.Sorted(maps.Keys(view.Permits)); !slices.Equal(got, []string{"blue-2", "green-1"}) {
		t.Errorf("permits %v", got)
	}
	m.reached(t, view.Revision)
	m.same(t, s)
	m.until(t, "an adoption", func() bool { return m.state[Key(Adopt, "")].value == "the old etcd is lost" })
	for range 2 {
		if err := errors.Join(s.ClearPause(t.Context(), "shop"), s.Delete(t.Context(), Order, "shop")); err != nil {
			t.Error(err)
		}
	}
	view, err = s.Service(t.Context(), "shop")
	if err != nil || view.Pause.Mod+view.Order.Mod != 0 {
		t.Errorf("view %+v, %v", view, err)
	}
	for _, kind := range []Kind{ServedService, Permit, Beat, Stray} {
		if err := s.Delete(t.Context(), kind, "shop"); err == nil {
			t.Errorf("a %s was deleted", kind)
		}
	}
}

func TestAReplicasReportGoesWithTheReplica(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s, dying := e.dial(), e.dial()
	ctx, cancel := context.WithCancel(t.Context())
	all := make(chan map[string]Report, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- s.WatchReplicas(ctx, func(reports map[string]Report) error {
			all <- reports
			return nil
		})
	}()
	if first := <-all; len(first) != 0 {
		t.Errorf("reports before any: %v", first)
	}
	report := Report{ID: "a", HTTP: "127.0.0.1:1", Applied: 7, At: 8, Proxies: 3, Releases: map[string]ReleaseReport{
		"shop": {Release: "green-1", Moved: 6, Reporting: 3, Fleet: policy.Fleet{Connected: 3, Confirmed: 2}},
	}}
	if err := s.PublishReport(t.Context(), "a", time.Minute, report); err != nil {
		t.Fatal(err)
	}
	got := <-all
	if len(got) != 1 || got["a"].Applied != 7 || got["a"].Releases["shop"].Fleet.Confirmed != 2 {
		t.Errorf("reports %+v", got)
	}
	for applied := range int64(3) {
		if err := dying.PublishReport(t.Context(), "b", 2*time.Second, Report{ID: "b", Applied: applied}); err != nil {
			t.Fatal(err)
		}
		if got := <-all; len(got) != 2 || got["b"].Applied != applied {
			t.Errorf("reports %+v", got)
		}
	}
	leases, err := s.client.Leases(t.Context())
	if err != nil || len(leases.Leases) != 2 {
		t.Errorf("%d leases, want one for each replica; %v", len(leases.Leases), err)
	}
	put(t, s, Prefix+"replicas/c", "{")
	<-all

	// Its lease is lost while it lives: the next report makes a new one.
	dying.mu.Lock()
	lease := dying.reports[Prefix+"replicas/b"]
	dying.mu.Unlock()
	if _, err := s.client.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if got := <-all; len(got) != 1 {
		t.Errorf("reports after the loss of a lease: %+v", got)
	}
	if err := dying.PublishReport(t.Context(), "b", 2*time.Second, Report{ID: "b", Applied: 9}); err != nil {
		t.Fatal(err)
	}
	if got := <-all; len(got) != 2 || got["b"].Applied != 9 {
		t.Errorf("reports %+v", got)
	}
	if err := dying.client.Close(); err != nil {
		t.Error(err)
	}
	if got := <-all; len(got) != 1 || got["a"].ID != "a" {
		t.Errorf("reports after the replica's end: %+v", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
