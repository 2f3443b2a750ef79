package xds

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// Admission is the option of a grpc.Server by which streams of every method are bounded, whatever service it is of: how many there are at once, and how long one may say
// nothing when it comes.
func (s *Server) Admission() grpc.ServerOption { return grpc.StreamInterceptor(s.admit) }

func (s *Server) admit(service any, on grpc.ServerStream, of *grpc.StreamServerInfo, serve grpc.StreamHandler) error {
	if n, admitted := s.enter(of.FullMethod); !admitted {
		s.report(Event{Kind: LimitExceeded, Limit: "streams"})
		return status.Errorf(codes.ResourceExhausted, "this server has %d streams of %s: it takes no more (--max-streams)", n, of.FullMethod)
	}
	defer s.leave(of.FullMethod)
	switch of.FullMethod {
	case discoveryv3.AggregatedDiscoveryService_StreamAggregatedResources_FullMethodName, discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName:
		return serve(service, on) // it has a clock of its own: see discover
	}
	held, leads := on.Context().Value(leashKey{}).(*leash)
	if !leads {
		return status.Error(codes.Internal, "this server was not made with xds.GRPCOptions")
	}
	silent := time.AfterFunc(s.silentAfter, func() {
		s.report(Event{Kind: LimitExceeded, Limit: "silence"})
		held.end()
	})
	defer silent.Stop()
	return serve(service, &newcomer{on, silent})
}

// newcomer is a stream whose client has a while to send its first message.
type newcomer struct {
	grpc.ServerStream

	silent *time.Timer
}

// RecvMsg ends the while.
func (n *newcomer) RecvMsg(m any) error {
	err := n.ServerStream.RecvMsg(m)
	n.silent.Stop()
	return err
}

// enter counts a stream of a method, unless there are as many as may be.
func (s *Server) enter(method string) (n int, admitted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = s.methods[method]; n >= s.limits.Streams {
		return n, false
	}
	s.methods[method]++
	return n, true
}

func (s *Server) leave(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.methods[method]--
}
