package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DeltaAggregatedResources serves one proxy until its stream ends. A goroutine receives and one
// sends, so that this one can end the stream even while its client reads nothing.
func (s *Server) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if s.opened.Load() == nil || s.closed.Load() {
		return status.Error(codes.Unavailable, "this server has not caught up with etcd yet")
	}
	first, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	var one *session
	if err := s.contain("", func() (err error) { one, err = s.join(first); return err }); err != nil {
		return err
	}
	defer s.part(one)
	if s.closed.Load() {
		return status.Error(codes.Unavailable, "this server is shutting down")
	}
	// Returning cancels the stream's context, which ends both. The channel holds both their ends, so
	// that neither waits for a reader that has gone.
	end := make(chan error, 2)
	go func() { end <- s.contain(one.node, func() error { return one.receive(stream, first) }) }()
	go func() { end <- s.contain(one.node, func() error { return one.send(stream) }) }()
	select {
	case err := <-end:
		return err
	case err := <-one.kicked:
		s.log.Warn("disconnected a proxy", "proxy", one.node, "err", err)
		return err
	}
}

// ended turns the client's own end of a stream into success.
func ended(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}

// contain runs a piece of a stream and turns a panic into that stream's error.
func (s *Server) contain(node string, run func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s.log.Error("a stream panicked", "proxy", node, "err", cause, "reason", string(debug.Stack()))
			err = status.Error(codes.Internal, "this stream hit a bug in the server")
		}
	}()
	return run()
}

// join makes the session of a stream from its first message.
func (s *Server) join(first *discoveryv3.DeltaDiscoveryRequest) (*session, error) {
	if first.Node.GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the stream's first message names no node id")
	}
	name := s.groupOf(first.Node)
	one := &session{
		node: first.Node.Id, version: agent(first.Node), server: s, came: s.now(),
		wake: make(chan struct{}, 1), kicked: make(chan error, 1),
		flights: map[string]*flight{}, foreign: map[string]struct{}{}, leaving: map[Key]*departure{},
		warming: map[string]struct{}{}, rejections: map[Key]Rejection{},
	}
	g := s.lockGroup(name)
	one.group = g
	duplicate := s.register(one)
	g.sessions = append(g.sessions, one)
	g.mu.Unlock()
	if duplicate {
		s.log.Warn("two streams have the same node id: they count as two proxies", "proxy", one.node)
	}
	s.log.Info("a proxy connected", "proxy", one.node, "version", one.version, "reason", name)
	s.report(Event{Kind: ProxyConnected, Node: one.node, Group: name, Version: one.version})
	return one, nil
}

// register numbers the stream, and reports whether its node has another one.
func (s *Server) register(one *session) (duplicate bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
	one.id = s.streams
	n := s.nodes[one.node]
	if n == nil {
		n = &node{}
		s.nodes[one.node] = n
	}
	n.streams++
	one.peer = n
	return n.streams > 1
}

// part ends a session.
func (s *Server) part(one *session) {
	g := one.group
	g.mu.Lock()
	if i := slices.Index(g.sessions, one); i >= 0 {
		g.sessions = slices.Delete(g.sessions, i, i+1)
	}
	s.unregister(one)
	g.mu.Unlock()
	s.log.Info("a proxy disconnected", "proxy", one.node)
	s.report(Event{Kind: ProxyDisconnected, Node: one.node, Group: g.name})
}

// unregister forgets the stream, its node if it was the last of it, and its group if nothing is
// left of that. The caller holds the group's mu.
func (s *Server) unregister(one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.peer.streams--; one.peer.streams == 0 {
		delete(s.nodes, one.node)
	}
	if g := one.group; len(g.sessions) == 0 && len(g.entries) == 0 {
		g.dead = true
		delete(s.groups, g.name)
	}
}

// agent is the proxy's name and version as people write them: "Envoy 1.40.0".
func agent(n *corev3.Node) string {
	name := n.GetUserAgentName()
	if name == "envoy" {
		name = "Envoy"
	}
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		return fmt.Sprintf("%s %d.%d.%d", name, v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	if v := n.GetUserAgentVersion(); v != "" {
		return name + " " + v
	}
	return name
}

// receive applies the proxy's messages, beginning with r, until the stream ends.
func (s *session) receive(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, r *discoveryv3.DeltaDiscoveryRequest) error {
	for {
		if err := s.apply(r); err != nil {
			return err
		}
		var err error
		if r, err = stream.Recv(); err != nil {
			return ended(err)
		}
	}
}

// apply takes one message of the proxy.
func (s *session) apply(r *discoveryv3.DeltaDiscoveryRequest) error {
	if id := r.Node.GetId(); id != "" && id != s.node {
		return status.Errorf(codes.InvalidArgument, "the stream began as node %q and goes on as node %q", s.node, id)
	}
	now := s.server.now()
	later(&s.seen, int64(now.Sub(s.server.epoch)))
	// Before the stream is looked at: a latch that the proxy brings must be in what it is answered.
	s.hand(r)
	events, err := s.locked(r, now)
	s.server.report(events...)
	s.poke()
	return err
}

// hand passes on the tags that the proxy brings, before it is answered.
func (s *session) hand(r *discoveryv3.DeltaDiscoveryRequest) {
	if s.server.held == nil {
		return
	}
	for name, text := range r.InitialResourceVersions {
		v, ours := parseVersion(text)
		if ours && v.tag != "" && (v.cluster == s.server.cluster || s.server.adopts(v.cluster)) {
			s.server.held(Key{r.TypeUrl, name}, v.tag)
		}
	}
}

func (s *session) locked(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) ([]Event, error) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	return s.request(r, now)
}

// send sends what there is to send, until the stream ends. Its timer is for what is due though
// nothing happens: heartbeats, removals, the ends of patience.
func (s *session) send(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		f, r, wait := s.upcoming(s.server.now())
		if f != nil {
			if err := stream.Send(r); err != nil {
				return ended(fmt.Errorf("send to %s: %w", s.node, err))
			}
			s.server.report(Event{Kind: ResponseSent, Node: s.node, Group: s.group.name, Type: r.TypeUrl, Heartbeat: f.beat})
			continue
		}
		timer.Reset(wait)
		if !s.sleep(stream.Context(), timer) {
			return nil
		}
	}
}

// upcoming returns the next message, or how long to wait if nothing happens.
func (s *session) upcoming(now time.Time) (*flight, *discoveryv3.DeltaDiscoveryResponse, time.Duration) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	if f := s.next(now); f != nil {
		return f, s.launch(f), 0
	}
	if s.due.IsZero() {
		return nil, nil, time.Hour
	}
	return nil, nil, max(s.due.Sub(now), 0)
}

// sleep waits for news or the timer, and reports whether the stream still lives.
func (s *session) sleep(ctx context.Context, timer *time.Timer) bool {
	select {
	case <-ctx.Done():
		return false
	case <-s.wake:
	case <-timer.C:
	}
	return true
}
