package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// The tests of this file hold the rules of the xDS protocol document ("xDS REST and gRPC protocol") for delta. Each names the section of its rule. Those that Envoy's
// behaviour adds are in subscription_test.go, resume_test.go, reject_test.go, warming_test.go and deadman_test.go.

// Basic Protocol Overview: each response has a type and a nonce of its own.
func TestDeltaResponsesCarryTypeAndNonce(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		first := c.take("Cluster a=1")
		r.set(12, cluster("a", "2"))
		second := c.take("Cluster a=2")
		if first.Nonce == "" || first.Nonce == second.Nonce || first.SystemVersionInfo == second.SystemVersionInfo || first.TypeUrl != ClusterType {
			t.Errorf("got %q %q and %q %q", first.Nonce, first.SystemVersionInfo, second.Nonce, second.SystemVersionInfo)
		}
	})
}

// ACK and NACK semantics summary: an answer counts for the response whose nonce it has, and error_detail alone makes it a NACK.
func TestDeltaAnswersCountForTheirNonce(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), route("1"))
		c := r.client("n1")
		c.ask(ClusterType)
		clusters := c.expect("Cluster a=1")
		c.ask(RouteType, "edge")
		routes := c.expect("RouteConfiguration edge=1")
		c.nack(routes, "")
		c.ack(clusters)
		if got := r.standing(Requirement{Key: Key{ClusterType, "a"}, Revision: 11}); got != "1 of 1, 0 rejected" {
			t.Errorf("clusters: %s", got)
		}
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 11}); got != "0 of 1, 1 rejected" {
			t.Errorf("routes: %s", got)
		}
	})
}

// When to send an update: nothing is sent while nothing changes.
func TestDeltaAnACKIsNotAnswered(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		r.set(12, cluster("a", "1"))
		time.Sleep(time.Hour)
		c.quiet()
	})
}

// Subscribing to Resources: a request may carry an answer and a subscription; both count.
func TestDeltaAnAnswerMaySubscribe(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"), endpoints("b", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a")
		m := c.expect("ClusterLoadAssignment a=1")
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResponseNonce: m.Nonce, ResourceNamesSubscribe: []string{"b"}})
		c.take("ClusterLoadAssignment b=1")
		if got := r.standing(Requirement{Key: Key{EndpointType, "a"}, Revision: 11}); got != "1 of 1, 0 rejected" {
			t.Error(got)
		}
	})
}

// Resource updates: a subscription with a stale nonce counts, for in delta it says what changes; the answer does not.
func TestDeltaASubscriptionWithAStaleNonceCounts(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"), endpoints("b", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a")
		old := c.take("ClusterLoadAssignment a=1")
		r.set(12, endpoints("a", "2"))
		newest := c.expect("ClusterLoadAssignment a=2")
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResponseNonce: old.Nonce, ResourceNamesSubscribe: []string{"b"}})
		c.quiet()
		c.ack(newest)
		c.take("ClusterLoadAssignment b=1")
	})
}

// How the client specifies what resources to return: the document's own example of four requests.
func TestDeltaWildcardsBeginAndEndAsInTheExample(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("A", "1"), cluster("B", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster A=1 B=1")
		c.ask(ClusterType, "A")
		c.take("Cluster A=1")
		r.set(12, cluster("B", "2"))
		c.take("Cluster B=2") // the wildcard goes on
		c.drop(ClusterType, "*")
		r.set(13, cluster("A", "3"), cluster("B", "3"))
		c.take("Cluster A=3")
		c.drop(ClusterType, "A")
		r.set(14, cluster("A", "4"), cluster("B", "4"))
		c.quiet()
		c.send(requestOf(ClusterType))
		c.quiet() // an empty list is no wildcard any more
	})
}

// How the client specifies what resources to return: a wildcard may end and begin again, and begins with all there is.
func TestDeltaAWildcardMayEndAndBeginAgain(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), cluster("b", "1"))
		c := r.client("n1")
		c.ask(ClusterType, "*")
		c.take("Cluster a=1 b=1")
		c.drop(ClusterType, "*")
		r.set(12, cluster("a", "2"))
		c.quiet()
		c.ask(ClusterType, "*")
		c.take("Cluster a=2 b=1")
		r.set(13, cluster("b", "3"))
		c.take("Cluster b=3")
	})
}

// Grouping Resources into Responses: what did not change is not sent again.
func TestDeltaOnlyWhatChangedIsSent(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), cluster("b", "1"), cluster("c", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1 b=1 c=1")
		r.set(12, cluster("b", "2"), cluster("c", "1"))
		c.take("Cluster b=2")
		c.quiet()
	})
}

// Duplicate Resource Names: a name is in a response once, however often it was asked for.
func TestDeltaANameIsInAResponseOnce(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a", "a", "a")
		c.take("ClusterLoadAssignment a=1")
		c.ask(EndpointType, "a", "b", "a", "b")
		c.take("ClusterLoadAssignment a=1 -b")
		c.quiet()
	})
}

// Deleting Resources: a deleted resource is named in removed_resources, once.
func TestDeltaDeletedResourcesAreNamed(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), listener("x", "1"))
		c := r.client("n1")
		c.ask(ListenerType)
		c.take("Listener x=1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		r.remove(12, Key{ClusterType, "a"}, Key{ListenerType, "x"})
		c.take("Listener -x")
		time.Sleep(defaultGrace)
		c.take("Cluster -a")
		time.Sleep(time.Hour)
		c.quiet()
	})
}

// Knowing When a Requested Resource Does Not Exist: delta says so, and the resource is sent when it comes to be.
func TestDeltaMissingResourcesAreNamedAndSentWhenTheyComeToBe(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment -a")
		c.quiet()
		r.set(11, endpoints("a", "1"))
		c.take("ClusterLoadAssignment a=1")
	})
}

// Unsubscribing From Resources: what is unsubscribed is not spoken of any more; an unknown name means nothing.
func TestDeltaUnsubscribedResourcesAreNotSpokenOf(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"), endpoints("b", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a", "b")
		c.take("ClusterLoadAssignment a=1 b=1")
		c.drop(EndpointType, "a", "never")
		c.quiet()
		r.set(12, endpoints("a", "2"), endpoints("b", "2"))
		c.take("ClusterLoadAssignment b=2")
		r.remove(13, Key{EndpointType, "a"})
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment -a")
	})
}

// Unsubscribing From Resources: who unsubscribes a name under a wildcard is sent it, or told that it is not there, for it is still subscribed.
func TestDeltaANameUnsubscribedUnderAWildcardIsAnswered(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType, "*", "a", "b")
		c.take("Cluster a=1 -b")
		c.drop(ClusterType, "a", "b")
		c.take("Cluster a=1 -b")
		r.set(12, cluster("a", "2"))
		c.take("Cluster a=2")
	})
}

// Subscribing to Resources: a name is sent whenever it is subscribed to, though the proxy has it.
func TestDeltaASubscriptionIsAnsweredThoughTheProxyHasIt(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), cluster("b", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1 b=1")
		c.ask(ClusterType, "a")
		c.take("Cluster a=1")
		c.drop(ClusterType, "a")
		c.take("Cluster a=1")
		c.ask(ClusterType, "*")
		c.take("Cluster a=1 b=1")
	})
}

// Incremental xDS, initial_resource_versions: what the proxy names with its present version is not sent, what has another version or is new is, what is gone is
// named as removed; whatever it names beside what it wants means nothing.
func TestDeltaInitialVersionsAreWhatTheProxyHas(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, listener("same", "1"), listener("old", "1"), listener("gone", "1"))
		versions := r.versions(ListenerType, "same", "old", "gone")
		r.set(12, listener("old", "2"), listener("new", "2"))
		r.remove(13, Key{ListenerType, "gone"})
		c := r.client("n1")
		c.resumeAll(ListenerType, versions)
		c.take("Listener new=2 old=2 -gone")
		c.quiet()

		c = r.client("n2")
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ListenerType, ResourceNamesSubscribe: []string{"same"}, InitialResourceVersions: versions})
		c.quiet()
		r.set(14, listener("old", "3"), listener("same", "2"))
		c.take("Listener same=2")
	})
}

// Incremental xDS, initial_resource_versions: they are read in the first request of a type only.
func TestDeltaLaterInitialVersionsMeanNothing(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, endpoints("a", "1"), endpoints("b", "1"))
		c := r.client("n1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=1")
		c.resume(EndpointType, r.versions(EndpointType, "b"))
		c.take("ClusterLoadAssignment b=1")
	})
}

// Requesting Multiple Resources on a Single Stream, Aggregated Discovery Service: types are answered on their own, one waits for no other.
func TestDeltaTypesOfOneStreamDoNotWaitForEachOther(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), listener("x", "1"), endpoints("a", "1"))
		c := r.client("n1")
		c.ask(ListenerType)
		held := c.expect("Listener x=1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=1")
		r.set(12, cluster("a", "2"), listener("x", "2"))
		c.take("Cluster a=2")
		c.take("ClusterLoadAssignment a=1")
		c.quiet()
		c.ack(held)
		c.take("Listener x=2")
	})
}

// Eventual consistency considerations: make before break. A cluster comes before what names it, and goes after it.
func TestDeltaMakeBeforeBreak(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("x", "1"), endpoints("x", "1"), route("to x"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster x=1")
		c.ask(EndpointType, "x", "y")
		c.take("ClusterLoadAssignment x=1 -y")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=to x")
		r.s.Publish(12, []Update{{Group: "edge", Set: []Resource{route("to y"), endpoints("y", "1"), cluster("y", "1")}, Remove: []Key{{ClusterType, "x"}, {EndpointType, "x"}}}})
		c.take("Cluster y=1")
		c.take("ClusterLoadAssignment y=1")
		c.take("RouteConfiguration edge=to y")
		time.Sleep(defaultGrace)
		c.take("Cluster -x")
		c.take("ClusterLoadAssignment -x")
		c.quiet()
	})
}

// Resource TTL: a resource with a TTL is renewed by a heartbeat, which has its name, version and TTL and no resource; a changed TTL comes with the next message.
func TestDeltaHeartbeatsRenewATTL(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		body := c.take("Runtime l1=l1:k/3s")
		time.Sleep(time.Second)
		beat := c.take("Runtime l1~/3s")
		if versionOf(t, beat, "l1") != versionOf(t, body, "l1") || beat.Nonce == body.Nonce {
			t.Errorf("a heartbeat of %s after %s", beat, body)
		}
	})
}

// Type URLs: of a type that nobody publishes everything is missing.
func TestDeltaAnUnknownTypeIsAnsweredEmpty(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask("type.googleapis.com/example.Nothing", "x")
		c.take("Nothing -x")
		c.ask("type.googleapis.com/example.Else")
		c.take("Else")
		c.ask(ClusterType)
		c.take("Cluster a=1")
	})
}

// Basic Protocol Overview: a node that comes again must be the same, and may be left out.
func TestDeltaANodeMayComeAgain(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		node := c.node
		c.ask(ClusterType)
		c.take("Cluster")
		c.node = node
		c.ask(ListenerType)
		c.take("Listener")
		c.quiet()
	})
}
