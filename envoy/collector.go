package envoy

import (
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/rampart-proxy/rampart/policy"
)

// Wanted is a service whose reports are asked for, because a release of it runs.
type Wanted struct {
	Service, Release        string
	LivePool, CandidatePool string // of load reports
	LiveArm, CandidateArm   string // of statistics
	Gateways                []string
	Metrics                 []string // that requests report of themselves, as Analysis.Quality lists them
	// Settled is Renderer.Settled: when it moves, the next report of each proxy counts as unsettled.
	Settled int64
}

// WantedOf is what must be asked for while the release of a service runs.
func WantedOf(s *policy.Served, settled int64) Wanted {
	name, live, candidate := s.Service.Name, s.Live.Backend, s.Release.Candidate.Backend
	return Wanted{
		Service: name, Release: s.Release.ID, Gateways: s.Service.Gateways, Metrics: qualities(s.Service), Settled: settled,
		LivePool: Pool(name, live), CandidatePool: Pool(name, candidate),
		LiveArm: LiveArm(name, live), CandidateArm: CandidateArm(name, candidate, live),
	}
}

// qualities are the names of the metrics that requests report of themselves.
func qualities(s policy.Service) []string {
	var names []string
	for _, q := range s.Analysis.Quality {
		names = append(names, q.ORCA)
	}
	return names
}

// CollectorConfig is what a Collector works with.
type CollectorConfig struct {
	Now   func() time.Time
	Touch func(node string, at time.Time) // something came from this proxy; may be nil
	Log   *slog.Logger
	// Budget is how many bytes of load reports a second this replica reads at most; 0 is 20 MB. Of a fleet that is too large for it a random part reports fast.
	Budget int
}

// Collector asks proxies for load reports (LRS) while releases run, takes the statistics that they send by themselves (metrics service), and adds both up into
// readings. Both are read by our own decoders, so the gRPC server it is registered with must use Codec.
type Collector struct {
	config  CollectorConfig                   // fixed after NewCollector
	seed    maphash.Seed                      // fixed after NewCollector
	watched atomic.Pointer[map[string]*watch] // by cluster; the map is never changed. Read by decoders, written with mu held

	mu         sync.Mutex
	wanted     map[string]Wanted               // guarded by mu: by service
	generation uint64                          // guarded by mu: of watched
	pace       pace                            // guarded by mu: how often proxies with wanted clusters are asked to report
	rosters    map[string]*roster              // guarded by mu, and so is what is in them: by gateway, of those that a release runs in or that have streams
	streams    map[*reportStream]struct{}      // guarded by mu, and so is what is in them
	stations   map[string]*station             // guarded by mu, and so is what is in them: by node
	tallies    map[string]*tally               // guarded by mu: by service, since the last Take
	held       map[string]map[string]time.Time // guarded by mu: service, node → since when Take finds it steady
	opened     uint64                          // guarded by mu: streams so far
	quiet      bool                            // guarded by mu: nobody is to report any more
}

// role says what a cluster is in a release.
type role int

// The roles.
const (
	livePool role = iota
	candidatePool
	liveArm
	candidateArm
)

// watch says whose a cluster's figures are. It is another one for each release, and never changes.
type watch struct {
	cluster, service, release string
	role                      role
	generation                uint64 // of watched, when it came
}

// NewCollector asks for nothing yet.
func NewCollector(c CollectorConfig) *Collector {
	if c.Touch == nil {
		c.Touch = func(string, time.Time) {}
	}
	collector := &Collector{
		config: c, seed: maphash.MakeSeed(), wanted: map[string]Wanted{}, pace: newPace(c.Budget),
		rosters: map[string]*roster{}, streams: map[*reportStream]struct{}{}, stations: map[string]*station{}, tallies: map[string]*tally{}, held: map[string]map[string]time.Time{},
	}
	collector.watched.Store(&map[string]*watch{})
	return collector
}

// Interval is how often proxies with running releases report: 250 ms, 500 ms in large fleets, of which only a part reports so often. A turn of the judge takes as
// long.
func (c *Collector) Interval() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pace.fast
}

// Register makes the collector the load reporting service and the metrics service of a gRPC server.
func (c *Collector) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(c.loadReporting(), c)
	r.RegisterService(c.metricsService(), c)
}

// Want sets which services run a release. Proxies are told only where that changes what they must report. It may be called at every change of anything.
func (c *Collector) Want(wanted []Wanted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]Wanted, len(wanted))
	for _, w := range wanted {
		next[w.Service] = w
	}
	if maps.EqualFunc(c.wanted, next, sameWanted) {
		return
	}
	for service, old := range c.wanted {
		w, still := next[service]
		if !still || w.Release != old.Release {
			delete(c.tallies, service) // what is left of another release must not count in this one
			delete(c.held, service)
			c.each(func(l *listing) { l.begin() }, old.LivePool, old.CandidatePool)
		}
		if t := c.tallies[service]; t != nil && !slices.Equal(w.Metrics, old.Metrics) {
			t.quality = nil
		}
		if still && w.Settled != old.Settled {
			c.each(func(l *listing) { l.fresh = true }, w.LivePool, w.CandidatePool)
		}
	}
	c.wanted = next
	c.watch()
	c.start()
	c.fit()
	for s := range c.streams {
		c.tell(s)
	}
}

// watch tells the decoders what matters. The caller holds mu.
func (c *Collector) watch() {
	c.generation++
	old, next := *c.watched.Load(), make(map[string]*watch, 4*len(c.wanted))
	for _, w := range c.wanted {
		for i, cluster := range [...]string{w.LivePool, w.CandidatePool, w.LiveArm, w.CandidateArm} {
			one := watch{cluster: cluster, service: w.Service, release: w.Release, role: role(i), generation: c.generation}
			if before := old[cluster]; before != nil && before.of(one) {
				next[cluster] = before
			} else if cluster != "" {
				next[cluster] = &one
			}
		}
	}
	c.watched.Store(&next)
}

// of reports whether both are the same but for their generations.
func (w watch) of(other watch) bool {
	w.generation = other.generation
	return w == other
}

func sameWanted(a, b Wanted) bool {
	return a.Service == b.Service && a.Release == b.Release && a.Settled == b.Settled && slices.Equal(a.Gateways, b.Gateways) && slices.Equal(a.Metrics, b.Metrics) &&
		a.LivePool == b.LivePool && a.CandidatePool == b.CandidatePool && a.LiveArm == b.LiveArm && a.CandidateArm == b.CandidateArm
}

// each does something to all listings of clusters. The caller holds mu.
func (c *Collector) each(do func(*listing), clusters ...string) {
	for s := range c.streams {
		for _, cluster := range clusters {
			if listed := s.listed[cluster]; listed != nil {
				do(listed)
			}
		}
	}
}
