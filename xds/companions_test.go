package xds

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// onePair is a connection with a stream of discovery and one of another service.
type onePair struct {
	discovery, other <-chan error // where their ends come
}

func pairOn(ctx context.Context, t *testing.T, addr, node string) onePair {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	status, err := statusv3.NewClientStatusDiscoveryServiceClient(conn).StreamClientStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := status.Send(&statusv3.ClientStatusRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := status.Recv(); err != nil {
		t.Fatal(err)
	}
	discovery, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := requestOf(ClusterType)
	ask.Node, ask.ResourceNamesSubscribe = &corev3.Node{Id: node, Cluster: "edge"}, []string{"a"}
	if err := discovery.Send(ask); err != nil {
		t.Fatal(err)
	}
	if _, err := discovery.Recv(); err != nil {
		t.Fatal(err)
	}
	end := func(receive func() error) <-chan error {
		ended := make(chan error, 1)
		go func() { ended <- receive() }()
		return ended
	}
	return onePair{
		end(func() error { _, err := discovery.Recv(); return err }),
		end(func() error { _, err := status.Recv(); return err }),
	}
}

// A proxy that is sent to another server takes its streams of reports along; the others' go on until it is their turn.
func TestDrainingEndsAConnectionsStreamsTogetherAndConnectionsOneByOne(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	var s *Server
	var passed atomic.Int64
	var once sync.Once
	draining := make(chan struct{})
	now := func() time.Time {
		at := began.Add(time.Duration(passed.Load()))
		if s != nil && s.closed.Load() {
			once.Do(func() { close(draining) }) // nobody else asks: it has begun
		}
		return at
	}
	s = New(Config{Cluster: "c1", Now: now, Group: func(*corev3.Node, Protocol) string { return "edge" }, Limits: Limits{Silence: time.Hour}})
	s.Open()
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- s.Run(running) }()
	server, addr, served := overTCP(t, s)
	defer func() {
		server.Stop()
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		<-served
	}()
	pairs := []onePair{pairOn(ctx, t, addr, "n1"), pairOn(ctx, t, addr, "n2")}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Drain(ctx, time.Hour)
	}()
	<-draining
	passed.Store(int64(40 * time.Minute)) // half of them have had their turn
	var first, second onePair
	select {
	case <-pairs[0].discovery:
		first, second = pairs[0], pairs[1]
	case <-pairs[1].discovery:
		first, second = pairs[1], pairs[0]
	}
	<-first.other
	select {
	case err := <-second.discovery:
		t.Errorf("the other proxy's discovery ended with %v", err)
	case err := <-second.other:
		t.Errorf("the other proxy's other stream ended with %v", err)
	default:
	}
	passed.Store(int64(time.Hour))
	<-second.discovery
	<-second.other
	<-drained
	s.companions.mu.Lock()
	defer s.companions.mu.Unlock()
	if len(s.companions.of) > 0 {
		t.Errorf("remembered: %v", s.companions.of)
	}
}
