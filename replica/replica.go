package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/queries"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/xds"
)

// Config is what a replica runs with. The caller owns the listeners until New; Run closes them.
type Config struct {
	ID        string // unique among the replicas of one etcd, and the same after a restart
	Folder    string // data folder; this process holds its lock
	Store     *store.Store
	Xds       net.Listener
	HTTP      net.Listener
	LeaderTTL time.Duration
	// ReportBytes is how many bytes of load reports are read a second at most; 0 is envoy.CollectorConfig's default.
	ReportBytes int
	// Prometheus is the URL of the server for queries that name none; "" is none.
	Prometheus string
	// Drain is over how long the proxies are sent to the other replicas when this one is asked to end; 0: they are cut off.
	Drain  time.Duration
	Limits xds.Limits
	Now    func() time.Time
	Log    *slog.Logger
}

// Replica is one rampart process at work.
type Replica struct {
	config    Config
	serving   *Serving
	deciding  *Deciding
	queries   *queries.Poller
	reporting Reporting
	xds       *xds.Server
	grpc      *grpc.Server
	http      *http.Server
	metrics   *metrics
}

// New puts a replica together. It fails when the data folder's latch cannot be read: a rollback might be forgotten.
func New(c Config) (*Replica, error) {
	latch, err := store.OpenLatch(filepath.Join(c.Folder, "latch"))
	if err != nil {
		return nil, fmt.Errorf("start a replica: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := newMetrics(registry)
	r := &Replica{config: c, metrics: m}
	r.xds = xds.New(xds.Config{
		Cluster: c.Store.ClusterID(), Group: r.groupOf, Now: c.Now, Log: c.Log, Events: r.xdsEvent, Limits: c.Limits,
		Held: func(_ xds.Key, tag string) { r.serving.TakeOver(envoy.LatchedIn(tag)) },
	})
	collector := envoy.NewCollector(envoy.CollectorConfig{Now: c.Now, Touch: r.xds.Touch, Log: c.Log, Budget: c.ReportBytes})
	r.serving = NewServing(ServingConfig{
		ID: c.ID, Store: c.Store, Latch: latch, Xds: r.xds, Collector: collector, Folder: c.Folder, Now: c.Now, Log: c.Log,
	}, m)
	m.watchProxies(registry, r.serving)
	r.queries = queries.New(queries.Config{Server: c.Prometheus, Now: c.Now, Log: c.Log, Count: m.queried})
	r.deciding = NewDeciding(DecidingConfig{
		ID: c.ID, LeaderTTL: c.LeaderTTL, LeaseFile: filepath.Join(c.Folder, "lease"), Queries: r.queries, Now: c.Now, Log: c.Log,
	}, r.serving, m)
	r.reporting = Reporting{Serving: r.serving, ID: c.ID, HTTP: c.HTTP.Addr().String(), TTL: c.LeaderTTL}
	r.grpc = grpc.NewServer(r.xds.GRPCOptions(envoy.Codec())...)
	r.xds.Register(r.grpc)
	collector.Register(r.grpc)
	r.http = &http.Server{Handler: r.routes(registry), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	return r, nil
}

// groupOf puts a proxy into its group, and has what was left undone for a group without proxies done before it is answered.
func (r *Replica) groupOf(node *corev3.Node, protocol xds.Protocol) string {
	group := envoy.GroupOf(node, protocol)
	r.serving.welcome(group)
	return group
}

// xdsEvent counts what happens on streams, and names proxies that lack something.
func (r *Replica) xdsEvent(e xds.Event) {
	r.metrics.xdsEvent(e)
	r.serving.limited.note(e, r.config.Now())
	if e.Kind != xds.ProxyConnected {
		return
	}
	r.serving.welcomed(e.Group)
	if lacks := envoy.Dated(e.Version); lacks != "" {
		r.config.Log.Warn("an old proxy has connected", "proxy", e.Node, "version", e.Version, "reason", lacks)
	}
}

// Run works until ctx ends. Then it resigns, and has its proxies go to the other replicas, if there are any, a few at a time; until the last has gone it goes on serving
// them. Any part that fails ends it with a clear error.
func (r *Replica) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(serving)
	deciding, resign := context.WithCancel(serving)
	defer resign()
	resigned := make(chan struct{})
	group.Go(func() error {
		defer close(resigned)
		return ended(deciding, r.deciding.Run(deciding))
	})
	for _, run := range []func(context.Context) error{
		r.serving.Run, r.serving.GoOn, r.serving.Sweep, r.deciding.FollowReplicas, r.reporting.Run, r.xds.Run, r.queries.Run, r.giveBack,
	} {
		group.Go(func() error { return ended(serving, run(serving)) })
	}
	group.Go(func() error {
		if err := r.grpc.Serve(r.xds.Listen(r.config.Xds)); !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil // it was asked to end before it began
	})
	group.Go(func() error {
		if err := r.http.Serve(r.config.HTTP); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		select {
		case <-ctx.Done():
			until := time.Now().Add(endIn)
			resign()
			<-resigned
			r.xds.Dismiss()
			r.drain(serving, min(r.config.Drain, time.Until(until)-drainGrace))
		case <-serving.Done():
		}
		stop()
		r.xds.Dismiss()
		r.grpc.Stop()
		return r.http.Close()
	})
	return group.Wait()
}

// ended makes the end of a part that should run for ever an error, unless it was asked to end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("a part of the replica ended by itself")
	}
	return err
}

// ID returns the replica id kept in a data folder, made from the host's name when there is none yet.
func ID(folder string) (string, error) {
	path := filepath.Join(folder, "replica")
	if data, err := os.ReadFile(path); err == nil && len(data) > 0 {
		return string(data), nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	id := fmt.Sprintf("%s-%x", host, time.Now().UnixNano())
	if err := os.WriteFile(path, []byte(id), 0o600); err != nil {
		return "", fmt.Errorf("write the replica's id: %w", err)
	}
	return id, nil
}
