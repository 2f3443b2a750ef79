package envoy

import (
	"errors"
	"slices"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

var (
	errRestarted = errors.New("counters have begun anew: what was counted since the message before is left out")
	errOther     = errors.New("its times have other bounds than rampart's bootstrap asks for, or its Envoy is older than 1.38: they are interpolated")
)

// metricsService describes the service to gRPC.
func (c *Collector) metricsService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: metricsv3.MetricsService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "StreamMetrics", ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return c.serveStatistics(stream) },
		}},
	}
}

// serveStatistics reads one proxy's statistics until it leaves. Only a stream's first message says whose they are.
func (c *Collector) serveStatistics(stream grpc.ServerStream) (err error) {
	defer c.contain(&err)
	var scale scale
	report := statsReport{wantNode: true, scale: &scale, watching: &c.watched, seed: c.seed}
	if err := stream.RecvMsg(&report); err != nil {
		return err
	}
	if report.problem != nil || report.node.id == "" {
		return status.Error(codes.InvalidArgument, "the first message of a stream of statistics must name the node")
	}
	s := c.welcome(report.node)
	defer c.dismiss(s)
	report.wantNode = false
	for {
		now := c.config.Now()
		c.config.Touch(s.node, now)
		c.countStatistics(s, &report, now)
		report.trim()
		if err := stream.RecvMsg(&report); err != nil {
			return err
		}
	}
}

func (c *Collector) welcome(from origin) *statsStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &statsStream{node: from.id, gateway: from.gateway, blind: from.version.before(39), flush: flushEvery, arms: map[*watch]*armStats{}}
	n := c.station(s.node)
	n.statistics = append(n.statistics, s)
	return s
}

func (c *Collector) dismiss(s *statsStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.station(s.node)
	n.statistics = slices.DeleteFunc(n.statistics, func(other *statsStream) bool { return other == s })
	c.tidy(s.node)
	if len(s.arms) > 0 {
		c.config.Log.Warn("a proxy's statistics have ended: the times of what it finishes until they come again are not known", "proxy", s.node)
	}
}

// countStatistics adds a message to the tallies.
func (c *Collector) countStatistics(s *statsStream, report *statsReport, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.beat(now)
	if report.problem != nil {
		s.complain(c.config.Log, s.node, report.problem)
		return
	}
	if report.flawed != nil {
		s.complain(c.config.Log, s.node, report.flawed)
	}
	if s.repeats(report.mark) {
		s.complain(c.config.Log, s.node, errDoubled)
		return
	}
	watched := *c.watched.Load()
	s.turn(c.generation, watched, now)
	for _, r := range report.counts {
		if watched[r.watch.cluster] == r.watch && slices.Contains(c.wanted[r.watch.service].Gateways, s.gateway) {
			s.count(r, now)
		}
	}
	sampled := c.sampled(s.node)
	for of, arm := range s.touched {
		if arm.restarted {
			s.complain(c.config.Log, s.node, errRestarted)
			arm.change = [counters]uint64{}
		}
		if sampled {
			c.countArm(s, of, arm, report)
		}
	}
	if s.blind {
		c.pass(s, now)
	}
	if len(report.times) > 0 && !report.scale.exact {
		s.complain(c.config.Log, s.node, errOther)
	}
}

// countArm adds what a message says of one arm to the service's tally. The candidate's figures count only if the proxy has live's, too: one without layers sends
// live's share past the arm, and what only some of both sides' proxies say does not compare.
func (c *Collector) countArm(s *statsStream, of *watch, arm *armStats, report *statsReport) {
	live := s.arms[(*c.watched.Load())[c.wanted[of.service].LiveArm]]
	if of.role < liveArm || live == nil || arm.since.Equal(arm.seen) || arm.restarted {
		return
	}
	t := c.tally(of.service)
	t.addStatuses(of, arm)
	if report.flawed != nil {
		return // without its times all would look unfinished
	}
	if t.times == nil {
		t.times = &policy.Times{}
	}
	to := &t.times.Live
	if of.role == candidateArm {
		to = &t.times.Candidate
	}
	var sampled uint64
	for i := range report.times {
		if r := &report.times[i]; r.watch == of && r.canary == (of.role == candidateArm) {
			to.Add(&r.times)
			sampled += r.times.Total()
		}
	}
	to[judge.Buckets-1] += arm.unfinished(of.role == candidateArm, sampled)
}

// pass hands the refused connections of a proxy on to its load reports, which leave them out. Of proxies with one node id it is not known whose they are.
func (c *Collector) pass(s *statsStream, now time.Time) {
	reports := c.station(s.node).reports
	if len(reports) != 1 || reports[0].gateway != s.gateway {
		return
	}
	found := map[string]uint64{}
	for of, arm := range s.touched {
		found[of.cluster] += arm.change[refused]
	}
	for cluster, listed := range reports[0].listed {
		listed.unseen.flush(found[cluster], now)
	}
}

// station is what is known of a node's streams. The caller holds mu.
func (c *Collector) station(node string) *station {
	n := c.stations[node]
	if n == nil {
		n = &station{}
		c.stations[node] = n
	}
	return n
}

// tidy forgets a node without streams. The caller holds mu.
func (c *Collector) tidy(node string) {
	if n := c.stations[node]; n != nil && len(n.reports)+len(n.statistics) == 0 {
		delete(c.stations, node)
	}
}

// station are the streams of one node, more than one of a kind if several proxies have its id.
type station struct {
	reports    []*reportStream
	statistics []*statsStream
}

// timely reports whether the statistics of a proxy come, and are those of a release: an arm that was ever used is in each of them. The caller holds mu.
func (c *Collector) timely(s *statsStream, reports *reportStream, w Wanted, now time.Time) bool {
	patience := heardOf * s.flush
	if s.gateway != reports.gateway || now.Sub(s.heard) > patience {
		return false
	}
	if arm := s.arms[(*c.watched.Load())[w.LiveArm]]; arm != nil && now.Sub(arm.seen) <= patience {
		return true
	}
	busy := reports.listed[w.LivePool].busy
	return busy.IsZero() || now.Sub(busy) <= patience
}
