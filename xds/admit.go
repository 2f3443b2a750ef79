package xds

import (
	"path"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// admit bounds the streams of every service: how many there are at once, and how long one may say nothing when it comes.
func (s *Server) admit(service any, on grpc.ServerStream, of *grpc.StreamServerInfo, serve grpc.StreamHandler) error {
	kind := path.Dir(of.FullMethod)
	if n, admitted := s.enter(kind); !admitted {
		s.report(Event{Kind: LimitExceeded, Limit: "streams"})
		return status.Errorf(codes.ResourceExhausted, "this server has %d streams of %s: it takes no more (--max-streams)", n, kind)
	}
	defer s.leave(kind)
	held, leads := on.Context().Value(leashKey{}).(*leash)
	if !leads {
		return errNoLeash()
	}
	if kind != path.Dir(discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName) {
		defer s.companions.come(held)()
	}
	came := &newcomer{ServerStream: on, server: s, silent: time.AfterFunc(s.limits.Silence, func() {
		s.report(Event{Kind: LimitExceeded, Limit: "silence"})
		held.end()
	})}
	defer came.speaks()
	return serve(service, came)
}

func errNoLeash() error {
	return status.Error(codes.Internal, "this server was not made with its own GRPCOptions")
}

// newcomer is a stream whose client has a while to send its first message.
type newcomer struct {
	grpc.ServerStream

	server *Server
	silent *time.Timer // nil: it has said something
	spent  allowance   // of messages: discovery, which answers, counts its own
}

// RecvMsg ends the while.
func (n *newcomer) RecvMsg(m any) error {
	err := n.ServerStream.RecvMsg(m)
	n.speaks()
	if err == nil && !n.spent.spend(n.server.limits, n.server.now(), 1) {
		n.server.report(Event{Kind: LimitExceeded, Limit: "requests"})
		return status.Errorf(codes.ResourceExhausted, "a stream may send %d messages a second (--max-requests)", n.server.limits.Requests)
	}
	return err
}

// heard is the stream itself, once it has said something.
func heard(on stream) stream {
	if n, isNew := on.(*newcomer); isNew && n.silent == nil {
		return n.ServerStream
	}
	return on
}

func (n *newcomer) speaks() {
	if n.silent != nil {
		n.silent.Stop()
		n.silent = nil
	}
}

// enter counts a stream of a service, unless there are as many as may be.
func (s *Server) enter(kind string) (n int, admitted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = s.kinds[kind]; n >= s.limits.Streams {
		return n, false
	}
	s.kinds[kind]++
	return n, true
}

func (s *Server) leave(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kinds[kind]--
}
