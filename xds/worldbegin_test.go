package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// taken is a response of a type as a proxy took it on an earlier stream, published at a revision.
func taken(url, cluster, revision string) *discoveryv3.DiscoveryResponse {
	return &discoveryv3.DiscoveryResponse{TypeUrl: url, VersionInfo: cluster + "." + revision + "/0123456789abcdef"}
}

func TestWorldAProxyThatHoldsANewerRevisionIsWithheldUntilThisServerCaughtUp(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "old"))
		c := r.worldClient("n1")
		c.resume(taken(ClusterType, "c1", "15"))
		c.quiet()
		r.set(15, cluster("a", "new"))
		c.take("Cluster new")
	})
}

func TestWorldAProxyOfAnotherEtcdIsFrozenUntilThatIsAdopted(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.worldClient("n1")
		c.resume(taken(ClusterType, "lost", "9000"))
		c.quiet()
		r.s.Adopt("lost")
		c.take("Cluster")
	})
}

func TestWorldVersionsOfOtherControlPlanesMeanNothing(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"))
		c := r.worldClient("n1")
		c.resume(&discoveryv3.DiscoveryResponse{TypeUrl: ClusterType, VersionInfo: "2026-11-24T00:00:00Z/17"})
		c.take("Cluster a1")
	})
}

// A proxy that goes on from an earlier stream has the clusters that its routes name, but can show it only by its answers. Its routes are not emptied meanwhile.
func TestWorldAReconnectingProxyKeepsItsRoutesUntilItHasShownItsClusters(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), endpoints("a", "a1"), routes(part("A", pool("a"))))
		c := r.worldClient("n1")
		c.resume(taken(RouteType, "c1", "11"), "edge")
		c.quiet()
		c.resume(taken(ClusterType, "c1", "11"))
		c.take("Cluster a1")
		c.resume(taken(EndpointType, "c1", "11"), "a")
		c.take("ClusterLoadAssignment a1", "a")
		c.take("RouteConfiguration edge:A", "edge")
		c.quiet()
		c.hangUp()

		c = r.worldClient("without clusters")
		c.resume(taken(RouteType, "c1", "11"), "edge")
		time.Sleep(resumeWait - time.Millisecond)
		c.quiet()
		time.Sleep(time.Millisecond)
		c.take("RouteConfiguration edge:", "edge")
		c.hangUp()

		c = r.worldClient("new")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge:", "edge")
	})
}

// A response without them would delete them.
func TestWorldListenersWithPartsComeWithTheOthers(t *testing.T) {
	opened(t, func(r *rig) {
		parted := listener("x", "x")
		parted.Parts = []Part{part("1"), part("2", arm("a"))}
		r.set(11, parted, listener("y", "y1"))
		c := r.worldClient("n1")
		c.ask(ListenerType)
		c.take("Listener x1 y1")
		r.set(12, listener("y", "y2"))
		c.take("Listener x1 y2")
		c.quiet()
	})
}

// Clusters that were refused and never accepted are not in the responses that follow, so a proxy that had them loses them, and their endpoints.
func TestWorldRoutesDoNotNameAClusterThatARefusalTakesAway(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "bad"), endpoints("a", "a1"), routes(part("A", pool("a"))))
		c := r.worldClient("n1")
		c.resume(taken(EndpointType, "c1", "11"), "a")
		c.take("ClusterLoadAssignment a1", "a")
		c.ask(ClusterType)
		c.nack(c.expect("Cluster bad"))
		c.take("ClusterLoadAssignment a1", "a")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge:", "edge")
		c.quiet()
	})
}

func TestWorldAResourceIsNotBlamedForOneThatWasUnsubscribedMeanwhile(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, listener("good", "good"), listener("worse", "bad"))
		c := r.worldClient("n1")
		c.ask(ListenerType)
		m := c.expect("Listener bad good")
		c.ack(&discoveryv3.DiscoveryResponse{TypeUrl: ListenerType}, "good")
		c.nack(m, "good")
		c.take("Listener good", "good")
		c.quiet()
	})
}

// The proxy may have it from an earlier stream, and nothing else would take it away.
func TestWorldWhatIsUnpublishedWhileItIsRefusedIsTakenAway(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "bad"), listener("x", "bad"))
		c := r.worldClient("n1")
		c.resume(taken(ListenerType, "c1", "11"))
		listeners := c.expect("Listener bad")
		c.resume(taken(ClusterType, "c1", "11"))
		clusters := c.expect("Cluster bad")
		r.remove(12, Key{ClusterType, "a"}, Key{ListenerType, "x"})
		c.nack(listeners)
		c.take("Listener")
		c.nack(clusters)
		time.Sleep(defaultGrace)
		c.take("Cluster")
		time.Sleep(time.Hour)
		c.quiet()
	})
}

// What the proxy wants by a wildcard before, and by its name after, it keeps while something else is sorted out.
func TestWorldANameThatTakesTheWildcardsPlaceIsKept(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "a1"), cluster("b", "b1"))
		c := r.worldClient("n1")
		c.ask(ClusterType)
		m := c.take("Cluster a1 b1")
		c.ack(m, "a")
		m = c.take("Cluster a1", "a")
		c.ack(m, "*", "c")
		c.take("Cluster a1 b1", "*", "c")
	})
}
