package envoy

import (
	"fmt"
	"slices"
	"sync"
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

// serveLoad reads one proxy's reports until it leaves. Orders are sent from a goroutine of their own, which ends with the stream.
func (c *Collector) serveLoad(stream grpc.ServerStream) (err error) {
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

func (c *Collector) enter(first *loadReport) (*reportStream, error) {
	if first.problem != nil || first.node.id == "" {
		return nil, status.Error(codes.InvalidArgument, "the first message of a load report stream must name the node")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened++
	s := &reportStream{
		number: c.opened, node: first.node.id, gateway: first.node.gateway,
		client: first.node.client, blind: !first.node.client && first.node.version.before(39),
		listed: map[string]*listing{}, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.streams[s] = struct{}{}
	n := c.station(s.node)
	n.reports = append(n.reports, s)
	c.tell()
	return s, nil
}

func (c *Collector) leave(s *reportStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
	n := c.station(s.node)
	n.reports = slices.DeleteFunc(n.reports, func(other *reportStream) bool { return other == s })
	c.tidy(s.node)
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
	if s.client {
		return s.orderClient()
	}
	return &loadstatsv3.LoadStatsResponse{Clusters: clusters, LoadReportingInterval: durationpb.New(interval)}
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
	one := t.add(s, listed, to, r)
	one.countUnseen(to, listed.unseen.settle(r, now))
	t.sample(to, samples, c.wanted[to.service].Metrics)
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
