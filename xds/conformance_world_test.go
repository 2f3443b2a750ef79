package xds

import (
	"testing"
	"time"
)

// The rules of the xDS protocol's document for the state of the world. Each test names the section it is about.

// ACK/NACK and resource type instance version: a response carries a version and a nonce; the request that answers it carries both back, and changes nothing.
func TestWorldAnACKIsNotAnswered(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil, "a")
		m := c.expect("Cluster a1")
		if m.Nonce == "" || m.VersionInfo == "" {
			t.Errorf("nonce %q, version %q", m.Nonce, m.VersionInfo)
		}
		c.ack(m)
		c.quiet()
		if got := r.standing(Requirement{Key: Key{ClusterType, "a"}, Revision: 11}); got != "1 of 1, 0 rejected" {
			t.Errorf("after the ACK: %s", got)
		}
	})
}

// NACK: a rejected version is kept from the client until there is another one; the client keeps what it has.
func TestWorldARejectedVersionIsSentOnce(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil, "a")
		kept := c.take("Cluster a1").VersionInfo
		r.set(12, cluster("a", "bad"))
		c.nack(c.expect("Cluster bad"), kept, "no")
		c.quiet()
		want := Requirement{Key: Key{ClusterType, "a"}, Revision: 12}
		if got := r.standing(want); got != "0 of 1, 1 rejected" {
			t.Errorf("after the NACK: %s", got)
		}
		time.Sleep(time.Hour)
		c.quiet()
		r.set(13, cluster("a", "a3"))
		c.take("Cluster a3")
		if got := r.standing(want); got != "1 of 1, 0 rejected" {
			t.Errorf("after the next version: %s", got)
		}
	})
}

// NACK: of a response with several resources the client rejects all; the good ones must reach it all the same.
func TestWorldTheRestOfARejectedResponseIsSentWithoutTheBadResource(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "bad"), cluster("c", "c1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil)
		c.nack(c.expect("Cluster a1 bad c1"), "", "no")
		m := c.expect("Cluster a1 bad")
		c.nack(m, "", "no")
		c.take("Cluster a1")
		c.nack(c.expect("Cluster a1 bad"), "", "no")
		c.take("Cluster a1 c1")
		c.quiet()
	})
}

// When to send an update: nothing is sent when nothing changed; what changed is, and what is published meanwhile goes together with the answer's successor.
func TestWorldOneResponseOfATypeIsUnderWayAndTheNewestWins(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, nil, "a", "b")
		first := c.expect("ClusterLoadAssignment a1")
		r.set(12, endpoints("a", "a2"))
		r.set(13, endpoints("a", "a3"), endpoints("b", "b3"))
		c.quiet()
		c.ack(first)
		c.take("ClusterLoadAssignment a3 b3")
		c.quiet()
	})
}

// How the client specifies what resources to return: a request that answers an older response than the newest was written before the client knew the newer one, and
// what it names is not looked at.
func TestWorldTheNamesOfAStaleRequestAreIgnored(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, nil, "a")
		first := c.take("ClusterLoadAssignment a1")
		r.set(12, endpoints("a", "a2"))
		second := c.expect("ClusterLoadAssignment a2")
		c.ask(EndpointType, first, "a", "b")
		c.quiet()
		c.ack(second) // with the names of now
		c.take("ClusterLoadAssignment b1")
		c.quiet()
	})
}

// How the client specifies what resources to return: the same names in another order are the same names.
func TestWorldTheOrderOfNamesMeansNothing(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, nil, "a", "b")
		m := c.take("ClusterLoadAssignment a1 b1")
		c.ask(EndpointType, m, "b", "a")
		c.ask(EndpointType, m, "a", "b", "a")
		c.quiet()
	})
}

// Wildcard subscriptions: a first request of clusters or listeners without a name asks for all there is; `*` does so at any time.
func TestWorldAWildcardIsNoNameOrAStar(t *testing.T) {
	for name, names := range map[string][]string{"no name": nil, "star": {"*"}} {
		t.Run(name, func(t *testing.T) {
			opened(t, func(r *rig) {
				r.set(11, cluster("a", "a1"))
				c := r.worldClient("n1")
				c.ask(ClusterType, nil, names...)
				c.take("Cluster a1")
				r.set(12, cluster("b", "b1"))
				c.take("Cluster a1 b1")
				c.quiet()
			})
		})
	}
}

// Wildcard subscriptions: once something was named, naming nothing means nothing.
func TestWorldNamingNothingAfterNamesUnsubscribes(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil, "a")
		m := c.take("Cluster a1")
		c.ask(ClusterType, m)
		r.set(12, cluster("a", "a2"), cluster("b", "b2"))
		c.quiet()
	})
}

// Wildcard subscriptions: a star is taken back by naming others only.
func TestWorldAStarIsTakenBack(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil, "*", "a")
		m := c.take("Cluster a1 b1")
		c.ask(ClusterType, m, "a")
		c.quiet()
		r.set(12, cluster("b", "b2"))
		c.quiet()
		r.set(13, cluster("a", "a2"))
		c.take("Cluster a2")
	})
}

// Deleting resources: of listeners and clusters a response holds all there is, and what is missing in it is gone.
func TestWorldAClusterIsDeletedByItsAbsence(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil)
		c.take("Cluster a1 b1")
		r.remove(12, Key{ClusterType, "b"})
		c.quiet() // make before break: it stays for a grace
		time.Sleep(defaultGrace)
		c.take("Cluster a1")
		r.set(13, cluster("c", "c1"))
		c.take("Cluster a1 c1")
		c.quiet()
	})
}

// Deleting resources: of the other types it cannot be said that one is gone; the client drops it when nothing refers to it any more.
func TestWorldAMissingRouteIsNotSaid(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("r1"))
		c := r.worldClient("n1")
		c.ask(RouteType, nil, "edge")
		c.take("RouteConfiguration r1")
		r.remove(12, Key{RouteType, "edge"})
		c.quiet()
		r.set(13, route("r3"))
		c.take("RouteConfiguration r3")
	})
}

// Knowing when a requested resource does not exist: a listener that is asked for and is not there is known not to exist by a response without it; a route's client has
// to wait.
func TestWorldAListenerThatIsNotThereIsAnsweredByAResponseWithoutIt(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.worldClient("n1")
		c.ask(ListenerType, nil, "shop")
		c.take("Listener")
		c.ask(RouteType, nil, "shop")
		c.quiet()
		r.set(11, Resource{Key: Key{ListenerType, "shop"}, Body: []byte("l")})
		c.take("Listener l")
	})
}

// Unsubscribing: what is no longer named is no longer sent; what is named again is sent again.
func TestWorldWhatIsNamedAgainIsSentAgain(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, nil, "a", "b")
		m := c.take("ClusterLoadAssignment a1 b1")
		c.ask(EndpointType, m, "b")
		r.set(12, endpoints("a", "a2"))
		c.quiet()
		c.ask(EndpointType, m, "a", "b")
		c.take("ClusterLoadAssignment a2")
	})
}

// Aggregated discovery service: the types of one stream have nonces and versions of their own.
func TestWorldTypesDoNotWaitForOneAnother(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), route("r1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil)
		clusters := c.expect("Cluster a1")
		c.ask(RouteType, nil, "edge")
		c.take("RouteConfiguration r1")
		r.set(12, route("r2"))
		c.take("RouteConfiguration r2")
		c.ack(clusters)
		c.quiet()
	})
}

// Resource TTL: it is not for the state of the world, where a second TTL that runs out ends Envoy (envoy-measured.md 9); and without one nothing would take the parts
// back when the server is gone.
func TestWorldALayerGoesWithoutItsPartsAndItsTTL(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.worldClient("n1")
		c.ask(RuntimeType, nil, "l1")
		c.take("Runtime l1:")
		time.Sleep(10 * time.Second)
		c.quiet()
	})
}

// A client that comes back with its version and no nonce is answered: it may ask for other names than before.
func TestWorldAReconnectingClientIsAnswered(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, nil, "a")
		m := c.take("Cluster a1")
		c.hangUp()
		c = r.worldClient("n1")
		m.Nonce = ""
		c.ask(ClusterType, m, "a")
		c.take("Cluster a1")
		c.quiet()
	})
}
