package replica

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/xds"
)

func TestNobodyLeadsBeforeItKnowsWhatIsServed(t *testing.T) {
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
	d := NewDeciding(DecidingConfig{ID: "a", LeaderTTL: 2 * time.Second, Now: time.Now, Log: log}, serving, m)

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
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
