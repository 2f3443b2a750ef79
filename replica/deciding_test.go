package replica

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/xds"
)

// halves are a serving and a deciding half over a real etcd that the test feeds itself.
func halves(t *testing.T) (*Serving, *Deciding) {
	t.Helper()
	program, err := testenv.Self(testenv.RoleEtcd)
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := testenv.StartEtcd(t.Context(), testenv.EtcdConfig{Program: program, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
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
	return serving, NewDeciding(DecidingConfig{ID: "a", LeaderTTL: 2 * time.Second, Now: time.Now, Log: log}, serving, m)
}

func TestNobodyLeadsBeforeItKnowsWhatIsServed(t *testing.T) {
	serving, d := halves(t)
	ctx, cancel := context.WithCancel(t.Context())
	elected, ended := make(chan *store.Leadership), make(chan struct{})
	go func() {
		defer close(ended)
		d.campaign(ctx, elected, make(chan struct{}))
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
	<-ended
}

func TestALatchThatAProxyBringsAlongIsAdopted(t *testing.T) {
	serving, _ := halves(t)
	release := &policy.Release{ID: "green-7", Phase: policy.Soaking, Weight: 2500}
	serving.follow(store.Batch{Revision: 7, Relisted: true, Changes: []store.Change{
		{Kind: store.ServedService, Name: "shop", Value: servedShop(t, release), Mod: 7},
		{Kind: store.Permit, Name: "shop", Release: "green-7", Mod: 7},
	}})
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
