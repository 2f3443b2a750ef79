package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// The tests of this file hold the rules of the xDS protocol document ("xDS REST and gRPC protocol") for the state of the world. Each names the section of its rule.

// Basic Protocol Overview: a stream's first request says what the proxy wants; the response carries what there is of it, a type, a version and a nonce.
func TestWorldFirstRequestIsAnsweredWithTypeVersionAndNonce(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"))
		c := r.worldClient("n1")
		c.ask(ClusterType)
		if m := c.expect("Cluster a1"); m.Nonce == "" || m.VersionInfo == "" || m.Resources[0].TypeUrl != ClusterType {
			t.Errorf("got %v", m)
		}
	})
}

// Basic Protocol Overview: only the first request must carry the node.
func TestWorldLaterRequestsNeedNoNode(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.worldClient("n1")
		c.ask(ClusterType)
		c.take("Cluster")
		c.ask(ListenerType)
		c.take("Listener")
		c.quiet()
	})
}

// ACK/NACK and resource type instance version: the version changes when a resource of the type does.
func TestWorldVersionChangesWithTheResources(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"))
		c := r.worldClient("n1")
		c.ask(ClusterType)
		first := c.take("Cluster a1")
		r.set(12, cluster("a", "a2"))
		if second := c.take("Cluster a2"); second.VersionInfo == first.VersionInfo || second.Nonce == first.Nonce {
			t.Errorf("version %s and nonce %s came twice", second.VersionInfo, second.Nonce)
		}
	})
}

// ACK and NACK semantics summary: an answer counts for the response whose nonce it has; error_detail makes it a NACK, whatever version it names.
func TestWorldErrorDetailAloneMakesANACK(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("bad"))
		want := Requirement{Key: Key{RouteType, "edge"}, Revision: 11}
		c := r.worldClient("n1")
		c.ask(RouteType, "edge")
		m := c.expect("RouteConfiguration bad")
		c.send(&discoveryv3.DiscoveryRequest{TypeUrl: RouteType, ResourceNames: []string{"edge"}, ResponseNonce: m.Nonce, VersionInfo: "something else"})
		if got := r.standing(want); got != "1 of 1, 0 rejected" {
			t.Errorf("an ACK with another version: %s", got)
		}
		r.set(12, route("worse"))
		c.nack(c.expect("RouteConfiguration worse"), "edge")
		want.Revision = 12
		if got := r.standing(want); got != "0 of 1, 1 rejected" {
			t.Errorf("a NACK: %s", got)
		}
	})
}

// NACK: the proxy goes on with what it had, and may accept a later version. What it refused is not sent to it again.
func TestWorldALaterVersionIsAcceptedAfterANACK(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"))
		c := r.worldClient("n1")
		c.ask(ClusterType)
		c.take("Cluster a1 b1")
		r.set(12, cluster("a", "bad"))
		c.nack(c.expect("Cluster b1 bad"))
		time.Sleep(time.Minute)
		c.quiet()
		r.set(13, cluster("b", "b2"))
		c.take("Cluster a1 b2") // with what it has of the refused one
		r.set(14, cluster("a", "a3"))
		c.take("Cluster a3 b2")
	})
}

// When to send an update: nothing is sent while nothing changes, not for an ACK either.
func TestWorldAnACKIsNotAnswered(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), endpoints("a", "e1"))
		c := r.worldClient("n1")
		c.ask(ClusterType)
		m := c.take("Cluster a1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment e1", "a")
		c.ack(m)
		r.set(12, cluster("a", "a1"))
		time.Sleep(time.Hour)
		c.quiet()
	})
}

// Resource updates: a request with a stale nonce is not answered with a response. What it names counts when the newest response has been answered.
func TestWorldAStaleNonceIsNotAnswered(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, "a")
		first := c.take("ClusterLoadAssignment a1", "a")
		r.set(12, endpoints("a", "a2"))
		second := c.expect("ClusterLoadAssignment a2")
		c.ack(first, "a", "b")
		c.quiet()
		c.ack(second, "a", "b")
		third := c.take("ClusterLoadAssignment b1", "a", "b")
		c.ack(first, "a") // nothing is unanswered: this one is older than what it answers
		c.quiet()
		r.set(13, endpoints("b", "b2"))
		if m := c.take("ClusterLoadAssignment b2", "a", "b"); m.Nonce == third.Nonce {
			t.Error("a nonce came twice")
		}
	})
}

// Resource updates: a name that goes and comes again while a response is unread is sent anew, for the proxy has dropped it.
func TestWorldANameThatGoesAndComesAgainUnderAStaleNonceIsSentAnew(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, "a", "b")
		first := c.take("ClusterLoadAssignment a1 b1", "a", "b")
		r.set(12, endpoints("a", "a2"))
		second := c.expect("ClusterLoadAssignment a2")
		c.ack(first, "a")
		c.ack(second, "a", "b")
		c.take("ClusterLoadAssignment b1", "a", "b")
	})
}

// Basic Protocol Overview: nonces are of their stream.
func TestWorldANonceOfAnotherStreamAnswersNothing(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("r"))
		c := r.worldClient("n1")
		c.ask(RouteType, "edge")
		c.expect("RouteConfiguration r")
		c.ack(&discoveryv3.DiscoveryResponse{TypeUrl: RouteType, Nonce: "never"}, "edge")
		c.ack(&discoveryv3.DiscoveryResponse{TypeUrl: RouteType, Nonce: "zzzzzzzzzzzzzzzzzzzzzzz"}, "edge")
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 11}); got != "0 of 1, 0 rejected" {
			t.Error(got)
		}
	})
}

// How the client specifies what resources to return: names are a set.
func TestWorldTheOrderOfNamesMeansNothing(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"), endpoints("c", "c1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, "c", "a", "b")
		m := c.take("ClusterLoadAssignment a1 b1 c1", "b", "c", "a")
		for _, names := range [][]string{{"a", "b", "c"}, {"c", "b", "a"}, {"b", "b", "a", "c"}} {
			c.ack(m, names...)
			c.quiet()
		}
	})
}

// How the client specifies what resources to return: a newly requested resource is sent, though nothing changed, and though it was sent before.
func TestWorldANewlyNamedResourceIsSent(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, "a")
		m := c.take("ClusterLoadAssignment a1", "a")
		c.ack(m, "a", "b")
		m = c.take("ClusterLoadAssignment b1", "a", "b")
		c.ack(m, "b")
		c.quiet()
		c.ack(m, "a", "b")
		c.take("ClusterLoadAssignment a1", "a", "b")
	})
}

// How the client specifies what resources to return: the document's own example of four requests.
func TestWorldWildcardsBeginAndEndAsInTheExample(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("A", "A1"), cluster("B", "B1"))
		c := r.worldClient("n1")
		c.ask(ClusterType)
		m := c.take("Cluster A1 B1")
		c.ack(m, "*", "A")
		m = c.take("Cluster A1 B1", "*", "A")
		c.ack(m, "A")
		c.quiet()
		r.set(12, cluster("B", "B2"))
		c.quiet()
		r.set(13, cluster("A", "A3"))
		m = c.take("Cluster A3", "A")
		c.ack(m)
		r.set(14, cluster("A", "A4"), cluster("B", "B4"))
		c.quiet()
	})
}

// How the client specifies what resources to return: a star names all, as an empty list does in the first request.
func TestWorldAStarSubscribesToEverything(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, listener("a", "a1"))
		c := r.worldClient("n1")
		c.ask(ListenerType, "*")
		c.take("Listener a1", "*")
		r.set(12, listener("b", "b1"))
		c.take("Listener a1 b1", "*")
		c.quiet()
	})
}

// Client Behavior: a gRPC client names its clusters and listeners, and gets no others.
func TestWorldNamedClustersAreAllThatComes(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"), cluster("c", "c1"))
		c := r.worldClient("n1")
		c.ask(ClusterType, "a", "c")
		m := c.take("Cluster a1 c1", "a", "c")
		r.set(12, cluster("b", "b2"))
		c.quiet()
		c.ack(m, "a", "b", "c")
		c.take("Cluster a1 b2 c1", "a", "b", "c")
	})
}

// Grouping Resources into Responses: clusters and listeners are complete in each response, all other types hold what changed.
func TestWorldClustersComeCompleteAndOthersAsTheyChange(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"), endpoints("a", "a1"), endpoints("b", "b1"), listener("x", "x1"), listener("y", "y1"))
		c := r.worldClient("n1")
		c.ask(ClusterType)
		c.take("Cluster a1 b1")
		c.ask(ListenerType)
		c.take("Listener x1 y1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment a1 b1", "a", "b")
		r.set(12, endpoints("b", "b2"), listener("y", "y2"))
		c.take("ClusterLoadAssignment b2", "a", "b")
		c.take("Listener x1 y2")
		r.set(13, cluster("b", "b3"))
		c.take("Cluster a1 b3")
		c.take("ClusterLoadAssignment b2", "a", "b") // Resource warming: right behind their cluster
		c.quiet()
	})
}

// Deleting Resources: a listener or cluster is deleted by a response without it, also by an empty one.
func TestWorldDeletedClustersAndListenersAreMissingFromTheNextResponse(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"), listener("x", "x1"))
		c := r.worldClient("n1")
		c.ask(ListenerType)
		c.take("Listener x1")
		c.ask(ClusterType)
		c.take("Cluster a1 b1")
		r.remove(12, Key{ClusterType, "a"}, Key{ListenerType, "x"})
		c.take("Listener")
		time.Sleep(defaultGrace)
		c.take("Cluster b1")
	})
}

// Deleting Resources: of other types nothing is said; what refers to them goes instead.
func TestWorldDeletedEndpointsAreNotSpokenOf(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), route("r"))
		c := r.worldClient("n1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a1", "a")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration r", "edge")
		r.remove(12, Key{EndpointType, "a"}, Key{RouteType, "edge"})
		time.Sleep(time.Minute)
		c.quiet()
		r.set(13, endpoints("a", "a3"))
		c.take("ClusterLoadAssignment a3", "a")
	})
}

// Knowing When a Requested Resource Does Not Exist: a response with listeners or clusters lacks what is not there; of other types nothing comes. What is named is
// remembered, and sent when it comes to be.
func TestWorldMissingResourcesAreSentWhenTheyComeToBe(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, listener("x", "x1"))
		c := r.worldClient("n1")
		c.ask(ListenerType, "x", "y")
		c.take("Listener x1", "x", "y")
		c.ask(EndpointType, "a")
		c.ask(RouteType, "edge")
		c.quiet()
		r.set(12, listener("y", "y1"), endpoints("a", "a1"))
		c.take("ClusterLoadAssignment a1", "a")
		c.take("Listener x1 y1", "x", "y")
		c.quiet()
	})
}

// Unsubscribing From Resources: the names of the newest request are all that is wanted.
func TestWorldANameThatIsLeftOutIsUnsubscribed(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "a1"), endpoints("b", "b1"))
		c := r.worldClient("n1")
		c.ask(EndpointType, "a", "b")
		m := c.take("ClusterLoadAssignment a1 b1", "a", "b")
		c.ack(m, "a")
		r.set(12, endpoints("b", "b2"))
		c.quiet()
		c.ack(m)
		r.set(13, endpoints("a", "a3"))
		c.quiet()
	})
}

// Eventual consistency considerations: clusters, their endpoints, listeners, routes.
func TestWorldTypesComeInOrder(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), endpoints("a", "a1"), listener("x", "x1"), route("r1"))
		c := r.worldClient("n1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration r1", "edge")
		c.ask(ListenerType)
		c.take("Listener x1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a1", "a")
		c.ask(ClusterType)
		c.take("Cluster a1")
		c.take("ClusterLoadAssignment a1", "a")
		r.set(12, route("r2"), listener("x", "x2"), endpoints("a", "a2"), cluster("a", "a2"))
		c.take("Cluster a2")
		c.take("ClusterLoadAssignment a2", "a")
		c.take("Listener x2")
		c.take("RouteConfiguration r2", "edge")
		c.quiet()
	})
}

// Resource TTL: this server keeps nothing alive in the state of the world, so it sends neither a TTL nor what would need one (envoy-measured.md 9).
func TestWorldNoTTLIsSent(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.worldClient("n1")
		c.ask(RuntimeType, "l1")
		if m := c.take("Runtime l1:", "l1"); m.Resources[0].TypeUrl != RuntimeType {
			t.Errorf("the resource is wrapped in %s", m.Resources[0].TypeUrl)
		}
		time.Sleep(time.Minute)
		c.quiet()
	})
}

// Type URLs: of a type that nobody publishes there is nothing, and asking for it costs the stream nothing else.
func TestWorldAnUnknownTypeDisturbsNothing(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"))
		c := r.worldClient("n1")
		c.ask("type.googleapis.com/example.Nothing", "x")
		c.quiet()
		c.ask(ClusterType)
		c.take("Cluster a1")
		c.ask("type.googleapis.com/example.Else")
		c.take("Else")
		c.quiet()
	})
}

// Deleting Resources: types that were asked for by the same names, before anything was published of either, are not mixed up.
func TestWorldTypesWithTheSameNamesAreNotMixedUp(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.worldClient("n1")
		c.ask(ClusterType, "a", "b")
		c.take("Cluster", "a", "b")
		c.ask(ListenerType, "a", "b")
		c.take("Listener", "a", "b")
		r.set(11, cluster("a", "ca"), cluster("b", "cb"), listener("a", "la"), listener("b", "lb"))
		c.take("Cluster ca cb", "a", "b")
		c.take("Listener la lb", "a", "b")
		time.Sleep(2 * foldAfter)
		r.set(12, cluster("a", "ca2"), listener("a", "la2"))
		c.take("Cluster ca2 cb", "a", "b")
		c.take("Listener la2 lb", "a", "b")
		c.quiet()
	})
}
