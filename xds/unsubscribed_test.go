package xds

import (
	"fmt"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
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
