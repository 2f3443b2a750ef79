package xds

import (
	"fmt"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

func TestAPartWhosePoolIsUnsubscribedIsTakenOut(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "e"), endpoints("b", "e"), routes(part("A", pool("a")), part("B", pool("b"))))
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment a=e b=e")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:AB")
		c.drop(EndpointType, "a")
		c.take("RouteConfiguration edge=edge:B")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=e")
		c.take("RouteConfiguration edge=edge:AB")
	})
}

func TestNamesOfARejectedResponseThatAreUnsubscribedAreNotSentAgain(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "bad"), endpoints("b", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		m := c.expect("ClusterLoadAssignment a=bad b=1")
		c.nack(m, "bad")
		first := c.expect("ClusterLoadAssignment a=bad")
		c.drop(EndpointType, "b")
		c.nack(first, "bad")
		time.Sleep(time.Minute)
		c.quiet()
	})
}

func TestAResourceIsNotBlamedForOneThatWasUnsubscribedBesideIt(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "bad"), endpoints("b", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		m := c.expect("ClusterLoadAssignment a=bad b=1")
		c.drop(EndpointType, "a")
		c.nack(m, "bad")
		c.take("ClusterLoadAssignment b=1")
		if p := r.s.Proxies()[0]; len(p.Rejections) > 0 {
			t.Errorf("rejections: %v", p.Rejections)
		}
	})
}

// The proxy reads the response when it wants everything again, and takes what is in it for that.
func TestWhatIsUnpublishedWhileAWildcardEndsAndBeginsIsTakenAway(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, listener("x", "1"))
		c := r.client("n1")
		c.ask(ListenerType, "*")
		m := c.expect("Listener x=1")
		r.remove(12, Key{ListenerType, "x"})
		c.drop(ListenerType, "*")
		c.ask(ListenerType, "*")
		c.ack(m)
		c.take("Listener -x")
		c.quiet()
	})
}

// Both lists may be long: what goes and comes again is found without comparing each with each.
func TestManyNamesMayGoAndComeAgainInOneRequest(t *testing.T) {
	opened(t, func(r *rig) {
		var some, all []string
		for i := range 100_000 {
			if all = append(all, fmt.Sprint("name-", i)); i%2 == 0 {
				some = append(some, all[i])
			}
		}
		c := r.client("n1")
		c.ask(EndpointType, all...)
		c.ack(c.next())
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesSubscribe: some, ResourceNamesUnsubscribe: all})
		if m := c.next(); len(m.RemovedResources) != len(some) {
			t.Errorf("%d names were answered, want %d", len(m.RemovedResources), len(some))
		}
	})
}

// One message may refuse two layers and take one of them back: the other is tried alone all the same.
func TestALayerIsTriedAloneThoughTheOneBeforeItIsNotWantedAnyMore(t *testing.T) {
	opened(t, func(r *rig) {
		plain := func(name string) Resource { return Resource{Key: Key{RuntimeType, name}, Body: []byte(name)} }
		r.set(11, plain("a"), plain("b"))
		c := r.client("n1")
		c.ask(RuntimeType, "a", "b")
		m := c.expect("Runtime a=a b=b")
		c.send(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: RuntimeType, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Message: "no"}, ResourceNamesUnsubscribe: []string{"a"},
		})
		c.take("Runtime b=b")
	})
}

// The answer to a heartbeat may take a layer back: then its proxy has it no more.
func TestALayerTakenBackInTheAnswerToAHeartbeatIsMetNoMore(t *testing.T) {
	opened(t, func(r *rig) {
		defer r.proving()()
		r.set(11, cluster("a", "1"), layer("l1", "k"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		want := poolAndLayer("l1", 11)
		if got := r.standing(want...); got != "1 of 1, 0 rejected" {
			t.Errorf("it has all: %s", got)
		}
		time.Sleep(time.Second)
		beat := c.expect("Runtime l1~/3s")
		if got := r.standing(want...); got != "1 of 1, 0 rejected" {
			t.Errorf("a heartbeat changes nothing: %s", got)
		}
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: RuntimeType, ResponseNonce: beat.Nonce, ResourceNamesUnsubscribe: []string{"l1"}})
		if got := r.standing(want...); got != "0 of 1, 0 rejected" {
			t.Errorf("it has taken it back: %s", got)
		}
	})
}

// What a proxy is given back of before says nothing of what it has by now.
func TestWhatIsGivenBackIsNoProofOfWhatItNeeds(t *testing.T) {
	opened(t, func(r *rig) {
		both := func(v string) Resource { return routes(part("A"+v, pool("a")), part("B"+v, pool("b"))) }
		r.set(11, endpoints("a", "e"), endpoints("b", "e"), both("0"))
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment a=e b=e")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:A0B0")
		r.set(12, both("1"))
		c.nack(c.expect("RouteConfiguration edge=edge:A1B1"), "no")
		c.drop(EndpointType, "a")
		c.nack(c.expect("RouteConfiguration edge=edge:B1"), "no")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:A0B0")
		r.set(13, both("2"))
		c.take("RouteConfiguration edge=edge:B2")
	})
}
