package xds

import (
	"testing"
)

// The tests of this file hold what envoy-measured.md 4 found: Envoy never asks again for the endpoints of a changed cluster, and holds the cluster's ACK until it has them.

func TestEndpointsFollowEveryClusterWithoutWaitingForItsACK(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), endpoints("a", "e"), cluster("b", "1"), endpoints("b", "e"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1 b=1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment a=e b=e")
		r.set(12, cluster("a", "2"))
		held := c.expect("Cluster a=2")
		c.take("ClusterLoadAssignment a=e")
		c.ack(held)
		c.quiet()
	})
}

func TestEndpointsGoAsSoonAsTheyAreSubscribedThoughTheClusterIsUnacked(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), endpoints("a", "e"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.expect("Cluster a=1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=e")
		c.quiet()
	})
}

func TestEndpointsThatTheProxyHoldsFollowItsClusterAllTheSame(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), endpoints("a", "e"), cluster("b", "1"), endpoints("b", "e"))
		c := r.client("n1")
		c.ask(ClusterType)
		m := c.take("Cluster a=1 b=1")
		clusters := map[string]string{"a": versionOf(t, m, "a"), "b": versionOf(t, m, "b")}
		c.ask(EndpointType, "a", "b")
		m = c.take("ClusterLoadAssignment a=e b=e")
		assignments := map[string]string{"a": versionOf(t, m, "a"), "b": versionOf(t, m, "b")}
		c.hangUp()
		r.set(12, cluster("a", "2"))

		c = r.client("n1")
		c.resume(ClusterType, clusters)
		c.expect("Cluster a=2")
		c.resume(EndpointType, assignments)
		c.take("ClusterLoadAssignment a=e")
		c.quiet()
	})
}

func arm(name string) Need  { return Need{Key: Key{ClusterType, name}} }
func pool(name string) Need { return Need{Key: Key{EndpointType, name}, Accepted: true} }

// routes is a RouteConfiguration with one part per word; the word before "=" is the pool it needs accepted.
func routes(parts ...Part) Resource {
	return Resource{Key: Key{RouteType, "edge"}, Body: []byte("edge:"), Parts: parts}
}

func part(body string, needs ...Need) Part { return Part{Body: []byte(body), Needs: needs} }

func TestAPartWaitsForWhatItNeedsAndIsCompletedByTheACK(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), endpoints("a", "e"), cluster("b", "1"), endpoints("b", "e"), routes(part("A", pool("a")), part("B", pool("b"))))
		c := r.client("n1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:")
		c.ask(EndpointType, "a")
		m := c.expect("ClusterLoadAssignment a=e")
		c.quiet()
		c.ack(m)
		c.take("RouteConfiguration edge=edge:A")
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 11}); got != "0 of 1, 0 rejected" {
			t.Errorf("with a part missing: %s", got)
		}
		c.ask(EndpointType, "b")
		c.take("ClusterLoadAssignment b=e")
		c.take("RouteConfiguration edge=edge:AB")
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 11}); got != "1 of 1, 0 rejected" {
			t.Errorf("with all parts: %s", got)
		}
	})
}

func TestALayerNamesAnArmAsSoonAsItWasSent(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime -l1")
		c.ask(ClusterType)
		c.take("Cluster")
		l := layer("l1", "k")
		l.Parts[0].Needs = []Need{arm("arm")}
		r.set(11, l, cluster("arm", "1"))
		c.expect("Cluster arm=1")
		c.take("Runtime l1=l1:k/3s")
		c.quiet()
	})
}

func TestAPartWhoseNewNeedIsUnmetIsLeftOutAndTheOthersGoOn(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "e"), endpoints("b", "e"), routes(part("A1", pool("a")), part("B1", pool("b"))))
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment a=e b=e")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:A1B1")
		r.set(12, routes(part("A2", pool("a")), part("B2", pool("new"))))
		c.take("RouteConfiguration edge=edge:A2")
		c.quiet()
	})
}

func TestARejectedArmTakesThePartThatNamesItOutAgain(t *testing.T) {
	opened(t, func(r *rig) {
		l := layer("l1", "k")
		l.Parts[0].Needs = []Need{arm("arm")}
		r.set(11, l, cluster("arm", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		m := c.expect("Cluster arm=1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		c.nack(m, "no such filter")
		c.take("Runtime l1=l1:")
		c.quiet()
	})
}

func TestANewVersionOfAnAcceptedNeedDisturbsNoPart(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "e"), routes(part("A", pool("a"))))
		c := r.client("n1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=e")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:A")
		r.set(12, endpoints("a", "f"))
		m := c.expect("ClusterLoadAssignment a=f")
		c.quiet()
		c.nack(m, "bad")
		c.quiet()
	})
}

func TestStreamsWithAllPartsShareOneEncoding(t *testing.T) {
	e := newEntry(routes(part("A", pool("a")), part("B", pool("b"))), "c1", 5)
	both := allBits(2)
	if e.variant(both) != e.full || e.variant(allBits(2)) != e.full {
		t.Error("the whole resource has more than one variant")
	}
	one := make(bits, 1)
	one.add(1)
	if first, second := e.variant(one), e.variant(one); first != second {
		t.Error("a subset is encoded for each stream that gets it")
	}
	a, b := e.full.encoded(Delta).ReadOnlyData(), e.full.encoded(Delta).ReadOnlyData()
	if &a[0] != &b[0] {
		t.Error("the encoding is not shared")
	}
}
