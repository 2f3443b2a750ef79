package xds

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// What one stream may ask for. An Envoy asks for a dozen types; names are bounded so that a broken
// client cannot fill the memory.
const (
	maxTypes  = 32
	maxNames  = 200_000
	maxLayers = 1024 // of types whose resources are in flight one by one
)

func (t *interest) mostNames() int {
	if t.solo {
		return maxLayers
	}
	return maxNames
}

// Limits of the connection. Envoys ping idle connections every few seconds, which grpc-go by
// default punishes (envoy-measured.md 9). A dead connection is noticed within keepaliveTime +
// keepaliveTimeout.
const (
	keepaliveMinTime = 2 * time.Second
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 10 * time.Second
	maxRequestBytes  = 16 << 20 // the first request of a type names a version for everything the proxy has
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
)

// GRPCOptions returns the options that a grpc.Server for Envoys needs.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
	}
}

// expelSilent disconnects the proxies that owe an answer and from which nothing came, on any
// stream, for too long. A proxy that only answers nothing but reports load stays, and holds the
// climb.
func (s *Server) expelSilent(now time.Time) {
	s.each(func(one *session) {
		owing, since := one.owing()
		if quiet := now.Sub(latest(since, one.lastSeen())); owing && quiet > s.silentAfter {
			one.kick(status.Errorf(codes.DeadlineExceeded, "%d responses unanswered and nothing heard for %s", len(one.flights), quiet.Round(time.Second)))
		}
	})
}

// owing reports whether a response is unanswered, and since when the oldest is.
func (s *session) owing() (owing bool, since time.Time) {
	for _, f := range s.flights {
		if !owing || f.at.Before(since) {
			owing, since = true, f.at
		}
	}
	return owing, since
}

// lastSeen is when anything last came from the node.
func (s *session) lastSeen() time.Time {
	return s.server.epoch.Add(time.Duration(max(s.seen.Load(), s.peer.touched.Load())))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
