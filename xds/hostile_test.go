package xds

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// limited is opened with limits, and a healthy proxy that must still be served in the end.
func limited(t *testing.T, l Limits, test func(*rig)) {
	t.Helper()
	inBubble(t, func(c *Config) { c.Limits = l }, func(r *rig) {
		r.s.Open()
		r.set(11, cluster("a", "1"))
		healthy := r.client("healthy")
		healthy.ask(ClusterType)
		healthy.take("Cluster a=1")
		test(r)
		r.set(99, cluster("a", "2"))
		healthy.take("Cluster a=2")
	})
}

// exceeded counts the events of exceeded limits, as "names names".
func (r *rig) exceeded() string {
	synctest.Wait()
	var found []string
	for len(r.events) > 0 {
		if e := <-r.events; e.Kind == LimitExceeded {
			found = append(found, e.Limit)
		}
	}
	return strings.Join(found, " ")
}

func (r *rig) wantExceeded(want string) {
	r.t.Helper()
	if got := r.exceeded(); got != want {
		r.t.Errorf("exceeded limits are %q, want %q", got, want)
	}
}

func TestTooManyStreamsAreRefusedAndCounted(t *testing.T) {
	limited(t, Limits{Streams: 2}, func(r *rig) {
		second := r.client("n2")
		second.ask(ClusterType)
		second.take("Cluster a=1")
		third := r.client("n3")
		_ = third.stream.Send(requestOf(ClusterType)) // it may have ended before
		wantEnd(t, third, codes.ResourceExhausted, "has 2 streams")
		r.wantExceeded("streams")
		second.hangUp()
		third = r.client("n3")
		third.ask(ClusterType)
		third.take("Cluster a=1")
	})
}

func TestTooManyStreamsOfOneNodeAreRefusedAndCounted(t *testing.T) {
	limited(t, Limits{NodeStreams: 2}, func(r *rig) {
		for range 2 {
			c := r.client("n1")
			c.ask(ClusterType)
			c.take("Cluster a=1")
		}
		third, other := r.client("n1"), r.client("n2")
		third.ask(ClusterType)
		wantEnd(t, third, codes.ResourceExhausted, `node "n1" has 2 streams`)
		r.wantExceeded("nodestreams")
		other.ask(ClusterType)
		other.take("Cluster a=1")
	})
}

func TestTooManyTypesEndTheStreamAndAreCounted(t *testing.T) {
	limited(t, Limits{Types: 2}, func(r *rig) {
		c := r.client("n1")
		for _, url := range []string{ClusterType, ListenerType, RouteType} {
			c.ask(url)
		}
		wantEnd(t, c, codes.ResourceExhausted, "may ask for 2 types")
		r.wantExceeded("types")
	})
}

func TestTooManyNamesEndTheStreamAndAreCounted(t *testing.T) {
	limited(t, Limits{Names: 2, Layers: 1}, func(r *rig) {
		c := r.client("all at once")
		c.ask(EndpointType, "a", "b", "c")
		wantEnd(t, c, codes.ResourceExhausted, "may name 2")
		c = r.client("one by one")
		for _, name := range []string{"a", "b", "c"} {
			c.ask(EndpointType, name)
		}
		wantEnd(t, c, codes.ResourceExhausted, "may name 2")
		c = r.client("versions")
		c.resumeAll(ClusterType, map[string]string{"a": "1", "b": "1", "c": "1"})
		wantEnd(t, c, codes.ResourceExhausted, "may name 2")
		w := r.worldClient("state of the world")
		w.ask(EndpointType, "a", "b", "c")
		if err := <-w.ended; status.Code(err) != codes.ResourceExhausted {
			t.Errorf("ended with %v", err)
		}
		r.wantExceeded("names names names names")
		c = r.client("layers")
		c.ask(RuntimeType, "a", "b")
		wantEnd(t, c, codes.ResourceExhausted, "may name 1")
		r.wantExceeded("layers")
	})
}

func TestTooManyRequestsEndTheStreamAndAreCounted(t *testing.T) {
	limited(t, Limits{Requests: 2}, func(r *rig) {
		c := r.client("n1")
		for range 30 {
			if err := c.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ClusterType, Node: &corev3.Node{Id: "n1"}}); err != nil {
				break
			}
		}
		wantEnd(t, c, codes.ResourceExhausted, "2 requests a second that ask for something or answer nothing (--max-requests)")
		r.wantExceeded("requests")
	})
}

func TestRequestsThatAnswerSomethingAreNotLimited(t *testing.T) {
	limited(t, Limits{Requests: 1}, func(r *rig) {
		c := r.client("n1")
		c.ask(ListenerType)
		c.ack(c.next())
		for i := range 60 {
			r.set(int64(20+i), listener("b", fmt.Sprint(i)))
			c.ack(c.next())
		}
		c.quiet()
	})
}

// Asking for everything again, with each answer, would have it looked at again for nothing.
func TestAnswersThatAskForMoreAreLimited(t *testing.T) {
	limited(t, Limits{Requests: 2}, func(r *rig) {
		c := r.client("n1")
		c.ask(ListenerType)
		for range 30 {
			synctest.Wait()
			if len(c.came) == 0 {
				break // it has ended
			}
			m := <-c.came
			if err := c.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ListenerType, ResponseNonce: m.Nonce, ResourceNamesSubscribe: []string{"*"}}); err != nil {
				break
			}
		}
		wantEnd(t, c, codes.ResourceExhausted, "2 requests a second that ask for something")
		r.wantExceeded("requests")
	})
}

// In the state of the world each answer names all that the client wants.
func TestAnswersOfTheStateOfTheWorldThatNameTheSameAreNotLimited(t *testing.T) {
	limited(t, Limits{Requests: 1}, func(r *rig) {
		r.set(19, endpoints("a", "0"), endpoints("b", "0"))
		c := r.worldClient("n1")
		c.ask(EndpointType, "a", "b")
		c.ack(c.next(), "a", "b")
		for i := range 60 {
			r.set(int64(20+i), endpoints("b", fmt.Sprint(1+i)))
			c.ack(c.next(), "b", "a")
		}
		c.quiet()
	})
}

func TestATooLargeRequestEndsTheStreamAndIsCounted(t *testing.T) {
	limited(t, Limits{RequestBytes: 1000}, func(r *rig) {
		c := r.client("n1")
		c.ask(ClusterType)
		c.ack(c.next())
		c.ask(EndpointType, strings.Repeat("x", 2000))
		wantEnd(t, c, codes.ResourceExhausted, "larger than max")
		c = r.client("n2")
		c.ask(EndpointType, strings.Repeat("x", 2000))
		wantEnd(t, c, codes.ResourceExhausted, "larger than max")
		r.wantExceeded("requestbytes requestbytes")
	})
}

func TestStreamsBeyondAConnectionsShareWaitForTheOthersToEnd(t *testing.T) {
	limited(t, Limits{ConnectionStreams: 2}, func(r *rig) {
		second := r.client("n2")
		second.ask(ClusterType)
		second.take("Cluster a=1")
		came := make(chan error, 1)
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
		defer cancel()
		go func() {
			third, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(ctx)
			if err == nil {
				err = third.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ClusterType, Node: &corev3.Node{Id: "n3", Cluster: "edge"}})
			}
			if err == nil {
				_, err = third.Recv()
			}
			came <- err
		}()
		synctest.Wait()
		if n := len(r.s.Proxies()); n != 2 {
			t.Errorf("%d streams are served", n)
		}
		second.hangUp()
		if err := <-came; err != nil {
			t.Errorf("the third stream: %v", err)
		}
	})
}

func TestMalformedRequestsEndTheirStreamOnly(t *testing.T) {
	for name, wire := range map[string]string{
		"cut off": "\x1a\xff", "a type that is no text": "\x12\x01\xff", "a name that is no text": "\x1a\x01\xff", "a version of a name that is no text": "\x2a\x03\x0a\x01\xff",
		"a pair that is cut off": "\x2a\x02\x0a\x05", "an error that is cut off": "\x3a\x02\x12\x05", "a locator": "\x42\x00",
	} {
		if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, bare().newRequest(Delta)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	limited(t, Limits{}, func(r *rig) {
		c := r.client("n1")
		c.send(&discoveryv3.DeltaDiscoveryRequest{ResourceLocatorsSubscribe: []*discoveryv3.ResourceLocator{{Name: "x"}}})
		wantEnd(t, c, codes.Internal, "resource locators are not known here")
	})
}

// A session in any state may hit a bug while it is sent to; its stream ends, the senders go on.
func TestAPanicWhileSendingEndsItsOwnStreamOnly(t *testing.T) {
	limited(t, Limits{}, func(r *rig) {
		c := r.client("n1")
		c.ask(ListenerType)
		c.take("Listener")
		synctest.Wait()
		var broken *session
		r.s.each(func(one *session) {
			if one.node == "n1" {
				broken = one
				one.types, one.stirred = append(one.types, nil), 1<<unranked
			}
		})
		r.s.queue.add(false, broken)
		wantEnd(t, c, codes.DeadlineExceeded, "")
	})
}

func TestAnUnansweredRollbackIsNotSentWithoutEnd(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, layer("l1", "0"), route("0"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.ask(RouteType, "edge")
		synctest.Wait()
		for i := range 1000 {
			r.s.Publish(int64(12+i), []Update{{Group: "edge", Set: []Resource{layer("l1", fmt.Sprint(i)), route(fmt.Sprint(i))}, Urgent: true}})
			synctest.Wait()
			r.s.Touch("n1", time.Now())
		}
		if n := r.s.Proxies()[0].Pending; n > 2*maxOvertaking+2 {
			t.Errorf("%d responses are unanswered", n)
		}
		newest := map[string]string{}
		for quiet := false; !quiet; {
			synctest.Wait()
			select {
			case m := <-c.came:
				newest[m.Resources[0].Name] = describe(m)
				c.ack(m)
			default:
				quiet = true
			}
		}
		if newest["l1"] != "Runtime l1=l1:999/3s" || newest["edge"] != "RouteConfiguration edge=999" {
			t.Errorf("it ends with %v", newest)
		}
	})
}

// joined is a session that subscribed to everything of some types and has ACKed it.
func joined(t testing.TB, s *Server, group, node string, first ...*discoveryv3.DeltaDiscoveryRequest) *session {
	t.Helper()
	first[0].Node = &corev3.Node{Id: node, Cluster: group}
	one, _, err := s.join(nobody(), requested(t, s, first[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range first {
		if err := one.apply(requested(t, s, r)); err != nil {
			t.Fatal(err)
		}
	}
	ackAll(t, one)
	return one
}

// ackAll ACKs all that a stream is sent, and returns how many responses that were.
func ackAll(t testing.TB, one *session) (responses int) {
	t.Helper()
	for {
		f := one.upcoming(one.server.now()).flight
		if f == nil {
			return responses
		}
		responses++
		ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: f.t.url, ResponseNonce: string(appendNonce(nil, f.nonce))}
		if err := one.apply(requested(t, one.server, ack)); err != nil {
			t.Fatal(err)
		}
	}
}

// A proxy that has stopped reading may go on reporting; its stream is cut all the same.
func TestAProxyThatReadsNothingIsCutThoughItReports(t *testing.T) {
	limited(t, Limits{}, func(r *rig) {
		r.set(12, listener("x", strings.Repeat("x", 2<<20)), route("r"))
		conn := r.dial()
		defer conn.Close()
		ctx, cancel := context.WithCancel(r.t.Context())
		defer cancel()
		stuck, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		first := requestOf(ListenerType)
		first.Node = &corev3.Node{Id: "stuck", Cluster: "edge"}
		if err := stuck.Send(first); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := stuck.Send(requestOf(RouteType)); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			r.s.Touch("stuck", time.Now())
			time.Sleep(time.Second)
		}
		r.wantExceeded("reading")
		synctest.Wait()
		if p := r.s.Proxies(); len(p) != 1 || p[0].Node != "healthy" {
			t.Errorf("the stuck proxy is still there: %+v", p)
		}
	})
}

// TestMain's goleak fails if any of them leaves a goroutine behind.
func TestAThousandConnectionsLeaveNothingBehind(t *testing.T) {
	limited(t, Limits{}, func(r *rig) {
		for i := range 1000 {
			c := r.client(fmt.Sprint("n", i))
			c.node.Cluster = fmt.Sprint("group ", i%3)
			c.ask(ClusterType)
			c.ask(EndpointType, fmt.Sprint("e", i))
			c.ack(c.next())
			c.hangUp()
		}
		if len(r.s.nodes) != 1 || r.s.open != 1 || len(r.s.groups) != 1 || len(r.s.groups["edge"].sessions) != 1 {
			t.Errorf("left are %d nodes, %d streams, %d groups", len(r.s.nodes), r.s.open, len(r.s.groups))
		}
	})
}
