package xds

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// silenceOfTest is shorter than a place may be kept.
const silenceOfTest = longestStay / 2

// oneByOne is a server to which one proxy comes back at a time, as there is much to bring, and the version that a proxy has of its only cluster.
func oneByOne(t *testing.T, test func(r *rig, has map[string]string)) {
	t.Helper()
	inBubble(t, func(c *Config) { c.Limits = Limits{ArrivalBytes: 1, Silence: silenceOfTest} }, func(r *rig) {
		r.s.Open()
		much := []Resource{cluster("a", "1"), endpoints("a", "1"), listener("l", "1")}
		for i := range streamWindow / nameBytes {
			much = append(much, endpoints(fmt.Sprint("e", i), ""))
		}
		r.set(11, much...)
		former := r.client("former")
		former.ask(ClusterType)
		has := map[string]string{"a": versionOf(t, former.take("Cluster a=1"), "a")}
		former.hangUp()
		test(r, has)
	})
}

// back is a proxy that has said what clusters it has, all there are, and asks for listeners as soon as it may.
func (r *rig) back(node string, has map[string]string) *client {
	r.t.Helper()
	c := r.client(node)
	c.resumeAll(ClusterType, has)
	c.ask(ListenerType)
	synctest.Wait()
	return c
}

func (r *rig) wantWaiting(want int) {
	r.t.Helper()
	synctest.Wait()
	if got := r.s.Waiting(); got != want {
		r.t.Errorf("%d wait, want %d", got, want)
	}
}

func TestWhoComesBackWaitsForItsPlaceAndIsThenServed(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		first, second, third := r.back("first", has), r.back("second", has), r.back("third", has)
		m := first.expect("Listener l=1")
		second.quiet()
		third.quiet()
		r.wantWaiting(2)
		first.ack(m)
		m = second.expect("Listener l=1")
		third.quiet()
		second.ack(m)
		third.take("Listener l=1")
		r.wantWaiting(0)
		r.set(12, cluster("a", "2"))
		for _, c := range []*client{first, second, third} {
			c.take("Cluster a=2")
		}
	})
}

func TestWhoWaitsIsSentItsLayersAndRollbacks(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		r.s.Prove(time.Now())
		r.set(12, layer("l1", "5"))
		r.back("first", has).expect("Listener l=1")
		waits := r.client("waits")
		waits.resume(RuntimeType, map[string]string{"l1": "another"})
		waits.ask(ListenerType)
		waits.expect("Runtime l1=l1:5/3s")
		r.wantWaiting(1)
		r.s.Publish(13, []Update{{Group: "edge", Set: []Resource{layer("l1", "0")}, Urgent: true}})
		waits.expect("Runtime l1=l1:0/3s")
		r.wantWaiting(1)
		waits.quiet()
	})
}

// TestWhoWaitsIsNotSilent: what it answers is not read before it has its place, and then it has as long as others to answer.
func TestWhoWaitsIsNotSilent(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		stays, waits := r.client("stays"), r.client("waits")
		stays.resumeAll(ClusterType, has)
		synctest.Wait()
		waits.resumeAll(ClusterType, map[string]string{"a": "another"})
		m := waits.expect("Cluster a=1")
		time.Sleep(longestStay + silenceOfTest*3/4)
		waits.ack(m)
		waits.ask(ListenerType)
		waits.take("Listener l=1")
		time.Sleep(2 * silenceOfTest)
		waits.quiet()
	})
}

func TestWhoBringsNothingDoesNotWait(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		r.back("first", has).expect("Listener l=1")
		r.back("second", has).quiet()
		c := r.client("new")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		c.ask(ListenerType)
		c.take("Listener l=1")
		w := r.worldClient("state of the world") // it names no versions, ever
		w.ask(ListenerType)
		w.take("Listener 1")
		r.wantWaiting(1)
	})
}

// An Envoy that comes back with all that there is answers nothing, as it is sent nothing.
func TestAPlaceIsFreeWhenClustersAndEndpointsWereAskedFor(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		first := r.client("first")
		first.resumeAll(ClusterType, has)
		synctest.Wait()
		next := r.back("next", has)
		first.quiet()
		next.quiet()
		first.ask(EndpointType, "a")
		first.expect("ClusterLoadAssignment a=1")
		next.expect("Listener l=1")
	})
}

func TestAPlaceIsKeptForAWhileAtMost(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		stays := r.client("stays")
		stays.resumeAll(ClusterType, has)
		synctest.Wait()
		next, third := r.back("next", has), r.back("third", has)
		time.Sleep(longestStay - time.Millisecond)
		next.quiet()
		time.Sleep(time.Millisecond)
		m := next.expect("Listener l=1")
		stays.hangUp() // it has no place to leave any more
		third.quiet()
		next.ack(m)
		third.take("Listener l=1")
	})
}

func TestWhoGivesUpWaitingTakesNoPlace(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		first, impatient, next := r.back("first", has), r.back("impatient", has), r.back("next", has)
		m := first.expect("Listener l=1")
		r.wantWaiting(2)
		impatient.hangUp()
		r.wantWaiting(1)
		next.quiet()
		first.ack(m)
		next.take("Listener l=1")
	})
}

func TestWhoseStreamEndsLeavesItsPlace(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		first, next := r.back("first", has), r.back("next", has)
		first.expect("Listener l=1")
		next.quiet()
		first.hangUp()
		next.take("Listener l=1")
	})
}

// An Envoy without layers, or whose layers are gone, names its clusters first.
func TestWhoNamesSomethingLaterWaitsFromThenOn(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		r.back("first", has).expect("Listener l=1")
		later := r.client("later")
		later.ask(RuntimeType, "l1")
		later.take("Runtime -l1")
		r.wantWaiting(0)
		later.resumeAll(ClusterType, has)
		later.ask(ListenerType)
		later.quiet()
		r.wantWaiting(1)
	})
}

func TestAPlaceIsWaitedForOnce(t *testing.T) {
	oneByOne(t, func(r *rig, has map[string]string) {
		first := r.client("first")
		first.resume(RuntimeType, map[string]string{"l1": "former"})
		first.take("Runtime -l1")
		r.back("second", has).expect("Listener l=1")
		first.resumeAll(ClusterType, has)
		first.ask(ListenerType)
		first.take("Listener l=1")
	})
}

// TestManyComeBackAtOnceBesideLittle: what they bring is little.
func TestManyComeBackAtOnceBesideLittle(t *testing.T) {
	inBubble(t, func(c *Config) { c.Limits.ArrivalBytes = 1 }, func(r *rig) {
		r.s.Open()
		r.set(11, cluster("a", "1"), listener("l", "1"))
		for i := range 100 {
			c := r.client(fmt.Sprint("n", i))
			c.resumeAll(ClusterType, map[string]string{"a": "another"})
			c.ask(ListenerType)
			c.expect("Cluster a=1")
			c.expect("Listener l=1")
		}
		r.wantWaiting(0)
	})
}
