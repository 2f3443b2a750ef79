package xds

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet joins n proxies that subscribe to everything and have ACKed it, without connections.
func fleet(b *testing.B, s *Server, n int) []*session {
	b.Helper()
	sessions := make([]*session, n)
	for i := range sessions {
		first := requestOf(RuntimeType)
		first.Node = &corev3.Node{Id: fmt.Sprint("n", i), Cluster: "edge"}
		one, _, err := s.join(nobody(), requested(b, s, first))
		if err != nil {
			b.Fatal(err)
		}
		sessions[i] = one
		for _, r := range []*discoveryv3.DeltaDiscoveryRequest{
			{TypeUrl: RuntimeType, ResourceNamesSubscribe: []string{"l1"}}, {TypeUrl: ClusterType}, {TypeUrl: RouteType, ResourceNamesSubscribe: []string{"edge"}},
		} {
			if err := one.apply(requested(b, s, r)); err != nil {
				b.Fatal(err)
			}
		}
		exchange(b, one, s.now())
	}
	return sessions
}

// exchange ACKs all that a stream has to send and returns the bytes.
func exchange(b *testing.B, one *session, now time.Time) (bytes int) {
	var r request
	for {
		o := one.upcoming(now)
		if o.flight != nil {
			bytes += o.frame.size
			ack := appendText(appendText(make([]byte, 0, 128), deltaType, o.flight.t.url), deltaNonce, appendNonce(nil, o.flight.nonce))
			if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(ack)}, &r); err != nil {
				b.Fatal(err)
			}
			if err := one.apply(&r); err != nil {
				b.Fatal(err)
			}
		}
		if o.last && !one.hungry() {
			return bytes
		}
	}
}

// BenchmarkPublish is one step of one release: one layer changes, 1,000 streams are sent it and ACK it, next to 10 services and next to 1,000.
func BenchmarkPublish(b *testing.B) {
	const streams = 1000
	for _, services := range []int{10, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			s := New(Config{Cluster: "c1", Now: func() time.Time { return now }, Group: func(*corev3.Node, Protocol) string { return "edge" }})
			u := Update{Group: "edge"}
			routes := Resource{Key: Key{RouteType, "edge"}}
			for i := range services {
				name := fmt.Sprint("c", i)
				u.Set = append(u.Set, cluster(name, strings.Repeat("c", 300)))
				routes.Parts = append(routes.Parts, part(strings.Repeat("r", 100), arm(name)))
			}
			u.Set = append(u.Set, routes, layer("l1", "0"))
			s.Publish(1, []Update{u})
			s.Open()
			s.Prove(now)
			sessions := fleet(b, s, streams)
			b.ReportAllocs()
			b.ResetTimer()
			bytes := 0
			for step := range b.N {
				keys := fmt.Sprintf("%-300d", step)
				s.Publish(int64(2+step), []Update{{Group: "edge", Set: []Resource{layer("l1", keys)}}})
				bytes = 0
				for _, one := range sessions {
					bytes += exchange(b, one, now)
				}
			}
			b.StopTimer()
			if bytes < streams*300 {
				b.Fatalf("a step sent %d bytes to %d streams", bytes, streams)
			}
			b.ReportMetric(float64(bytes)/streams, "bytes/stream")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/streams, "ns/stream")
		})
	}
}

// TestPublishNeverWaitsForAStream publishes to streams whose Send never returns.
func TestPublishNeverWaitsForAStream(t *testing.T) {
	s := New(Config{Cluster: "c1", Now: time.Now, Group: func(*corev3.Node, Protocol) string { return "edge" }})
	s.Open()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	const streams = together + 1 // more than one sender has at once
	ended, sending := make(chan error, streams), make(chan struct{}, streams)
	for i := range streams {
		stuck := &stuckStream{fake: newFake(ctx), sending: sending}
		first := requestOf(ClusterType)
		first.Node = &corev3.Node{Id: fmt.Sprint("n", i), Cluster: "edge"}
		stuck.in <- first
		go func() { ended <- s.discover(stuck, Delta) }()
	}
	for range 2 {
		<-sending // the senders wait where a real stream does not
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 1000 {
			s.Publish(int64(i), []Update{{Group: "edge", Set: []Resource{cluster("a", fmt.Sprint(i))}}})
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("Publish waits for a stream")
	}
	cancel()
	for range streams {
		<-ended
	}
	<-ran
	<-done
}

// stuckStream is a stream whose client reads nothing.
type stuckStream struct {
	*fake
	sending chan struct{}
}

func (s *stuckStream) SendMsg(any) error {
	s.sending <- struct{}{}
	<-s.ctx.Done()
	return io.EOF
}

// BenchmarkStanding is what the leader asks once a turn for each running release.
func BenchmarkStanding(b *testing.B) {
	const streams = 1000
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := New(Config{Cluster: "c1", Now: func() time.Time { return now }, Group: func(*corev3.Node, Protocol) string { return "edge" }})
	s.Publish(1, []Update{{Group: "edge", Set: []Resource{cluster("a", "1"), cluster("b", "1"), cluster("c", "1"), routes(part("A", arm("a"))), layer("l1", "0")}}})
	s.Open()
	s.Prove(now)
	fleet(b, s, streams)
	want := []Requirement{
		{Key: Key{ClusterType, "a"}, Revision: 1}, {Key: Key{ClusterType, "b"}, Revision: 1}, {Key: Key{ClusterType, "c"}, Revision: 1},
		{Key: Key{RouteType, "edge"}, Revision: 1}, {Key: Key{RuntimeType, "l1"}, Revision: 1},
	}
	b.ReportAllocs()
	for b.Loop() {
		if standing := s.Standing("edge", want); standing.Met != streams {
			b.Fatalf("%+v", standing)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/streams, "ns/stream")
}
