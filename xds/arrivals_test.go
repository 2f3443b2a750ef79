package xds

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// oneByOne is a server at which one proxy comes at a time, and the version that a proxy has of its only cluster.
func oneByOne(t *testing.T, l Limits, test func(r *rig, has map[string]string)) {
	t.Helper()
	l.Arrivals = 1
	inBubble(t, func(c *Config) { c.Limits = l }, func(r *rig) {
		r.s.Open()
		r.set(11, cluster("a", "1"), endpoints("a", "1"))
		former := r.client("former")
		former.ask(ClusterType)
		has := map[string]string{"a": versionOf(t, former.take("Cluster a=1"), "a")}
		former.hangUp()
		test(r, has)
	})
}

// comes opens a stream, and waits until the server knows of it.
func (r *rig) comes(node string) *client {
	c := r.client(node)
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

func TestWhoComesWaitsForItsPlaceAndIsThenServed(t *testing.T) {
	oneByOne(t, Limits{}, func(r *rig, _ map[string]string) {
		first, second, third := r.comes("first"), r.comes("second"), r.comes("third")
		first.ask(ClusterType)
		m := first.expect("Cluster a=1")
		second.ask(ClusterType)
		second.quiet()
		third.ask(ClusterType)
		third.quiet()
		r.wantWaiting(2)
		first.ack(m)
		second.take("Cluster a=1")
		r.wantWaiting(0)
		third.take("Cluster a=1")
		r.set(12, cluster("a", "2"))
		for _, c := range []*client{first, second, third} {
			c.take("Cluster a=2")
		}
	})
}

// An Envoy that comes back with all that there is answers nothing, as it is sent nothing.
func TestAPlaceIsFreeWhenClustersAndEndpointsWereAskedFor(t *testing.T) {
	oneByOne(t, Limits{}, func(r *rig, has map[string]string) {
		back, next := r.comes("back"), r.comes("next")
		back.resumeAll(ClusterType, has)
		synctest.Wait()
		next.ask(ClusterType)
		back.quiet()
		next.quiet()
		back.ask(EndpointType, "a")
		back.expect("ClusterLoadAssignment a=1")
		next.expect("Cluster a=1")
	})
}

func TestAPlaceIsKeptForAWhileAtMost(t *testing.T) {
	oneByOne(t, Limits{}, func(r *rig, has map[string]string) {
		stays, next := r.comes("stays"), r.comes("next")
		stays.resumeAll(ClusterType, has)
		synctest.Wait()
		next.ask(ClusterType)
		time.Sleep(longestStay - time.Millisecond)
		next.quiet()
		time.Sleep(time.Millisecond)
		next.take("Cluster a=1")
		stays.quiet()
	})
}

func TestWhoGivesUpWaitingTakesNoPlace(t *testing.T) {
	oneByOne(t, Limits{}, func(r *rig, _ map[string]string) {
		first, impatient, next := r.comes("first"), r.comes("impatient"), r.comes("next")
		first.ask(ClusterType)
		m := first.expect("Cluster a=1")
		impatient.ask(ClusterType)
		r.wantWaiting(2)
		impatient.hangUp()
		r.wantWaiting(1)
		next.ask(ClusterType)
		next.quiet()
		first.ack(m)
		next.take("Cluster a=1")
	})
}

func TestWhoIsEndedLeavesItsPlace(t *testing.T) {
	oneByOne(t, Limits{}, func(r *rig, _ map[string]string) {
		bad, next := r.comes("bad"), r.comes("next")
		bad.node.Id = ""
		bad.ask(ClusterType)
		wantEnd(t, bad, codes.InvalidArgument, "names no node id")
		next.ask(ClusterType)
		next.take("Cluster a=1")
	})
}

// TestSilenceCountsFromThePlace: who waits is not asked to say anything.
func TestSilenceCountsFromThePlace(t *testing.T) {
	const silence = 3 * time.Second
	oneByOne(t, Limits{Silence: silence}, func(r *rig, has map[string]string) {
		stays, silent := r.comes("stays"), r.comes("silent")
		stays.resumeAll(ClusterType, has)
		r.wantWaiting(1)
		time.Sleep(longestStay + silence - time.Millisecond)
		silent.quiet()
		time.Sleep(time.Millisecond)
		wantEnd(t, silent, codes.DeadlineExceeded, "")
		r.wantExceeded("silence")
	})
}
