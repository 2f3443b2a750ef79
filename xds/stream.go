package xds

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// stream is what a session uses of a grpc.ServerStream.
type stream interface {
	Context() context.Context
	SendMsg(m any) error
	RecvMsg(m any) error
}

// Register offers the aggregated discovery service, in both protocols, and the client status discovery service. The server must have been made with this one's GRPCOptions.
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
	s.registerStatus(to)
}

// leash is a stream's context, by which the server ends the stream though its handler waits for the client: a handler that returns ends its stream, but one that
// waits cannot return; and a goroutine more for each stream, only to be able to, would cost each proxy 8 kB. What the client then reads is DeadlineExceeded, which
// grpc-go makes of the context's error; the server's own words are in its log.
type leash struct {
	context.Context
	cancel context.CancelFunc
	cut    atomic.Bool // the server ended the stream
}

// leashKey is where a stream's context has its leash.
type leashKey struct{}

// leashed puts a stream of any kind on a leash before it begins to wait on its context.
func (s *Server) leashed(ctx context.Context, _ *tap.Info) (context.Context, error) {
	s.strangers.greeted(ctx)
	l := &leash{}
	l.Context, l.cancel = context.WithCancel(ctx)
	return l, nil
}

// Value is the leash itself, beside what the context has.
func (l *leash) Value(key any) any {
	if key == (leashKey{}) {
		return l
	}
	return l.Context.Value(key)
}

// Err tells an end that the server made from one that the client made.
func (l *leash) Err() error {
	if err := l.Context.Err(); err == nil || !l.cut.Load() {
		return err
	}
	return context.DeadlineExceeded
}

// end ends the stream.
func (l *leash) end() {
	l.cut.Store(true)
	l.cancel()
}

// discover serves one proxy until its stream ends. It only receives: what is sent, the server's senders send.
func (s *Server) discover(on stream, p Protocol) error {
	switch {
	case s.closed.Load():
		return status.Error(codes.Unavailable, "this server is shutting down")
	case s.opened.Load() == nil:
		return status.Error(codes.Unavailable, "this server has not caught up with etcd yet")
	}
	held, leads := on.Context().Value(leashKey{}).(*leash)
	if !leads {
		return errNoLeash()
	}
	defer held.cancel()
	first := s.newRequest(p)
	defer first.free()
	if err := s.contain("", func() error { return on.RecvMsg(first) }); err != nil {
		s.tooLarge(err, Event{})
		return ended(err)
	}
	var one *session
	var again bool
	if err := s.contain("", func() (err error) { one, again, err = s.join(on, first); return err }); err != nil {
		return err
	}
	defer func() { _ = s.contain(one.node, func() error { s.part(one); return nil }) }()
	err := s.contain(one.node, func() error {
		s.welcome(one, again)
		if s.closed.Load() {
			return status.Error(codes.Unavailable, "this server is shutting down")
		}
		return one.receive(first)
	})
	if why := one.reason.Load(); why != nil {
		return *why
	}
	one.kick(err) // what is still to be said of it
	return err
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

// join makes the session of a stream from its first message, and reports whether its node has another one by mistake. From here on it has to be parted from.
func (s *Server) join(on stream, first *request) (one *session, again bool, err error) {
	node, err := first.proxyNode()
	switch {
	case err != nil:
		return nil, false, status.Errorf(codes.InvalidArgument, "the stream's first message has a node that cannot be read: %v", err)
	case node.GetId() == "":
		return nil, false, status.Error(codes.InvalidArgument, "the stream's first message names no node id")
	case max(len(node.GetId()), len(node.GetCluster())) > MaxName:
		return nil, false, status.Errorf(codes.InvalidArgument, "the stream's first message has a node whose id or cluster is longer than %d bytes", MaxName)
	}
	first.node = nil // it is read
	name := s.groupOf(node, first.protocol)
	one = &session{
		node: node.Id, version: agent(node), protocol: first.protocol, server: s, stream: heard(on), came: s.now(), leash: on.Context().Value(leashKey{}).(*leash),
	}
	g := s.lockGroup(name)
	one.group = g
	duplicate, full := s.register(one)
	if full != nil {
		g.mu.Unlock()
		s.report(*full)
		return nil, false, status.Error(codes.ResourceExhausted, full.Words)
	}
	g.sessions = append(g.sessions, one)
	g.moves.movedAll()
	g.losses++
	g.mu.Unlock()
	return one, duplicate && !callsItself(node), nil
}

// welcome tells of a stream that has begun.
func (s *Server) welcome(one *session, again bool) {
	if again {
		s.tell(slog.LevelWarn, "two streams have the same node id: they count as two proxies", "proxy", one.node)
	}
	s.tell(slog.LevelInfo, "a proxy connected", "proxy", one.node, "version", one.version, "reason", one.group.name)
	s.report(Event{Kind: ProxyConnected, Node: one.node, Group: one.group.name, Version: one.version})
}

// register numbers the stream, and reports whether its node has another one. When there are as many as may be it does nothing but to say so.
func (s *Server) register(one *session) (duplicate bool, full *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[one.node]
	switch {
	case n == nil:
		n = &node{}
		s.nodes[one.node] = n
	case n.streams >= s.limits.NodeStreams:
		event := one.over("nodestreams")
		event.Words = fmt.Sprintf("node %q has %d streams: it gets no more (--max-node-streams)", one.node, n.streams)
		return false, &event
	}
	s.open++
	s.streams++
	one.id = s.streams
	n.streams++
	one.peer = n
	return n.streams > 1, nil
}

// part ends a session.
func (s *Server) part(one *session) {
	s.takeOut(one)
	words := one.last()
	level := slog.LevelInfo
	if words != "" && !s.closed.Load() { // else all are
		level = slog.LevelWarn
	}
	s.tell(level, "a proxy disconnected", "proxy", one.node, "reason", words)
	s.report(Event{Kind: ProxyDisconnected, Node: one.node, Group: one.group.name, Words: words})
}

// takeOut has a session count no more.
func (s *Server) takeOut(one *session) {
	g := one.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if i, found := slices.BinarySearchFunc(g.sessions, one.id, func(s *session, id uint64) int { return cmp.Compare(s.id, id) }); found {
		g.sessions = slices.Delete(g.sessions, i, i+1)
	}
	one.gone = true
	s.firsts.quit(one)
	g.moves.movedAll()
	g.losses++
	if one.alarm != nil {
		one.alarm.Stop()
	}
	s.unregister(one)
}

// tell writes a line of which there may be very many.
func (s *Server) tell(level slog.Level, message string, fields ...any) {
	if !s.lines.AllowN(s.now(), 1) {
		level = slog.LevelDebug
	}
	s.log.Log(context.Background(), level, message, fields...)
}

// last is why the stream has ended, empty if its client ended it.
func (s *session) last() string {
	if why := s.reason.Load(); why != nil && *why != nil {
		return status.Convert(*why).Message()
	}
	return ""
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

// callsItself reports whether the proxy is a gRPC library, which has a stream for each service that it uses: several under one id are no mistake.
func callsItself(n *corev3.Node) bool {
	return strings.HasPrefix(strings.ToLower(n.GetUserAgentName()), "grpc")
}

// receive applies the proxy's messages, beginning with r, until the stream ends.
func (s *session) receive(r *request) error {
	defer s.leavePlace()
	for {
		if err := s.apply(r); err != nil {
			return err
		}
		if err := s.arrive(r); err != nil {
			return err
		}
		r.free() // the next one may be long in coming
		if err := s.stream.RecvMsg(r); err != nil {
			s.server.tooLarge(err, Event{Node: s.node, Group: s.group.name})
			return ended(err)
		}
	}
}

// tooLarge tells of a request that could not be received because of its size. Its client was told so by gRPC.
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
	if happened.Kind != 0 || s.asksForAll() {
		s.leavePlace()
	}
	if happened.Kind == ResponseRejected {
		s.server.tell(slog.LevelWarn, "a proxy rejected a response", "proxy", s.node, "type", happened.Type, "nonce", string(r.nonce), "reason", happened.Words)
	}
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
	if s.server.held == nil || r.versions == 0 || !r.contains('+') {
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
	if !happened.Heartbeat || happened.Kind != ResponseAccepted || r.subscribe+r.unsubscribe > 0 {
		s.group.moves.moved(r.typeURL)
	}
	return happened, s.hungry(), err
}

// hungry reports whether the stream may have to be sent something.
func (s *session) hungry() bool {
	if len(s.leaving) > 0 || !s.due.IsZero() && (s.armed.IsZero() || s.due.Before(s.armed)) {
		return true
	}
	return s.stirred != 0
}
