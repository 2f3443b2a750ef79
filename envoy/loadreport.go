package envoy

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rampart-proxy/rampart/policy"
)

// Wanted is a service whose reports are asked for, because a release of it runs.
type Wanted struct {
	Service, LivePool, CandidatePool, Release string
	Gateways                                  []string
	// Settled is Renderer.Settled: when it moves, the next report of each proxy counts as unsettled.
	Settled int64
}

// CollectorConfig is what a Collector works with.
type CollectorConfig struct {
	Now   func() time.Time
	Touch func(node string, at time.Time) // something came from this proxy; may be nil
	Log   *slog.Logger
}

const (
	fastest   = 250 * time.Millisecond
	atRest    = time.Hour
	heardOf   = 3          // intervals within which a proxy must have reported
	nodeBytes = 61_000     // in every report (envoy-measured.md §13)
	readBytes = 20_000_000 // per second, by one replica
)

// Collector asks proxies for load reports (LRS) while releases run, and adds them up into readings. Reports are read by our own decoder, so the gRPC server it is
// registered with must use Codec.
type Collector struct {
	config CollectorConfig // fixed after NewCollector

	mu       sync.Mutex
	wanted   map[string]Wanted               // guarded by mu: by service
	pools    map[string]pledge               // guarded by mu: by cluster
	interval time.Duration                   // guarded by mu: what proxies with wanted clusters are asked for
	streams  map[*reportStream]struct{}      // guarded by mu, and so is what is in them
	tallies  map[string]*tally               // guarded by mu: by service, since the last Take
	held     map[string]map[string]time.Time // guarded by mu: service, node → since when Take finds it steady
	opened   uint64                          // guarded by mu: streams so far
}

// pledge says whose a cluster's counts are.
type pledge struct {
	service   string
	candidate bool
}

// NewCollector asks for nothing yet.
func NewCollector(c CollectorConfig) *Collector {
	if c.Touch == nil {
		c.Touch = func(string, time.Time) {}
	}
	return &Collector{
		config: c, wanted: map[string]Wanted{}, pools: map[string]pledge{}, interval: fastest,
		streams: map[*reportStream]struct{}{}, tallies: map[string]*tally{}, held: map[string]map[string]time.Time{},
	}
}

// Want sets which services run a release. Proxies are told only where that changes what they must report. It may be called at every change of anything.
func (c *Collector) Want(wanted []Wanted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, pools := make(map[string]Wanted, len(wanted)), make(map[string]pledge, 2*len(wanted))
	for _, w := range wanted {
		next[w.Service] = w
		pools[w.LivePool] = pledge{service: w.Service}
		pools[w.CandidatePool] = pledge{service: w.Service, candidate: true}
	}
	if maps.EqualFunc(c.wanted, next, sameWanted) {
		return
	}
	for service, old := range c.wanted {
		w, still := next[service]
		if !still || w.Release != old.Release {
			delete(c.tallies, service) // what is left of another release must not count in this one
			delete(c.held, service)
		}
		if still && w.Settled != old.Settled {
			c.unsettle(w.LivePool, w.CandidatePool)
		}
	}
	c.wanted, c.pools = next, pools
	c.tell()
}

func sameWanted(a, b Wanted) bool {
	gateways := slices.Equal(a.Gateways, b.Gateways)
	a.Gateways, b.Gateways = nil, nil
	return gateways && a.Service == b.Service && a.LivePool == b.LivePool && a.CandidatePool == b.CandidatePool && a.Release == b.Release && a.Settled == b.Settled
}

// unsettle marks the next reports of clusters. The caller holds mu.
func (c *Collector) unsettle(clusters ...string) {
	for s := range c.streams {
		for _, cluster := range clusters {
			if listed := s.listed[cluster]; listed != nil {
				listed.fresh = true
			}
		}
	}
}

// tell wakes the streams; those whose order is still right say nothing. The caller holds mu.
func (c *Collector) tell() {
	c.pace()
	for s := range c.streams {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// pace sets the interval so that this replica reads readBytes a second at most. It moves in doublings, and back only when there is room to spare, so that a proxy
// that comes and goes does not have the whole fleet told anew. The caller holds mu.
func (c *Collector) pace() {
	reporting := 0
	for s := range c.streams {
		if slices.ContainsFunc(slices.Collect(maps.Values(c.wanted)), func(w Wanted) bool { return slices.Contains(w.Gateways, s.gateway) }) {
			reporting++
		}
	}
	load := func(interval time.Duration) float64 { return float64(reporting) * nodeBytes / interval.Seconds() }
	for load(c.interval) > readBytes {
		c.interval *= 2
	}
	for c.interval > fastest && load(c.interval/2) < 0.8*readBytes {
		c.interval /= 2
	}
}

// Interval is how often proxies with running releases report: 250 ms, and longer in large fleets. A turn of the judge takes as long.
func (c *Collector) Interval() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interval
}

// Register makes the collector the load reporting service of a gRPC server.
func (c *Collector) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: loadstatsv3.LoadReportingService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "StreamLoadStats", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return c.serve(stream) },
		}},
	}, c)
}

// serve reads one proxy's reports until it leaves. Orders are sent from a goroutine of their own, which ends with the stream.
func (c *Collector) serve(stream grpc.ServerStream) (err error) {
	defer c.contain(&err)
	report := loadReport{wantNode: true}
	if err := stream.RecvMsg(&report); err != nil {
		return err
	}
	s, err := c.enter(&report)
	if err != nil {
		return err
	}
	defer c.leave(s)
	c.config.Touch(s.node, c.config.Now())
	var sender sync.WaitGroup
	defer sender.Wait()
	defer close(s.done)
	sender.Go(func() { c.order(s, stream) })
	report.wantNode = false
	for {
		if err := stream.RecvMsg(&report); err != nil {
			return err
		}
		now := c.config.Now()
		c.config.Touch(s.node, now)
		c.count(s, &report, now)
	}
}

// contain turns a panic of one stream into that stream's end.
func (c *Collector) contain(err *error) {
	if cause := recover(); cause != nil {
		c.config.Log.Error("a load report stream panicked", "err", fmt.Sprint(cause))
		*err = status.Error(codes.Internal, "internal error")
	}
}

func (c *Collector) enter(first *loadReport) (*reportStream, error) {
	var node corev3.Node
	err := first.problem
	if err == nil {
		err = proto.Unmarshal(first.node, &node)
	}
	if err != nil || node.GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the first message of a load report stream must name the node")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened++
	s := &reportStream{
		number: c.opened, node: node.GetId(), gateway: node.GetCluster(),
		listed: map[string]*listing{}, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.streams[s] = struct{}{}
	c.tell()
	return s, nil
}

func (c *Collector) leave(s *reportStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
	if before := c.interval; len(c.wanted) > 0 {
		if c.pace(); c.interval != before {
			c.tell()
		}
	}
}

// order sends the proxy what it must report, at first and whenever that changes.
func (c *Collector) order(s *reportStream, stream grpc.ServerStream) {
	var ended error
	defer c.contain(&ended)
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		}
		response := c.next(s)
		if response == nil {
			continue
		}
		if err := stream.SendMsg(response); err != nil {
			return // the receiving side ends with the stream
		}
	}
}

// next is the order that a proxy must be sent, nil if it has the right one.
func (c *Collector) next(s *reportStream) *loadstatsv3.LoadStatsResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	clusters, interval := []string{}, atRest
	for _, w := range c.wanted {
		if slices.Contains(w.Gateways, s.gateway) {
			clusters, interval = append(clusters, w.LivePool, w.CandidatePool), c.interval
		}
	}
	slices.Sort(clusters)
	if !s.ask(clusters, interval) {
		return nil
	}
	return &loadstatsv3.LoadStatsResponse{Clusters: clusters, LoadReportingInterval: durationpb.New(interval)}
}

// count adds a report to the tallies.
func (c *Collector) count(s *reportStream, report *loadReport, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.heard = now
	if report.problem != nil {
		s.refuse(c.config.Log, "", report.problem)
		return
	}
	for _, r := range report.clusters {
		to, wanted := c.pools[r.cluster]
		listed := s.listed[r.cluster]
		if !wanted || listed == nil {
			s.refuse(c.config.Log, r.cluster, errLate)
			continue
		}
		if listed.repeats(r, now) {
			s.refuse(c.config.Log, r.cluster, errDoubled)
			continue
		}
		t := c.tallies[to.service]
		if t == nil {
			t = &tally{nodes: map[uint64]*share{}}
			c.tallies[to.service] = t
		}
		t.add(s, listed, to, r)
		listed.note(r, now)
	}
}

// Take returns what came since the last Take, by service: a reading for each service that is wanted. Steady tells whether a proxy has held the present weights for as
// long as a report at the fastest interval can reach back; of slower reports Take sees to it by itself. It is called without a lock held.
func (c *Collector) Take(now time.Time, steady func(service, node string) bool) map[string]policy.Reading {
	c.mu.Lock()
	tallies := c.tallies
	c.tallies = map[string]*tally{}
	asked := map[string][]string{}
	readings := map[string]policy.Reading{}
	for service, w := range c.wanted {
		readings[service] = policy.Reading{Reporting: len(c.reporting(service, now))}
		for s := range c.streams {
			if s.covers(w) {
				asked[service] = append(asked[service], s.node)
			}
		}
	}
	c.mu.Unlock()
	for service, reading := range readings {
		since := c.hold(service, asked[service], now, func(node string) bool { return steady(service, node) })
		if t := tallies[service]; t != nil {
			readings[service] = t.reading(reading, now, since)
		}
	}
	return readings
}

// hold returns since when Take has found the proxies of a service steady, without a break; who is not steady now is left out.
func (c *Collector) hold(service string, nodes []string, now time.Time, steady func(node string) bool) map[string]time.Time {
	since := map[string]time.Time{}
	for _, node := range nodes {
		if steady(node) {
			since[node] = now
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, at := range c.held[service] {
		if _, still := since[node]; still {
			since[node] = at
		}
	}
	c.held[service] = since
	return since
}

// Reporting tells when each proxy that is asked about a service last reported, of those heard from within three intervals. Of proxies with one node id the second
// is called "id#2", and so on.
func (c *Collector) Reporting(service string, now time.Time) map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reporting(service, now)
}

// reporting is Reporting; the caller holds mu.
func (c *Collector) reporting(service string, now time.Time) map[string]time.Time {
	heard := map[string]time.Time{}
	w := c.wanted[service]
	for s := range c.streams {
		if !s.covers(w) || now.Sub(s.heard) > heardOf*s.interval {
			continue
		}
		name := s.node
		for i := 2; ; i++ {
			if _, taken := heard[name]; !taken {
				break
			}
			name = fmt.Sprintf("%s#%d", s.node, i)
		}
		heard[name] = s.heard
	}
	return heard
}
