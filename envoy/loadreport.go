package envoy

import (
	"fmt"
	"slices"
	"time"

	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// loadReporting describes the service to gRPC.
func (c *Collector) loadReporting() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: loadstatsv3.LoadReportingService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "StreamLoadStats", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return c.serveLoad(stream) },
		}},
	}
}

// serveLoad reads one proxy's reports until it leaves.
func (c *Collector) serveLoad(stream grpc.ServerStream) (err error) {
	defer c.contain(&err)
	report := loadReport{wantNode: true}
	if err := stream.RecvMsg(&report); err != nil {
		return err
	}
	s, err := c.enter(&report, stream)
	if err != nil {
		return err
	}
	defer s.telling.Wait()
	defer c.leave(s)
	c.config.Touch(s.node, c.config.Now())
	report.wantNode = false
	for {
		report.trim()
		if err := stream.RecvMsg(&report); err != nil {
			return err
		}
		now := c.config.Now()
		c.config.Touch(s.node, now)
		if c.count(s, &report, now); c.over(s) {
			return nil
		}
	}
}

// contain turns a panic of one stream into that stream's end.
func (c *Collector) contain(err *error) {
	if cause := recover(); cause != nil {
		c.config.Log.Error("a stream of reports panicked", "err", fmt.Sprint(cause))
		*err = status.Error(codes.Internal, "internal error")
	}
}

func (c *Collector) enter(first *loadReport, stream grpc.ServerStream) (*reportStream, error) {
	if first.problem != nil || first.node.id == "" {
		return nil, status.Error(codes.InvalidArgument, "the first message of a load report stream must name the node")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened++
	s := &reportStream{
		number: c.opened, node: first.node.id, gateway: first.node.gateway, stream: stream,
		client: first.node.client, blind: !first.node.client && first.node.version.before(39),
	}
	c.streams[s] = struct{}{}
	n := c.station(s.node)
	n.reports = append(n.reports, s)
	if !s.client {
		c.roster(s.gateway).enter(s)
		c.fit()
		c.resume(s, first, c.config.Now())
	}
	c.tell(s)
	return s, nil
}

// longestGap is how far back what an Envoy brings along may reach: it comes back 5 s after a stream broke.
const longestGap = 15 * time.Second

// resume counts what an Envoy has kept since its last stream broke, here or at another replica: it brings that along in the first message of the next one. What may be of
// another release is left out. The caller holds mu.
func (c *Collector) resume(s *reportStream, first *loadReport, now time.Time) {
	kept := map[string]*listing{}
	for _, r := range first.clusters {
		of := (*c.watched.Load())[r.cluster]
		if of != nil && r.interval <= min(longestGap, now.Sub(of.since)) && slices.Contains(c.roster(s.gateway).clusters, r.cluster) {
			kept[r.cluster] = &listing{fresh: true, first: true, sampled: !s.slow}
		}
	}
	if len(kept) == 0 {
		return
	}
	s.listed, s.heard = kept, now
	for _, r := range first.clusters {
		if kept[r.cluster] != nil {
			_ = c.countCluster(s, r, nil, now) // it is listed, and the first
		}
	}
}

func (c *Collector) leave(s *reportStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.ended = true
	delete(c.streams, s)
	n := c.station(s.node)
	n.reports = slices.DeleteFunc(n.reports, func(other *reportStream) bool { return other == s })
	c.tidy(s.node)
	if !s.client {
		c.roster(s.gateway).leave(s)
	}
	c.sweep(s.gateway)
	c.fit()
}

// tell has a proxy sent what it must report, unless it was. A goroutine does it, one at a time for each stream, so that a proxy that does not read holds nobody else
// up, and one at rest costs none. The caller holds mu.
func (c *Collector) tell(s *reportStream) {
	if s.client {
		c.list(s)
	}
	if s.told || s.ended || c.next(s) == nil {
		return
	}
	s.told = true
	s.telling.Go(func() { c.order(s) })
}

// order sends a proxy what it must report until it has the right order.
func (c *Collector) order(s *reportStream) {
	var ended error
	defer c.contain(&ended)
	for {
		response := c.due(s)
		if response == nil {
			return
		}
		if err := s.stream.SendMsg(response); err != nil {
			return // the receiving side ends with the stream
		}
	}
}

// due is the order that a proxy must be sent now, which is then taken for sent; nil if there is none.
func (c *Collector) due(s *reportStream) *loadstatsv3.LoadStatsResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return nil
	}
	response := c.next(s)
	switch {
	case response == nil:
		s.told = false
	case s.client:
		s.ordered = response.LoadReportingInterval.AsDuration()
		c.list(s)
	default:
		s.ask(response.Clusters, response.LoadReportingInterval.AsDuration(), c.config.Now())
	}
	return response
}

// next is the order that a proxy must be sent, nil if it has the right one. The caller holds mu.
func (c *Collector) next(s *reportStream) *loadstatsv3.LoadStatsResponse {
	r := c.roster(s.gateway)
	interval := atRest
	if r.running && !c.quiet {
		interval = c.pace.asked(s)
	}
	if s.client {
		return s.order(interval)
	}
	if s.asked == interval && slices.Equal(s.clusters, r.clusters) {
		return nil
	}
	return &loadstatsv3.LoadStatsResponse{Clusters: r.clusters, LoadReportingInterval: durationpb.New(interval)}
}

// count adds a report to the tallies.
func (c *Collector) count(s *reportStream, report *loadReport, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins := s.heard.IsZero()
	s.heard = now
	if s.client && begins {
		return // of any time
	}
	if report.problem != nil {
		s.complain(c.config.Log, s.node, report.problem)
		return
	}
	if report.flawed != nil {
		s.complain(c.config.Log, s.node, report.flawed)
	}
	for _, listed := range s.listed {
		listed.active = 0 // who has nothing in progress may be left out
	}
	rest := report.samples
	for i, r := range report.clusters {
		n := 0
		for n < len(rest) && rest[n].cluster == i {
			n++
		}
		if err := c.countCluster(s, r, rest[:n], now); err != nil {
			s.complain(c.config.Log, s.node, err)
		}
		rest = rest[n:]
	}
}

// countCluster adds what a report says of one cluster, or says why not. The caller holds mu.
func (c *Collector) countCluster(s *reportStream, r clusterReport, samples []sampleReport, now time.Time) error {
	to, listed := (*c.watched.Load())[r.cluster], s.listed[r.cluster]
	if to == nil || listed == nil || to.role > candidatePool {
		return errLate
	}
	listed.active = r.active
	if listed.repeats(r, now) {
		return errDoubled
	}
	t := c.tally(to.service)
	found := received{clusterReport: r, unseen: listed.unseen.settle(r, now)}
	found.late = !s.client && listed.late(r, now) // a client leaves out what it sends nothing to, so that its intervals have gaps
	t.addShare(s, listed, to, found)
	if s.counts(listed) {
		t.unsettled = t.unsettled || listed.fresh
		t.arm(to).add(found)
		t.sample(to, samples, c.wanted[to.service].Metrics)
	} else if !s.slow {
		// It covers a time in which the proxy reported slowly. From here on it counts.
		t.arm(to).came += r.active
		listed.sampled = true
	}
	listed.note(r, now)
	return nil
}

// tally is what has come of a service. The caller holds mu.
func (c *Collector) tally(service string) *tally {
	t := c.tallies[service]
	if t == nil {
		t = &tally{nodes: map[uint64]*share{}}
		c.tallies[service] = t
	}
	return t
}
