package xds

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream is what a session uses of a grpc.ServerStream.
type stream interface {
	Context() context.Context
	SendMsg(m any) error
	RecvMsg(m any) error
}

// Register offers the aggregated discovery service, in both protocols. The server must have been made with GRPCOptions.
func (s *Server) Register(to grpc.ServiceRegistrar) {
	offer := func(name string, p Protocol) grpc.StreamDesc {
		return grpc.StreamDesc{
			StreamName: name, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, one grpc.ServerStream) error { return s.discover(one, p) },
		}
	}
	to.RegisterService(&grpc.ServiceDesc{
		ServiceName: discoveryv3.AggregatedDiscoveryService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{offer("StreamAggregatedResources", StateOfTheWorld), offer("DeltaAggregatedResources", Delta)},
		Metadata:    discoveryv3.AggregatedDiscoveryService_ServiceDesc.Metadata,
	}, s)
}

// discover serves one proxy until its stream ends. A goroutine of its own receives, so that this one can end the stream even while its client says nothing; what is
// sent, the server's senders send.
func (s *Server) discover(on stream, p Protocol) error {
	if s.opened.Load() == nil || s.closed.Load() {
		return status.Error(codes.Unavailable, "this server has not caught up with etcd yet")
	}
	first := &request{protocol: p}
	if err := on.RecvMsg(first); err != nil {
		s.tooLarge(err, Event{})
		return ended(err)
	}
	var one *session
	if err := s.contain("", func() (err error) { one, err = s.join(on, first); return err }); err != nil {
		return err
	}
	defer s.part(one)
	if s.closed.Load() {
		return status.Error(codes.Unavailable, "this server is shutting down")
	}
	// Returning cancels the stream's context, which ends the receiver. The channel holds its end, so
	// that it does not wait for a reader that has gone.
	end := make(chan error, 1)
	go func() { end <- s.contain(one.node, func() error { return one.receive(first) }) }()
	select {
	case err := <-end:
		return err
	case err := <-one.kicked:
		if status.Code(err) == codes.Canceled {
			return nil
		}
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
func (s *Server) join(on stream, first *request) (*session, error) {
	node, err := first.proxyNode()
	switch {
	case err != nil:
		return nil, status.Errorf(codes.InvalidArgument, "the stream's first message has a node that cannot be read: %v", err)
	case node.GetId() == "":
		return nil, status.Error(codes.InvalidArgument, "the stream's first message names no node id")
	}
	name := s.groupOf(node, first.protocol)
	one := &session{
		node: node.Id, version: agent(node), protocol: first.protocol, server: s, stream: on, came: s.now(), kicked: make(chan error, 1),
	}
	g := s.lockGroup(name)
	one.group = g
	duplicate, full := s.register(one)
	if full {
		g.mu.Unlock()
		s.report(Event{Kind: LimitExceeded, Node: one.node, Group: name, Limit: "streams"})
		return nil, status.Errorf(codes.ResourceExhausted, "this server has %d streams: it takes no more", s.limits.Streams)
	}
	g.sessions = append(g.sessions, one)
	g.mu.Unlock()
	if duplicate {
		s.log.Warn("two streams have the same node id: they count as two proxies", "proxy", one.node)
	}
	s.log.Info("a proxy connected", "proxy", one.node, "version", one.version, "reason", name)
	s.report(Event{Kind: ProxyConnected, Node: one.node, Group: name, Version: one.version})
	return one, nil
}

// register numbers the stream, and reports whether its node has another one. It does nothing when there are as many as may be.
func (s *Server) register(one *session) (duplicate, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.limits.Streams {
		return false, true
	}
	s.open++
	s.streams++
	one.id = s.streams
	n := s.nodes[one.node]
	if n == nil {
		n = &node{}
		s.nodes[one.node] = n
	}
	n.streams++
	one.peer = n
	return n.streams > 1, false
}

// part ends a session.
func (s *Server) part(one *session) {
	g := one.group
	g.mu.Lock()
	if i, found := slices.BinarySearchFunc(g.sessions, one.id, func(s *session, id uint64) int { return cmp.Compare(s.id, id) }); found {
		g.sessions = slices.Delete(g.sessions, i, i+1)
	}
	one.gone = true
	if one.alarm != nil {
		one.alarm.Stop()
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
	s.open--
	if one.peer.streams--; one.peer.streams == 0 {
		delete(s.nodes, one.node)
	}
	if g := one.group; len(g.sessions) == 0 && g.empty() {
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
func (s *session) receive(r *request) error {
	defer r.free()
	for {
		if err := s.apply(r); err != nil {
			return err
		}
		if err := s.stream.RecvMsg(r); err != nil {
			s.server.tooLarge(err, Event{Node: s.node, Group: s.group.name})
			return ended(err)
		}
	}
}

// tooLarge tells of a request that could not be received because of its size.
func (s *Server) tooLarge(err error, of Event) {
	if status.Code(err) == codes.ResourceExhausted {
		of.Kind, of.Limit = LimitExceeded, "requestbytes"
		s.report(of)
	}
}

// apply takes one message of the proxy.
func (s *session) apply(r *request) error {
	if err := s.checkNode(r); err != nil {
		return err
	}
	now := s.server.now()
	later(&s.seen, int64(now.Sub(s.server.epoch)))
	// Before the stream is looked at: a latch that the proxy brings must be in what it is answered.
	s.hand(r)
	happened, look, err := s.locked(r, now)
	if happened.Kind != 0 {
		s.server.report(happened)
	}
	if look {
		s.server.queue.add(false, s)
	}
	return err
}

// checkNode fails if the message comes from another node than the first one.
func (s *session) checkNode(r *request) error {
	if len(r.node) == 0 {
		return nil
	}
	node, err := r.proxyNode()
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "a node that cannot be read: %v", err)
	}
	if node.Id != "" && node.Id != s.node {
		return status.Errorf(codes.InvalidArgument, "the stream began as node %q and goes on as node %q", s.node, node.Id)
	}
	return nil
}

// hand passes on the tags that the proxy brings, before it is answered.
func (s *session) hand(r *request) {
	if s.server.held == nil {
		return
	}
	r.eachVersion(func(name, text []byte) {
		if bytes.IndexByte(text, '+') < 0 {
			return
		}
		v, ours := parseVersion(string(text))
		if ours && v.tag != "" && (v.cluster == s.server.cluster || s.server.adopts(v.cluster)) {
			s.server.held(Key{r.typeURL, string(name)}, v.tag)
		}
	})
}

// locked applies a message, and reports whether there may be something to send now.
func (s *session) locked(r *request, now time.Time) (happened Event, look bool, err error) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	happened, err = s.request(r, now)
	return happened, s.hungry(), err
}

// hungry reports whether the stream may have to be sent something.
func (s *session) hungry() bool {
	if len(s.leaving) > 0 || !s.due.IsZero() && (s.armed.IsZero() || s.due.Before(s.armed)) {
		return true
	}
	return slices.ContainsFunc(s.types, (*interest).hungry)
}
