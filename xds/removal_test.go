package xds

import (
	"testing"
	"testing/synctest"
	"time"
)

// removing is a proxy that has a cluster which routes and a layer name, with nothing in flight.
func removing(r *rig) *client {
	r.set(11, cluster("a", "1"), endpoints("a", "e"), route("to a"), Resource{Key: Key{RuntimeType, "l1"}, Body: []byte("a")})
	c := r.client("n1")
	c.ask(RuntimeType, "l1")
	c.take("Runtime l1=a")
	c.ask(ClusterType)
	c.take("Cluster a=1")
	c.ask(EndpointType, "a")
	c.take("ClusterLoadAssignment a=e")
	c.ask(RouteType, "edge")
	c.take("RouteConfiguration edge=to a")
	synctest.Wait()
	return c
}

func TestAClusterLeavesOnlyWhenRoutesAndLayersWereACKedAndTheGraceIsOver(t *testing.T) {
	opened(t, func(r *rig) {
		c := removing(r)
		r.s.Publish(12, []Update{{
			Group:  "edge",
			Set:    []Resource{route("elsewhere"), {Key: Key{RuntimeType, "l1"}, Body: []byte("-")}},
			Remove: []Key{{ClusterType, "a"}, {EndpointType, "a"}},
		}})
		routes := c.expect("RouteConfiguration edge=elsewhere")
		layer := c.expect("Runtime l1=-")
		time.Sleep(2 * defaultGrace)
		c.quiet()
		c.ack(routes)
		time.Sleep(2 * defaultGrace)
		c.quiet()
		c.ack(layer)
		c.quiet()
		time.Sleep(defaultGrace - time.Millisecond)
		c.quiet()
		time.Sleep(time.Millisecond)
		c.take("Cluster -a")
		c.take("ClusterLoadAssignment -a")
		c.quiet()
	})
}

func TestAClusterStaysWhileTheRoutesWithoutItAreRejected(t *testing.T) {
	opened(t, func(r *rig) {
		c := removing(r)
		r.s.Publish(12, []Update{{Group: "edge", Set: []Resource{route("bad")}, Remove: []Key{{ClusterType, "a"}}}})
		c.nack(c.expect("RouteConfiguration edge=bad"), "bad")
		time.Sleep(time.Hour)
		c.quiet()
		r.set(13, route("good"))
		c.take("RouteConfiguration edge=good")
		time.Sleep(defaultGrace)
		c.take("Cluster -a")
	})
}

func TestAClusterThatComesBackInItsGraceIsNotDisturbed(t *testing.T) {
	opened(t, func(r *rig) {
		c := removing(r)
		r.remove(12, Key{ClusterType, "a"}, Key{EndpointType, "a"})
		time.Sleep(defaultGrace / 2)
		c.quiet()
		r.set(13, cluster("a", "1"), endpoints("a", "e"))
		time.Sleep(time.Minute)
		c.quiet()
		if got := r.standing(Requirement{Key: Key{ClusterType, "a"}, Revision: 13}); got != "1 of 1, 0 rejected" {
			t.Error(got)
		}
	})
}

func TestWhatIsLeavingIsStillAnswered(t *testing.T) {
	opened(t, func(r *rig) {
		c := removing(r)
		r.remove(12, Key{EndpointType, "a"})
		c.quiet()
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=e")
	})
}

func TestListenersAndLayersLeaveAtOnce(t *testing.T) {
	opened(t, func(r *rig) {
		c := removing(r)
		r.remove(12, Key{RuntimeType, "l1"}, Key{RouteType, "edge"})
		c.take("RouteConfiguration -edge")
		c.take("Runtime -l1")
		c.quiet()
	})
}

// Envoy drops a cluster's endpoints with it, and unsubscribes only after the ACK of the removal.
func TestAClusterThatComesBackWhileItsRemovalIsUnderWayIsNotNamedBeforeItIsThere(t *testing.T) {
	opened(t, func(r *rig) {
		back := []Resource{cluster("a", "1"), endpoints("a", "e"), routes(part("A", pool("a")))}
		r.set(11, back...)
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		c.ask(EndpointType, "a")
		c.take("ClusterLoadAssignment a=e")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:A")
		synctest.Wait()
		r.s.Publish(12, []Update{{Group: "edge", Set: []Resource{routes()}, Remove: []Key{{ClusterType, "a"}}}})
		c.take("RouteConfiguration edge=edge:")
		time.Sleep(defaultGrace)
		removal := c.expect("Cluster -a")
		r.set(13, back...)
		c.take("RouteConfiguration edge=edge:") // the new version, still without the part
		c.ack(removal)
		c.take("Cluster a=1")
		c.take("ClusterLoadAssignment a=e")
		c.take("RouteConfiguration edge=edge:A")
		c.quiet()
	})
}
