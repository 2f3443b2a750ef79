package xds

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

func wantEnd(t *testing.T, c *client, code codes.Code, words string) {
	t.Helper()
	if err := c.end(); status.Code(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("the stream ended with %v, want %s and %q", err, code, words)
	}
}

// disconnections are why proxies were disconnected so far.
func (r *rig) disconnections() (words []string) {
	synctest.Wait()
	for len(r.events) > 0 {
		if e := <-r.events; e.Kind == ProxyDisconnected {
			words = append(words, e.Words)
		}
	}
	return words
}

func TestStreamsAreRefusedUntilTheServerIsOpen(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		wantEnd(t, r.client("n1"), codes.Unavailable, "not caught up")
		r.s.Open()
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster")
	})
}

func TestAStreamThatChangesItsNodeIsEnded(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster")
		c.node = &corev3.Node{Id: "n2"}
		c.ask(ListenerType)
		wantEnd(t, c, codes.InvalidArgument, `began as node "n1" and goes on as node "n2"`)
	})
}

func TestAStreamWithoutANodeIsEnded(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("")
		c.ask(ClusterType)
		wantEnd(t, c, codes.InvalidArgument, "node id")
	})
}

func TestASilentProxyThatOwesAnAnswerIsDisconnected(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("1"))
		c := r.client("silent")
		c.ask(RouteType, "edge")
		c.expect("RouteConfiguration edge=1")
		time.Sleep(19 * time.Second)
		c.quiet()
		wantEnd(t, c, codes.DeadlineExceeded, "")
		synctest.Wait()
		if told := r.disconnections(); len(told) != 1 || !strings.Contains(told[0], "1 responses unanswered and nothing heard for 2") {
			t.Errorf("the reason is %q", told)
		}
		if n := len(r.s.Proxies()); n != 0 {
			t.Errorf("%d proxies left", n)
		}
	})
}

func TestASilentProxyIsCounted(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("1"))
		c := r.client("silent")
		c.ask(RouteType, "edge")
		c.expect("RouteConfiguration edge=1")
		time.Sleep(time.Minute)
		wantEnd(t, c, codes.DeadlineExceeded, "")
		r.wantExceeded("silence")
	})
}

func TestAProxyThatReportsOnAnotherStreamIsNotSilent(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("1"))
		c := r.client("n1")
		c.ask(RouteType, "edge")
		c.expect("RouteConfiguration edge=1")
		for range 60 {
			time.Sleep(time.Second)
			r.s.Touch("n1", time.Now())
			r.s.Touch("unknown", time.Now())
		}
		c.quiet()
		if seen := r.s.Proxies()[0].LastSeen; !seen.Equal(time.Now()) {
			t.Errorf("last seen %s", seen)
		}
		if reported := r.s.Proxies()[0].LastReport; !reported.Equal(time.Now()) {
			t.Errorf("last report %s", reported)
		}
		r.client("n2").ask(RouteType, "edge")
		synctest.Wait()
		if reported := r.s.Proxies()[1].LastReport; !reported.IsZero() {
			t.Errorf("last report %s of a proxy that never reported", reported)
		}
	})
}

func TestAnIdleProxyIsNotSilent(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("1"))
		c := r.client("n1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=1")
		time.Sleep(time.Hour)
		c.quiet()
		r.set(12, route("2"))
		time.Sleep(time.Second) // it has owed an answer for a second only
		c.take("RouteConfiguration edge=2")
		time.Sleep(time.Hour)
		c.quiet()
	})
}

// grpc-go's default ends a connection that pings more often than every five minutes (envoy-measured.md 9).
func TestAnIdleEnvoyMayPing(t *testing.T) {
	opened(t, func(r *rig) {
		ping := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true})
		r.conn.Close()
		r.conn = r.dial(ping)
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster")
		time.Sleep(time.Hour)
		c.quiet()
		c.hangUp()
		time.Sleep(time.Hour)
		if state := r.conn.GetState(); state != connectivity.Ready && state != connectivity.Idle {
			t.Errorf("the connection is %s", state)
		}
	})
}

func TestAProxyThatDoesNotReadCostsOnlyItself(t *testing.T) {
	opened(t, func(r *rig) {
		big := cluster("big", strings.Repeat("x", 4<<20)) // more than all windows hold
		r.set(11, big)
		r.deaf("stuck")
		c := r.client("healthy")
		c.ask(ClusterType)
		c.ack(c.next())
		for revision := range int64(100) {
			r.set(12+revision, cluster("a", string(rune('a'+revision))))
			c.ack(c.next())
		}
		if n := len(r.s.Proxies()); n != 2 {
			t.Fatalf("%d proxies", n)
		}
		time.Sleep(time.Minute) // at 64 KiB a second it would have read it a little later
		if n := len(r.s.Proxies()); n != 2 {
			t.Errorf("%d proxies", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if p := r.s.Proxies(); len(p) != 1 || p[0].Node != "healthy" {
			t.Errorf("the stuck proxy is still there: %+v", p)
		}
	})
}

// deaf is a proxy that asks for clusters and reads nothing.
func (r *rig) deaf(node string) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	conn := r.dial() // of its own: windows are per connection
	r.cancels = append(r.cancels, func() { cancel(); _ = conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	first := requestOf(ClusterType)
	first.Node = &corev3.Node{Id: node, Cluster: "edge"}
	if err := stream.Send(first); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// Who pretends to have read a response could have the next one wait for it, and a sender with it.
func TestProxiesThatPretendToReadHoldUpNobody(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("big", strings.Repeat("x", 4<<20)), listener("b", strings.Repeat("x", 4<<20)))
		ctx, cancel := context.WithCancel(r.t.Context())
		defer cancel()
		for i := range 2 * runtime.GOMAXPROCS(0) {
			conn := r.dial()
			defer conn.Close()
			stuck, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
			if err != nil {
				t.Fatal(err)
			}
			first := requestOf(ClusterType)
			first.Node = &corev3.Node{Id: fmt.Sprint("stuck", i), Cluster: "edge"}
			for n, request := range []*discoveryv3.DeltaDiscoveryRequest{first, {TypeUrl: ClusterType, ResponseNonce: "1"}, {TypeUrl: ClusterType, ResponseNonce: "2"}, requestOf(ListenerType)} {
				if err := stuck.Send(request); err != nil {
					t.Fatalf("request %d: %v", n, err)
				}
				synctest.Wait()
			}
		}
		c := r.client("healthy")
		c.ask(RouteType, "edge")
		c.ack(c.next())
		r.set(12, route("2"))
		c.take("RouteConfiguration edge=2")
	})
}

func TestNoncesCannotBeGuessed(t *testing.T) {
	seen := map[uint64]bool{}
	for last := uint64(0); len(seen) < 1000; {
		next := secretNonce()
		if seen[next] || next == 0 || next-last < 1<<20 || nonceOf(appendNonce(nil, next)) != next {
			t.Fatalf("nonce %d after %d", next, last)
		}
		seen[next], last = true, next
	}
}

func TestAPanicEndsItsOwnStreamOnly(t *testing.T) {
	change := func(c *Config) {
		c.Held = func(Key, string) { panic("a bug") }
	}
	inBubble(t, change, func(r *rig) {
		r.s.Open()
		r.s.Prove(time.Now())
		r.set(11, layer("l1", "k"))
		good, bad := r.client("good"), r.client("bad")
		good.ask(RuntimeType, "l1")
		good.take("Runtime l1=l1:k/3s")
		tagged := layer("l1", "k")
		tagged.Tag = "t"
		bad.resume(RuntimeType, map[string]string{"l1": newEntry(tagged, "c1", 10).full.version})
		wantEnd(t, bad, codes.Internal, "bug in the server")
		r.set(12, layer("l1", "2"))
		good.take("Runtime l1=l1:2/3s")
	})
}

func TestAPanicInTheGroupingEndsItsOwnStreamOnly(t *testing.T) {
	change := func(c *Config) {
		c.Group = func(n *corev3.Node, _ Protocol) string {
			if n.Id == "bad" {
				panic("a bug")
			}
			return n.Cluster
		}
	}
	inBubble(t, change, func(r *rig) {
		r.s.Open()
		bad := r.client("bad")
		bad.ask(ClusterType)
		wantEnd(t, bad, codes.Internal, "bug in the server")
		good := r.client("good")
		good.ask(ClusterType)
		good.take("Cluster")
	})
}

func TestAPanicWhileSomethingIsPublishedEndsItsOwnStreamOnly(t *testing.T) {
	opened(t, func(r *rig) {
		good, bad := r.client("good"), r.client("bad")
		for _, c := range []*client{good, bad} {
			c.ask(ClusterType, "a")
			c.take("Cluster -a")
		}
		r.s.each(func(one *session) {
			if one.node == "bad" {
				one.interest(ClusterType).session = nil // a bug
			}
		})
		r.set(11, cluster("a", "1"))
		wantEnd(t, bad, codes.DeadlineExceeded, "") // it waits for its client: see leash
		good.take("Cluster a=1")
	})
}

func TestAStreamMayNotAskForMoreThanItsShare(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		names := make([]string, Limits{}.WithDefaults().Layers+1)
		for i := range names {
			names[i] = strings.Repeat("x", i+1)
		}
		c.ask(RuntimeType, names...)
		wantEnd(t, c, codes.ResourceExhausted, "may name 1024")
		c = r.client("n2")
		for i := range 33 {
			if err := c.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: strings.Repeat("t", i+1), Node: &corev3.Node{Id: "n2"}}); err != nil {
				break
			}
		}
		wantEnd(t, c, codes.ResourceExhausted, "may ask for 32 types")
	})
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Cluster: "c1", Now: time.Now, Group: func(*corev3.Node, Protocol) string { return "edge" }})
		s.Open()
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		one := newFake(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.discover(one, Delta) }()
		first := requestOf(ClusterType)
		first.Node = &corev3.Node{Id: "n1"}
		one.in <- first
		<-one.out
		cancel()
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("ended with %v", err)
		}
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		one.cancel()
		if err := s.discover(newFake(t.Context()), Delta); status.Code(err) != codes.Unavailable {
			t.Errorf("a late stream ended with %v", err)
		}
	})
}

func TestEventsTellOfConnectionsResponsesAndAnswers(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"), route("bad"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		c.ask(RouteType, "edge")
		c.nack(c.expect("RouteConfiguration edge=bad"), "bad")
		time.Sleep(time.Second)
		c.take("Runtime l1~/3s")
		c.quiet()
		c.hangUp()
		counts := map[Event]int{}
		for len(r.events) > 0 {
			e := <-r.events
			e.Took = 0
			counts[e]++
		}
		for _, want := range []Event{
			{Kind: ProxyConnected, Version: "Envoy 1.40.0"}, {Kind: ProxyDisconnected},
			{Kind: ResponseSent, Type: RuntimeType}, {Kind: ResponseAccepted, Type: RuntimeType},
			{Kind: ResponseSent, Type: RouteType}, {Kind: ResponseRejected, Type: RouteType, Words: "bad"},
			{Kind: ResponseSent, Type: RuntimeType, Heartbeat: true}, {Kind: ResponseAccepted, Type: RuntimeType, Heartbeat: true},
		} {
			want.Node, want.Group = "n1", "edge"
			if counts[want] != 1 {
				t.Errorf("%+v was reported %d times, want once", want, counts[want])
			}
		}
	})
}
