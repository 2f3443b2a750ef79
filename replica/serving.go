package replica

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/xds"
)

// Serving is the half of a replica that renders what is committed and pushes it. It judges nothing and decides nothing, but it can take a release back from
// memory, with or without etcd.
type Serving struct {
	// Fixed after NewServing.
	id        string
	store     *store.Store
	latch     *store.Latch
	xds       *xds.Server
	collector *envoy.Collector
	ledger    *ledger
	metrics   *metrics
	now       func() time.Time
	log       *slog.Logger
	limited   *limited
	wake      chan struct{} // capacity 1: something changed that the deciding half may want to look at
	later     chan struct{} // capacity 1: something is held for a moment
	unlatched chan struct{} // capacity 1: a rollback waits to be written to etcd
	seen      chan struct{} // closed when all that is in etcd was seen once

	mu       sync.Mutex
	state    *state              // guarded by mu
	renderer *envoy.Renderer     // guarded by mu
	gathered []store.Batch       // guarded by mu: what is not looked at yet, because more had arrived already
	due      time.Time           // guarded by mu: when what is held goes on; zero: nothing is
	asked    map[string]struct{} // guarded by mu: services that reports are asked for
	dirty    map[string]bool     // guarded by mu: services changed since the deciding half last looked
	dirtyGw  bool                // guarded by mu
	orphans  []string            // guarded by mu: services this data folder knows as served and etcd no longer has
	needs    map[string]string   // guarded by mu: what the deciding half wants a person for, by service
	opened   bool                // guarded by mu
	awaited  map[int64]time.Time // guarded by mu: revisions that this replica saved and the watch has yet to bring, and when they were saved
}

// ServingConfig is what a serving half works with.
type ServingConfig struct {
	ID        string // of this replica
	Store     *store.Store
	Latch     *store.Latch
	Xds       *xds.Server
	Collector *envoy.Collector
	Folder    string // of data
	Now       func() time.Time
	Log       *slog.Logger
}

// NewServing makes a serving half that has seen nothing yet and refuses streams until it has.
func NewServing(c ServingConfig, m *metrics) *Serving {
	return &Serving{
		id: c.ID, store: c.Store, latch: c.Latch, xds: c.Xds, collector: c.Collector, ledger: newLedger(c.Folder), metrics: m, now: c.Now, log: c.Log,
		wake: make(chan struct{}, 1), later: make(chan struct{}, 1), unlatched: make(chan struct{}, 1), seen: make(chan struct{}),
		state: newState(), renderer: envoy.NewRenderer(), asked: map[string]struct{}{}, dirty: map[string]bool{}, needs: map[string]string{}, awaited: map[int64]time.Time{},
		limited: newLimited(c.Log),
	}
}

// renderService hands the renderer what the service weighs now by the serving rule; what differs is dated with revision. The caller holds mu.
func (s *Serving) renderService(name string, revision int64) {
	v := s.state.service(name)
	if !v.served.Serves() {
		s.renderer.SetService(name, nil, envoy.State{}, revision)
		return
	}
	standing := envoy.State{Permit: v.permitted(), Latched: s.latched(name, v.served)}
	s.renderer.SetService(name, v.served, standing, revision)
}

func (s *Serving) latched(name string, served *policy.Served) bool {
	return served.Release != nil && s.latch.Holds(name, served.Release.ID)
}

func (s *Serving) renderGateway(name string) {
	g := s.state.gateway(name)
	switch {
	case g.served.Serves():
		served := g.served.Gateway
		s.renderer.SetGateway(name, &served, s.state.revision)
	case name == policy.DefaultGateway:
		s.renderer.SetGateway(name, nil, s.state.revision)
	}
}

// await measures how long the watch takes to bring a revision that this replica saved.
func (s *Serving) await(revision int64, saved time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaited[revision] = saved
	s.arrived()
}

// arrived ends the waits that the newest batch ended. The caller holds mu.
func (s *Serving) arrived() {
	for revision, saved := range s.awaited {
		if revision <= s.state.revision {
			s.metrics.lagged(max(0, s.now().Sub(saved)))
			delete(s.awaited, revision)
		}
	}
}

// see notes that the first batch, which is all that etcd holds, has been taken. The caller holds mu.
func (s *Serving) see() {
	select {
	case <-s.seen:
	default:
		close(s.seen)
	}
}

// open lets proxies in once everything that this replica ever served is there. Until then they keep what they have. The caller holds mu.
func (s *Serving) open() {
	if s.opened {
		return
	}
	missing, err := s.ledger.missing(s.state, s.store.ClusterID())
	for _, cluster := range s.ledger.clusters {
		s.xds.Adopt(cluster)
	}
	if err != nil {
		s.log.Error("what was served before cannot be compared with etcd", "err", err)
	}
	told := slices.Equal(s.orphans, missing)
	s.orphans = missing
	if len(missing) > 0 {
		if !told {
			s.log.Error("etcd lacks services that were served before: proxies keep what they have until `rampart adopt`", "service", missing)
		}
		return
	}
	s.opened = true
	s.xds.Open()
}

// adopt accepts what is gone as gone. The caller holds mu.
func (s *Serving) adopt(t touched) {
	for _, name := range s.state.adopt() {
		t.services[name] = true
	}
	for name := range s.state.services {
		s.dirty[name] = true
	}
	for _, cluster := range s.ledger.adopt(s.xds.Foreign(), s.store.ClusterID()) {
		s.xds.Adopt(cluster)
	}
	s.orphans = nil
	s.log.Info("adopted: what is gone from etcd is no longer served", "rev", s.state.revision)
}

// Rollback takes a release back at once, from memory: latch, then push. Writing it to etcd is Sweep's task, which goes on until it sticks.
func (s *Serving) Rollback(service string, r policy.Rollback) {
	if s.latch.Holds(service, r.Release) {
		poke(s.unlatched)
		return
	}
	entry := store.LatchEntry{Service: service, Release: r.Release, At: s.now(), Reason: r.Reason, Numbers: r.Numbers}
	if err := s.latch.Add(entry); err != nil {
		s.log.Error("the rollback holds in memory only", "service", service, "release", r.Release, "err", err)
	}
	s.mu.Lock()
	if v := s.state.services[service]; v != nil && v.served.Serves() {
		// It is ahead of etcd: only what is accepted from now on confirms it, not what was at this revision before.
		s.renderService(service, s.state.revision+1)
		s.publish()
	}
	s.mu.Unlock()
	s.log.Info("rolling back", "service", service, "release", r.Release, "reason", r.Reason)
	poke(s.unlatched)
}

// TakeOver takes back what a proxy's layer says that another replica took back, in case its word has not come through etcd yet.
func (s *Serving) TakeOver(latched []envoy.Latched) {
	for _, l := range latched {
		s.mu.Lock()
		v := s.state.services[l.Service]
		open := v != nil && v.permits[l.Release] > 0 && !s.latch.Holds(l.Service, l.Release)
		s.mu.Unlock()
		if open {
			s.Rollback(l.Service, policy.Rollback{Release: l.Release, Reason: "another replica took it back, as a proxy tells"})
		}
	}
}

const (
	sweepEvery = 200 * time.Millisecond // how often a rollback that etcd did not take is tried again
	recordIn   = 300 * time.Millisecond // how long its record may hold it up
	deleteIn   = 2 * time.Second        // how long etcd may take
)

// Sweep writes latched rollbacks to etcd, as deleted permits and records, until they stick.
func (s *Serving) Sweep(ctx context.Context) error {
	for {
		if s.sweepOnce(ctx) {
			if !sleep(ctx, sweepEvery) {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.unlatched:
		case <-time.After(5 * time.Second): // a permit may come back from a backup
		}
	}
}

// sweepOnce tries each latched release whose permit still exists, and reports whether one is left.
func (s *Serving) sweepOnce(ctx context.Context) (left bool) {
	for _, entry := range s.openPermits() {
		if err := s.sweepRelease(ctx, entry); err != nil {
			left = true
			s.log.Warn("the rollback is pushed, etcd has not taken it yet", "service", entry.Service, "release", entry.Release, "err", err)
		}
	}
	return left
}

// sweepRelease deletes a permit. The record of why goes first, so that whoever sees the permit go finds it; an etcd that does not take it, because it is out of
// space or only just back, must not hold the rollback up.
func (s *Serving) sweepRelease(ctx context.Context, entry store.LatchEntry) error {
	unrecorded := s.record(ctx, entry, recordIn)
	short, cancel := context.WithTimeout(ctx, deleteIn)
	defer cancel()
	if err := s.store.DeletePermit(short, entry.Service, entry.Release); err != nil || unrecorded == nil {
		return err
	}
	if err := s.record(ctx, entry, deleteIn); err != nil {
		s.log.Warn("why a release was taken back could not be recorded", "service", entry.Service, "release", entry.Release, "err", err)
	}
	return nil
}

func (s *Serving) record(ctx context.Context, entry store.LatchEntry, within time.Duration) error {
	short, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	record := store.RollbackRecord{At: entry.At, Reason: entry.Reason, Replica: s.id, Numbers: entry.Numbers}
	return s.store.RecordRollback(short, entry.Service, entry.Release, record)
}

func (s *Serving) openPermits() []store.LatchEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []store.LatchEntry
	for _, entry := range s.latch.All() {
		if v := s.state.services[entry.Service]; v != nil && v.permits[entry.Release] > 0 {
			open = append(open, entry)
		}
	}
	return open
}

// fleet merges what this replica's proxies have accepted of a service's newest served state.
func (s *Serving) fleet(name string) policy.Fleet {
	s.mu.Lock()
	ready, confirmed := s.renderer.Ready(name), s.renderer.Confirmed(name)
	s.mu.Unlock()
	now := s.now()
	fleet := policy.Fleet{Slow: s.collector.Slow(name)}
	for group, want := range confirmed {
		standing := s.xds.Standing(group, want)
		fleet.Connected += standing.Connected
		fleet.Confirmed += standing.Met
		set := s.xds.Standing(group, ready[group])
		fleet.Ready += set.Met
		fleet.Rejected += max(standing.Rejected, set.Rejected)
		if standing.LastAck.After(fleet.LastAck) {
			fleet.LastAck = standing.LastAck
		}
		named := map[uint64]bool{}
		for _, p := range append(standing.Waiting, set.Waiting...) {
			if !named[p.Stream] {
				named[p.Stream] = true
				fleet.Waiting = append(fleet.Waiting, words(p, now))
			}
		}
	}
	fleet.Waiting = fleet.Waiting[:min(len(fleet.Waiting), maxWords)]
	return fleet
}

const maxWords = 3

func words(p xds.Proxy, now time.Time) policy.ProxyWords {
	w := policy.ProxyWords{Proxy: p.Node, Version: p.Version, Silent: now.Sub(p.LastSeen)}
	if len(p.Rejections) > 0 {
		w.Says = p.Rejections[len(p.Rejections)-1].Words
	}
	if p.Frozen != "" {
		w.Says = p.Frozen
	}
	return w
}

func (s *Serving) adoptedAt() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.adopted
}

func poke(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// sleep waits and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
