package xds

import (
	"cmp"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Limits bound what clients may ask for, so that a broken or hostile one costs only itself. A zero
// field means its default.
type Limits struct {
	Streams           int // of discovery that are open at once. Default 20,000
	NodeStreams       int // the same of one node id. A gRPC client has one for each service that it uses. Default 1,000
	ConnectionStreams int // of any kind on one connection. Default 100
	Types             int // that a stream may ask for. Default 32
	Names             int // that a stream may ask for of a type. Default 200,000
	Layers            int // the same of types whose resources are in flight one by one. Default 1,024
	Requests          int // that ask for something or answer nothing, a second and stream. Default 100; ten times as many at once
	RequestBytes      int // of one request. A proxy that comes back names a version for everything it has. Default 16 MiB
	ArrivalBytes      int // about, of all that proxies that come back say at once; others wait. Default 256 MiB
	FirstBytes        int // about, of all clusters and endpoints that proxies are sent when they come and have not answered; others wait. Default 256 MiB
	// Silence is how long a stream may say nothing when it comes, owe an answer while nothing at all comes from its node, or not take what it is sent. Default 20 s; a second
	// more for each 64 KiB that it was sent.
	Silence time.Duration
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Streams: cmp.Or(l.Streams, 20_000), NodeStreams: cmp.Or(l.NodeStreams, 1000), ConnectionStreams: cmp.Or(l.ConnectionStreams, 100),
		Types: cmp.Or(l.Types, 32), Names: cmp.Or(l.Names, 200_000), Layers: cmp.Or(l.Layers, 1024),
		Requests: cmp.Or(l.Requests, 100), RequestBytes: cmp.Or(l.RequestBytes, 16<<20), ArrivalBytes: cmp.Or(l.ArrivalBytes, 256<<20), FirstBytes: cmp.Or(l.FirstBytes, 256<<20), Silence: cmp.Or(l.Silence, 20*time.Second),
	}
}

// MaxName bounds the bytes of one name: of a resource, a type, a node or its gateway.
const MaxName = 4 << 10

// names is how many resources a stream may name of a type, and which limit says so.
func (l Limits) names(t *interest) (most int, limit string) {
	if t.solo {
		return l.Layers, "layers"
	}
	return l.Names, "names"
}

// allowance is what is left of a rate; nil has spent nothing yet.
type allowance struct{ limiter *rate.Limiter }

// spend takes what a request costs out of the allowance, and reports whether so much was left.
func (a *allowance) spend(l Limits, now time.Time, cost int) bool {
	if a.limiter == nil {
		a.limiter = rate.NewLimiter(rate.Limit(l.Requests), 10*l.Requests)
	}
	return a.limiter.AllowN(now, min(cost, a.limiter.Burst()))
}

// dearNames are so many that a request costs twice what others do which makes the server touch them, though it names few.
const dearNames = 16 << 10

// cost is what a request takes out of the allowance. The caller holds group.mu.
func (s *session) cost(t *interest, r *request) int {
	if r.protocol != Delta || r.subscribe+r.unsubscribe == 0 {
		return 1
	}
	touched := t.names.len() // a set of names never changes: an edit copies it
	if r.everything {
		touched += len(s.group.shelf(t.url).entries)
	}
	return 1 + touched/dearNames
}

// Limits of the connection. Envoys ping idle connections every few seconds, which grpc-go by
// default punishes (envoy-measured.md 9). A dead connection that owes nothing is noticed within
// keepaliveTime + keepaliveTimeout, a silent one that never says hello within helloTimeout.
const (
	keepaliveMinTime = 2 * time.Second
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = time.Minute      // the answer waits behind what is on its way: some 4 MiB, at slowest
	helloTimeout     = 20 * time.Second // thousands that come at once share the processors
	maxHeaderBytes   = 16 << 10
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20
	// readBuffer is larger than any frame. grpc-go has one only while there is something in it, on TCP and Unix sockets. Frames larger than it are read past it, and
	// the memory of the last is then held for as long as the connection is there: 16 KiB for each proxy that ever sent a long request.
	readBuffer = 32 << 10
)

// GRPCOptions returns the options that a grpc.Server for proxies needs. Messages of other services
// are read and written by base; nil is protobuf's. Streams of all services are bounded: see admit.
func (s *Server) GRPCOptions(base encoding.CodecV2) []grpc.ServerOption {
	l := s.limits
	if base == nil {
		base = encoding.GetCodecV2(protocodec.Name)
	}
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(Codec(base)),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.MaxRecvMsgSize(l.RequestBytes),
		grpc.MaxConcurrentStreams(uint32(l.ConnectionStreams)),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(helloTimeout),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.ReadBufferSize(readBuffer),
		grpc.InTapHandle(s.leashed),
		grpc.StreamInterceptor(s.admit),
	}
}

// slowest is how many bytes a second a proxy reads at least: who is sent much has more time.
const slowest = 64 << 10

// patience is how long a stream may owe an answer, or not take what it is sent.
func (s *session) patience() time.Duration {
	return s.server.limits.Silence + time.Duration(s.unanswered)*time.Second/slowest
}

// expelSilent disconnects the proxies that owe an answer and from which nothing came, on any
// stream, for too long. A proxy that only answers nothing but reports load stays, and holds the
// climb; but not one that reads nothing either.
func (s *Server) expelSilent(now time.Time) {
	var expelled []Event
	s.each(func(one *session) {
		owing, since := one.owing()
		quiet := now.Sub(latest(since, one.lastSeen()))
		if owing && !one.unread.Load() && quiet > one.patience() && one.kick(status.Errorf(codes.DeadlineExceeded, "%d responses unanswered and nothing heard for %s", len(one.flights), quiet.Round(time.Second))) {
			expelled = append(expelled, one.over("silence"))
		}
		began := one.writing.Load()
		if stuck := now.Sub(s.epoch) - time.Duration(began); began != 0 && stuck > one.patience() &&
			one.kick(status.Errorf(codes.DeadlineExceeded, "it has not read %d bytes of responses within %s", one.unanswered, stuck.Round(time.Second))) {
			expelled = append(expelled, one.over("reading"))
		}
		one.fold(now)
	})
	s.report(expelled...)
	for _, g := range s.all() {
		g.mu.Lock()
		g.tidy(now)
		g.mu.Unlock()
	}
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
