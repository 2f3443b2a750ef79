package xds

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	defaultGrace = 5 * time.Second
	drainStep    = 10 * time.Millisecond
	linesEach    = 10   // a second: who is cut off comes again at once
	linesAtOnce  = 1000 // else only at debug level
)

// Server serves what is published to it over aggregated discovery streams. Its methods may be
// called from any goroutine.
type Server struct {
	// Fixed after New.
	cluster  string
	groupOf  func(*corev3.Node, Protocol) string
	held     func(Key, string)
	now      func() time.Time
	log      *slog.Logger
	grace    time.Duration
	events   func(Event)
	epoch    time.Time // what the atomic times count from
	limits   Limits
	lines    *rate.Limiter // of the log about who comes and goes
	seeds    seeds
	queue    *queue
	arrivals *places // of those that come back with something to say
	firsts   firsts  // have a lock of their own

	answering *semaphore.Weighted // one client that asks what proxies have is answered at a time

	strangers  strangers  // has its own lock
	companions companions // has its own lock

	opened    atomic.Pointer[time.Time]
	proof     atomic.Pointer[time.Time] // written under proving
	published atomic.Pointer[progress]  // written under publishing
	floor     atomic.Int64              // the newest revision that any proxy ever named
	closed    atomic.Bool
	// foreigners: some proxy once brought a version of another etcd cluster.
	foreigners atomic.Bool

	publishing sync.Mutex // orders calls of Publish
	proving    sync.Mutex // orders calls of Prove

	// mu may be taken while a group's is held, never the other way round.
	mu      sync.Mutex
	groups  map[string]*group   // guarded by mu
	nodes   map[string]*node    // guarded by mu: those with a stream
	adopted map[string]struct{} // guarded by mu: other etcd clusters' ids
	streams uint64              // guarded by mu: how many there ever were
	open    int                 // guarded by mu: how many there are
	kinds   map[string]int      // guarded by mu: streams there are of each service, those that have not said anything included
}

// node is what the streams of one node id have in common.
type node struct {
	streams int          // guarded by Server.mu
	touched atomic.Int64 // when something last came from it on a stream that is not ours, as time since Server.epoch
}

// progress is how far publishing has come.
type progress struct {
	revision int64
	text     string           // as the responses' system version
	heads    [unranked][]byte // how responses of delta begin, by the rank of their type
}

func newProgress(cluster string, revision int64) *progress {
	p := &progress{revision: revision, text: cluster + "." + strconv.FormatInt(revision, 10)}
	for _, url := range []string{ClusterType, EndpointType, ListenerType, RouteType, RuntimeType} {
		p.heads[rank(url)] = appendHead(nil, p.text, url)
	}
	return p
}

// head is how a response of delta of this type begins.
func (p *progress) head(url string) []byte {
	if r := rank(url); r < unranked && p.heads[r] != nil {
		return p.heads[r]
	}
	return appendHead(nil, p.text, url)
}

// New makes a server that refuses streams until Open.
func New(c Config) *Server {
	s := &Server{
		cluster: c.Cluster, groupOf: c.Group, held: c.Held, now: c.Now, log: c.Log, events: c.Events,
		grace: cmp.Or(c.Grace, defaultGrace), epoch: c.Now(),
		limits: c.Limits.WithDefaults(), lines: rate.NewLimiter(linesEach, linesAtOnce), seeds: newSeeds(), queue: newQueue(max(2, runtime.GOMAXPROCS(0))),
		groups: map[string]*group{}, nodes: map[string]*node{}, adopted: map[string]struct{}{}, kinds: map[string]int{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.answering = semaphore.NewWeighted(1)
	s.arrivals = newPlaces(s.limits.ArrivalBytes)
	s.firsts.places, s.firsts.look = newPlaces(s.limits.FirstBytes), s.queue.add
	s.published.Store(&progress{})
	return s
}

// Run sends to the streams, and disconnects proxies that have gone silent, until ctx ends; then it
// ends all streams and lets no more in.
func (s *Server) Run(ctx context.Context) error {
	var senders sync.WaitGroup
	for range s.queue.senders {
		senders.Go(s.sendAll)
	}
	defer senders.Wait()
	defer s.queue.close()
	tick := time.NewTicker(max(s.limits.Silence/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.closed.Store(true)
			s.each(func(one *session) { one.kick(status.Error(codes.Unavailable, "this server is shutting down")) })
			return nil
		case <-tick.C:
			s.expelSilent(s.now())
		}
	}
}

// Drain lets no more streams in and ends those there are one by one, in random order, over this time: their proxies go elsewhere, and not all at once. With each end those
// of other services over the same connection, which come back with as much as a proxy's reports, and would else all be cut off at once later. It returns when
// all were told, or ctx ends.
func (s *Server) Drain(ctx context.Context, over time.Duration) {
	s.closed.Store(true)
	var all []*session
	s.each(func(one *session) { all = append(all, one) })
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	pause := time.NewTicker(drainStep)
	defer pause.Stop()
	began, told := s.now(), 0
	for told < len(all) {
		due := len(all)
		if gone := s.now().Sub(began); gone < over {
			due = int(int64(len(all)) * int64(gone) / int64(over))
		}
		for ; told < due; told++ {
			all[told].kick(status.Error(codes.Unavailable, "this server is shutting down: another one goes on"))
			s.companions.end(all[told].leash)
		}
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// Open lets streams in. Before it they are refused as unavailable, so that proxies keep what they
// have or go to another server.
func (s *Server) Open() {
	now := s.now()
	s.opened.CompareAndSwap(nil, &now)
}

// openedAt is when Open was called.
func (s *Server) openedAt() time.Time {
	if at := s.opened.Load(); at != nil {
		return *at
	}
	return s.now()
}

// Publish makes the updates what their groups' proxies get from now on, as of this etcd revision.
// Everything that changed up to the revision must have been published with it or before it. It
// never waits for a stream. Content that equals what is published keeps its version and is not sent
// again.
func (s *Server) Publish(revision int64, updates []Update) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	before := s.reached()
	if revision < before {
		s.log.Error("published an older revision than before", "rev", revision, "reason", "expected at least "+strconv.FormatInt(before, 10))
	}
	origin := version{cluster: s.cluster, revision: revision}
	for _, urgent := range []bool{true, false} { // what is published for one group takes time, and another's weights must not wait for it
		for _, u := range updates {
			if u.Urgent == urgent {
				s.update(u, origin)
			}
		}
	}
	if revision <= before {
		return
	}
	s.published.Store(newProgress(s.cluster, revision))
	if s.floor.Load() > before {
		s.lookAtAll() // some were withheld until now
	}
}

func (s *Server) update(u Update, origin version) {
	g := s.lockGroup(u.Group)
	concerned := g.publish(u, origin)
	g.mu.Unlock()
	s.queue.add(u.Urgent, concerned...)
}

// reached is the newest published revision.
func (s *Server) reached() int64 { return s.published.Load().revision }

// Adopt lets proxies be answered that hold versions of this other etcd cluster, for instance the
// one that a backup was taken from. Until then their streams are frozen: an etcd that lost its
// content must not empty the proxies.
func (s *Server) Adopt(cluster string) {
	s.mu.Lock()
	s.adopted[cluster] = struct{}{}
	s.mu.Unlock()
	s.lookAtAll()
}

// lookAtAll has all streams looked at.
func (s *Server) lookAtAll() {
	var all []*session
	s.each(func(one *session) { all = append(all, one) })
	s.queue.add(false, all...)
}

func (s *Server) adopts(cluster string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, adopted := s.adopted[cluster]
	return adopted
}

// Touch says that something came from this node on another stream, such as a load report: it is not
// silent.
func (s *Server) Touch(name string, at time.Time) {
	s.mu.Lock()
	n := s.nodes[name]
	s.mu.Unlock()
	if n != nil {
		later(&n.touched, int64(at.Sub(s.epoch)))
	}
}

// later moves an atomic time forward.
func later(at *atomic.Int64, to int64) {
	for {
		was := at.Load()
		if was >= to || at.CompareAndSwap(was, to) {
			return
		}
	}
}

// lockGroup returns a group, which exists from now on, with its mutex locked.
func (s *Server) lockGroup(name string) *group {
	for {
		s.mu.Lock()
		g := s.groups[name]
		if g == nil {
			g = newGroup(name, s.seeds)
			s.groups[name] = g
		}
		s.mu.Unlock()
		g.mu.Lock()
		if !g.dead {
			return g
		}
		g.mu.Unlock()
	}
}

// all returns the groups there are.
func (s *Server) all() []*group {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := make([]*group, 0, len(s.groups))
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	return groups
}

// each calls do for every session, under its group's mutex. One that do panics on ends, and no other.
func (s *Server) each(do func(*session)) {
	for _, g := range s.all() {
		g.mu.Lock()
		for _, one := range g.sessions {
			if err := s.contain(one.node, func() error { do(one); return nil }); err != nil {
				one.kick(err)
			}
		}
		g.mu.Unlock()
	}
}

// report hands events on, whatever becomes of them there. No mutex is held.
func (s *Server) report(events ...Event) {
	if s.events == nil {
		return
	}
	for _, e := range events {
		_ = s.contain(e.Node, func() error { s.events(e); return nil })
	}
}
