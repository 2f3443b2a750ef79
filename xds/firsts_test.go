package xds

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// much is a body that is sent to one stream at a time.
var much = strings.Repeat("x", streamWindow+1)

// oneAtATime is a server that sends all there is to one proxy at a time, as there is much.
func oneAtATime(t *testing.T, test func(r *rig)) {
	t.Helper()
	inBubble(t, func(c *Config) { c.Limits = Limits{FirstBytes: 1} }, func(r *rig) {
		r.s.Open()
		r.s.Prove(time.Now())
		r.set(11, cluster("a", much), endpoints("a", much), listener("l", "1"), layer("l1", "5"))
		test(r)
	})
}

// comes is a proxy that asks for clusters.
func (r *rig) comes(node string) *client {
	r.t.Helper()
	c := r.client(node)
	c.ask(ClusterType)
	synctest.Wait()
	return c
}

func TestWhoIsSentMuchWaitsForItsPlace(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		first, second, third := r.comes("first"), r.comes("second"), r.comes("third")
		m := first.expect("Cluster a=" + much)
		second.quiet()
		third.quiet()
		r.wantWaiting(2)
		first.ack(m)
		m = second.expect("Cluster a=" + much)
		third.quiet()
		second.nack(m, "refused")
		third.take("Cluster a=" + much)
		r.wantWaiting(0)
		r.set(12, cluster("a", "2"))
		for _, c := range []*client{first, second, third} {
			c.take("Cluster a=2")
		}
	})
}

func TestWhoWaitsToBeSentMuchIsSentAllElse(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		r.comes("first").expect("Cluster a=" + much)
		waits := r.comes("waits")
		waits.ask(ListenerType)
		waits.take("Listener l=1")
		waits.ask(RuntimeType, "l1")
		waits.expect("Runtime l1=l1:5/3s")
		r.s.Publish(12, []Update{{Group: "edge", Set: []Resource{layer("l1", "0")}, Urgent: true}})
		waits.expect("Runtime l1=l1:0/3s")
		waits.quiet()
		r.wantWaiting(1)
	})
}

// An Envoy answers for its clusters when it has their endpoints, and they are warm.
func TestAProxyIsSentItsEndpointsOnThePlaceOfItsClusters(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		first, next := r.comes("first"), r.comes("next")
		first.expect("Cluster a=" + much)
		first.ask(EndpointType, "a")
		m := first.expect("ClusterLoadAssignment a=" + much)
		next.quiet()
		first.ack(m)
		next.expect("Cluster a=" + much)
	})
}

func TestWhoThinksAboutWhatItWasSentIsWaitedForAMoment(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		thinks, next, third := r.comes("thinks"), r.comes("next"), r.comes("third")
		m := thinks.expect("Cluster a=" + much)
		time.Sleep(lingering - time.Millisecond)
		next.quiet()
		time.Sleep(time.Millisecond)
		next.expect("Cluster a=" + much)
		third.quiet()
		thinks.ask(EndpointType, "a") // it has no place any more, and waits for another one
		r.wantWaiting(2)
		thinks.ack(m) // which gives up neither a place nor its turn
		third.quiet()
		thinks.quiet()
		r.wantWaiting(2)
		time.Sleep(lingering)
		third.expect("Cluster a=" + much)
		time.Sleep(lingering)
		thinks.expect("ClusterLoadAssignment a=" + much)
		r.wantWaiting(0)
	})
}

func TestWhoReadsNothingIsWaitedForAWhileAtMost(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		r.set(12, cluster("a", strings.Repeat("x", 4<<20))) // more than all windows hold
		r.deaf("deaf")
		next := r.comes("next")
		time.Sleep(longestStay - time.Millisecond)
		next.quiet()
		time.Sleep(time.Millisecond)
		next.next()
	})
}

func TestAStreamThatEndsLeavesItsPlaceOrItsTurn(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		first, impatient, next := r.comes("first"), r.comes("impatient"), r.comes("next")
		first.expect("Cluster a=" + much)
		r.wantWaiting(2)
		impatient.hangUp()
		r.wantWaiting(1)
		next.quiet()
		first.hangUp()
		next.take("Cluster a=" + much)
	})
}

// What changed while it waited is in what it is sent.
func TestWhoWaitedIsSentTheLatest(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		first, next := r.comes("first"), r.comes("next")
		m := first.expect("Cluster a=" + much)
		r.set(12, cluster("a", much+"2"))
		next.quiet()
		first.ack(m)
		first.take("Cluster a=" + much + "2")
		next.take("Cluster a=" + much + "2")
	})
}

func TestTheStateOfTheWorldIsWaitedForToo(t *testing.T) {
	oneAtATime(t, func(r *rig) {
		first := r.comes("first")
		m := first.expect("Cluster a=" + much)
		world := r.worldClient("world")
		world.ask(ClusterType)
		world.quiet()
		r.wantWaiting(1)
		first.ack(m)
		world.take("Cluster " + much)
	})
}

func TestWhoIsSentLittleDoesNotWait(t *testing.T) {
	inBubble(t, func(c *Config) { c.Limits.FirstBytes = 1 }, func(r *rig) {
		r.s.Open()
		r.set(11, cluster("a", much[:streamWindow]))
		for _, node := range []string{"first", "second"} {
			r.comes(node).expect("Cluster a=" + much[:streamWindow])
		}
	})
}
