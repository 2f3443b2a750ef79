package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

func TestEverySubscriptionIsAnsweredAlsoWhenUnchanged(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=1")
		c.quiet()
	})
}

func TestANameUnsubscribedAndSubscribedInOneRequestIsAnsweredAndStays(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=1")
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesSubscribe: []string{"a"}, ResourceNamesUnsubscribe: []string{"a"}})
		c.take("ClusterLoadAssignment a=1")
		r.set(12, endpoints("a", "2"))
		c.take("ClusterLoadAssignment a=2")
	})
}

func TestUnknownNamesAreAnsweredAsRemovedAtOnce(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment -a -b")
		c.ask(RuntimeType, "l1", "l2")
		c.take("Runtime -l1 -l2")
		c.ask("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "s")
		c.take("Secret -s")
		r.set(11, endpoints("b", "1"))
		c.take("ClusterLoadAssignment b=1")
		c.quiet()
	})
}

// DESIGN §9: a proxy of an unknown gateway is answered empty everywhere.
func TestAProxyOfAnUnknownGroupIsAnsweredEmptyEverywhere(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		c.node.Cluster = "nobody"
		c.ask(ClusterType)
		c.take("Cluster")
		c.ask(ListenerType, "*")
		c.take("Listener")
		c.quiet()
		c.hangUp()
		if g := r.s.find("nobody"); g != nil {
			t.Error("a group that nobody publishes to or belongs to is still remembered")
		}
	})
}

func TestAWildcardGetsEverythingAndWhatIsAdded(t *testing.T) {
	for name, names := range map[string][]string{"legacy": nil, "star": {"*"}} {
		t.Run(name, func(t *testing.T) {
			opened(t, func(r *rig) {
				r.set(11, cluster("a", "1"), cluster("b", "1"))
				c := r.client("n1")
				c.ask(ClusterType, names...)
				c.take("Cluster a=1 b=1")
				r.set(12, cluster("b", "2"), cluster("c", "2"))
				c.take("Cluster b=2 c=2")
				c.quiet()
			})
		})
	}
}

func TestAnEndedWildcardLeavesOnlyTheNamedOnes(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), cluster("b", "1"))
		c := r.client("n1")
		c.ask(ClusterType, "*", "a")
		c.take("Cluster a=1 b=1")
		c.drop(ClusterType, "*")
		c.quiet()
		r.set(12, cluster("a", "2"), cluster("b", "2"))
		c.take("Cluster a=2")
		c.quiet()
	})
}

func TestANameUnsubscribedUnderAWildcardIsSentAgain(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType, "*", "a")
		c.take("Cluster a=1")
		c.drop(ClusterType, "a")
		c.take("Cluster a=1")
	})
}

func TestUnsubscribedNamesAreLeftAlone(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"), endpoints("b", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment a=1 b=1")
		c.drop(EndpointType, "a")
		c.quiet()
		r.set(12, endpoints("a", "2"))
		r.remove(13, Key{EndpointType, "a"})
		time.Sleep(time.Minute)
		c.quiet()
	})
}

func TestEqualContentKeepsItsVersionAndIsNotSentAgain(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		first := versionOf(t, c.take("Cluster a=1"), "a")
		r.set(12, cluster("a", "1"))
		c.quiet()
		c.ask(ClusterType, "a")
		if again := versionOf(t, c.take("Cluster a=1"), "a"); again != first {
			t.Errorf("version became %s, was %s", again, first)
		}
	})
}

func TestOneResponsePerTypeIsInFlightAndTheLatestWins(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		first := c.expect("Cluster a=1")
		r.set(12, cluster("a", "2"))
		r.set(13, cluster("a", "3"), cluster("b", "3"))
		c.quiet()
		c.ask(ListenerType)
		c.take("Listener")
		c.ack(first)
		c.take("Cluster a=3 b=3")
		c.quiet()
	})
}

func TestTypesGoInOrderWithinAStream(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		for _, url := range []string{RuntimeType, RouteType, ListenerType, EndpointType, ClusterType} {
			c.ask(url, "*")
			c.take(describe(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: url}))
		}
		r.set(11, layer("l1", "k"), route("r"), Resource{Key: Key{ListenerType, "l"}, Body: []byte("l")}, endpoints("a", "1"), cluster("a", "1"))
		c.take("Cluster a=1")
		c.take("ClusterLoadAssignment a=1")
		c.take("Listener l=l")
		c.take("RouteConfiguration edge=r")
		c.take("Runtime l1=l1:k/3s")
		c.quiet()
	})
}

func TestStaleAndUnknownNoncesAreIgnored(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		want := Requirement{Key: Key{ClusterType, "a"}, Revision: 11}
		c := r.client("n1")
		c.ask(ClusterType)
		first := c.expect("Cluster a=1")
		c.ack(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: ClusterType, Nonce: "never"})
		c.ack(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: EndpointType, Nonce: first.Nonce})
		if got := r.standing(want); got != "0 of 1, 0 rejected" {
			t.Errorf("after foreign nonces: %s", got)
		}
		for len(c.came) > 0 {
			c.ack(<-c.came) // the endpoint request's own answer
		}
		c.ack(first)
		c.nack(first, "too late")
		if got := r.standing(want); got != "1 of 1, 0 rejected" {
			t.Errorf("after a stale NACK: %s", got)
		}
		r.set(12, cluster("a", "2"))
		c.take("Cluster a=2")
	})
}

func TestEachRuntimeLayerIsItsOwnResponseAndWaitsForNoOther(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, layer("l1", "1"), layer("l2", "1"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1", "l2")
		first := c.expect("Runtime l1=l1:1/3s")
		c.take("Runtime l2=l2:1/3s")
		r.set(12, layer("l1", "2"), layer("l2", "2"))
		c.take("Runtime l2=l2:2/3s")
		c.quiet()
		c.ack(first)
		c.take("Runtime l1=l1:2/3s")
	})
}
