package xds

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

func TestARequirementNeedsTheACKOfThatRevisionOrALaterOne(t *testing.T) {
	opened(t, func(r *rig) {
		at := func(revision int64) Requirement { return Requirement{Key: Key{RouteType, "edge"}, Revision: revision} }
		r.set(11, route("1"))
		c := r.client("n1")
		c.ask(RouteType, "edge")
		m := c.expect("RouteConfiguration edge=1")
		if got := r.standing(at(11)); got != "0 of 1, 0 rejected" {
			t.Errorf("before the ACK: %s", got)
		}
		c.ack(m)
		if got := r.standing(at(11)); got != "1 of 1, 0 rejected" {
			t.Errorf("after the ACK: %s", got)
		}
		r.set(14, cluster("unrelated", "1"))
		if got := r.standing(at(14)); got != "1 of 1, 0 rejected" {
			t.Errorf("what is unchanged up to 14 holds at 14: %s", got)
		}
		r.set(20, route("2"))
		m = c.expect("RouteConfiguration edge=2")
		if got := r.standing(at(20)); got != "0 of 1, 0 rejected" {
			t.Errorf("before the second ACK: %s", got)
		}
		if got := r.standing(at(19)); got != "1 of 1, 0 rejected" {
			t.Errorf("the first content was right up to 19: %s", got)
		}
		c.ack(m)
		if got := r.standing(at(21)); got != "0 of 1, 0 rejected" {
			t.Errorf("nobody can meet what was not published: %s", got)
		}
	})
}

// A local rollback changes content without a new revision.
func TestASecondContentAtOneRevisionMustBeACKedItself(t *testing.T) {
	opened(t, func(r *rig) {
		want := Requirement{Key: Key{RouteType, "edge"}, Revision: 11}
		r.set(11, route("1"))
		c := r.client("n1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=1")
		r.set(11, route("2"))
		m := c.expect("RouteConfiguration edge=2")
		if got := r.standing(want); got != "0 of 1, 0 rejected" {
			t.Errorf("the first content counts: %s", got)
		}
		c.ack(m)
		if got := r.standing(want); got != "1 of 1, 0 rejected" {
			t.Errorf("the second does not: %s", got)
		}
	})
}

func TestWhatIsNotPublishedIsMetByNobody(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		if got := r.standing(Requirement{Key: Key{ClusterType, "other"}, Revision: 5}); got != "0 of 1, 0 rejected" {
			t.Errorf("never published: %s", got)
		}
		r.remove(12, Key{ClusterType, "a"})
		if got := r.standing(Requirement{Key: Key{ClusterType, "a"}, Revision: 11}); got != "0 of 1, 0 rejected" {
			t.Errorf("unpublished: %s", got)
		}
		if s := r.s.Standing("nobody", nil); s.Connected != 0 || s.Met != 0 {
			t.Errorf("a group without proxies stands at %+v", s)
		}
	})
}

// poolAndLayer is what a step waits for: the pool a, and a layer at a revision.
func poolAndLayer(layer string, revision int64) []Requirement {
	return []Requirement{{Key: Key{ClusterType, "a"}}, {Key: Key{RuntimeType, layer}, Revision: revision}}
}

// A change that is taken back before it was sent leaves streams with what is published again, and nothing to answer.
func TestALayerThatIsPublishedAgainIsMetByThoseWhoHaveIt(t *testing.T) {
	opened(t, func(r *rig) {
		defer r.proving()()
		r.set(11, cluster("a", "1"), layer("shop", "k=1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		c.ask(RuntimeType, "shop")
		m := c.expect("Runtime shop=shop:k=1/3s")
		if got := r.standing(poolAndLayer("shop", 11)...); got != "0 of 1, 0 rejected" {
			t.Errorf("before the ACK: %s", got)
		}
		c.ack(m)
		if got := r.standing(poolAndLayer("shop", 11)...); got != "1 of 1, 0 rejected" {
			t.Errorf("after the ACK: %s", got)
		}
		r.set(12, layer("shop", "k=2"))
		r.set(13, layer("shop", "k=3"))
		c.nack(c.expect("Runtime shop=shop:k=2/3s"), "no")
		c.take("Runtime shop=shop:k=3/3s")
		r.set(14, layer("shop", "k=4"))
		m = c.expect("Runtime shop=shop:k=4/3s")
		r.set(15, layer("shop", "k=5"))
		r.set(16, layer("shop", "k=4"))
		if got := r.standing(poolAndLayer("shop", 16)...); got != "0 of 1, 0 rejected" {
			t.Errorf("sent, not answered: %s", got)
		}
		c.ack(m)
		c.quiet()
		if got := r.standing(poolAndLayer("shop", 16)...); got != "1 of 1, 0 rejected" {
			t.Errorf("it was answered, as what it was before: %s", got)
		}
	})
}

// Who comes later has to have all of it, though all who were there had the rest.
func TestOneWhoComesIsLookedAtForAllThatIsWanted(t *testing.T) {
	opened(t, func(r *rig) {
		defer r.proving()()
		r.set(11, cluster("a", "1"), layer("shop", "k=1"))
		first := r.client("n1")
		first.ask(ClusterType)
		first.take("Cluster a=1")
		first.ask(RuntimeType, "shop")
		first.take("Runtime shop=shop:k=1/3s")
		if got := r.standing(poolAndLayer("shop", 11)...); got != "1 of 1, 0 rejected" {
			t.Errorf("one has all: %s", got)
		}
		r.set(12, layer("shop", "k=2"))
		first.take("Runtime shop=shop:k=2/3s")
		second := r.client("n2")
		second.ask(RuntimeType, "shop")
		second.take("Runtime shop=shop:k=2/3s")
		if got := r.standing(poolAndLayer("shop", 12)...); got != "1 of 2, 0 rejected" {
			t.Errorf("the second lacks the cluster: %s", got)
		}
		second.ask(ClusterType)
		second.take("Cluster a=1")
		if got := r.standing(poolAndLayer("shop", 12)...); got != "2 of 2, 0 rejected" {
			t.Errorf("both have all: %s", got)
		}
	})
}

func TestStandingNamesUpToThreeThatWait(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("1"))
		for _, node := range []string{"a", "b", "c", "d", "e"} {
			c := r.client(node)
			c.ask(RouteType, "edge")
			m := c.expect("RouteConfiguration edge=1")
			if node == "b" {
				c.ack(m)
			}
		}
		synctest.Wait()
		s := r.s.Standing("edge", []Requirement{{Key: Key{RouteType, "edge"}, Revision: 11}})
		if s.Connected != 5 || s.Met != 1 || len(s.Waiting) != 3 || s.Waiting[0].Node != "a" || s.Waiting[1].Node != "c" {
			t.Errorf("%+v", s)
		}
		if p := s.Waiting[0]; p.Version != "Envoy 1.40.0" || p.Pending != 1 {
			t.Errorf("the first that waits is %+v", p)
		}
	})
}

func TestMetSinceIsTheLastOfTheACKsAndSurvivesOthersChanges(t *testing.T) {
	opened(t, func(r *rig) {
		want := []Requirement{{Key: Key{RouteType, "edge"}, Revision: 12}, {Key: Key{ClusterType, "a"}, Revision: 11}}
		since := func() time.Time {
			synctest.Wait()
			return r.s.MetSince("edge", want)["n1"]
		}
		r.set(11, routes(part("A1")), cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:A1")
		time.Sleep(time.Second)
		r.set(12, routes(part("A2")))
		m := c.expect("RouteConfiguration edge=edge:A2")
		if at := since(); !at.IsZero() {
			t.Errorf("met since %s before the ACK", at)
		}
		time.Sleep(time.Second)
		accepted := time.Now()
		c.ack(m)
		if at := since(); !at.Equal(accepted) {
			t.Errorf("met since %s, the ACK was at %s", at, accepted)
		}
		if s := r.s.Standing("edge", want); !s.LastAck.Equal(accepted) {
			t.Errorf("LastAck is %s, the ACK was at %s", s.LastAck, accepted)
		}
		time.Sleep(time.Second)
		r.set(13, routes(part("A2"), part("B1"))) // another service's routes
		if at := since(); !at.Equal(accepted) {
			t.Errorf("met since %s while another's change is under way", at)
		}
		c.take("RouteConfiguration edge=edge:A2B1")
		if at := since(); !at.Equal(accepted) {
			t.Errorf("met since %s after another's change", at)
		}
	})
}

func TestANodeWithTwoStreamsMeetsWhatBothMeet(t *testing.T) {
	opened(t, func(r *rig) {
		want := []Requirement{{Key: Key{RouteType, "edge"}, Revision: 11}}
		r.set(11, route("1"))
		a, b := r.client("same"), r.client("same")
		a.ask(RouteType, "edge")
		a.take("RouteConfiguration edge=1")
		b.ask(RouteType, "edge")
		m := b.expect("RouteConfiguration edge=1")
		if met := r.s.MetSince("edge", want); len(met) != 0 {
			t.Errorf("met: %v", met)
		}
		if got := r.standing(want...); got != "1 of 2, 0 rejected" {
			t.Errorf("they do not count as two proxies: %s", got)
		}
		for _, p := range r.s.Proxies() {
			if !p.Duplicate {
				t.Errorf("stream %d is not flagged", p.Stream)
			}
		}
		b.ack(m)
		synctest.Wait()
		if met := r.s.MetSince("edge", want); len(met) != 1 {
			t.Errorf("met: %v", met)
		}
	})
}

// A proxy with listeners of its own is not asked for the gateway's.
func TestARequirementMayBeForThoseWhoAskedOnly(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), Resource{Key: Key{ListenerType, "l"}, Body: []byte("l")})
		want := Requirement{Key: Key{ListenerType, "l"}, Given: Key{ListenerType, "l"}}
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		if got := r.standing(want, Requirement{Key: Key{ClusterType, "a"}}); got != "1 of 1, 0 rejected" {
			t.Errorf("it never asked: %s", got)
		}
		if got := r.standing(want); got != "0 of 0, 0 rejected" {
			t.Errorf("it never asked, and nothing else is wanted: %s", got)
		}
		c.ask(ListenerType)
		m := c.expect("Listener l=l")
		if got := r.standing(want); got != "0 of 1, 0 rejected" {
			t.Errorf("it asked and has not answered: %s", got)
		}
		c.nack(m, "Address already in use")
		if got := r.standing(want); got != "0 of 1, 1 rejected" {
			t.Errorf("it rejected it: %s", got)
		}
	})
}

// A gRPC client has a stream for each service that it uses, under one node id.
func TestARequirementForThoseWhoAskConcernsNoOthers(t *testing.T) {
	opened(t, func(r *rig) {
		shop, cart := Key{RouteType, "shop"}, Key{RouteType, "cart"}
		want := []Requirement{{Key: shop, Given: shop}, {Key: Key{ClusterType, "a"}, Given: shop}}
		r.set(11, cluster("a", "1"), Resource{Key: shop, Body: []byte("s")}, Resource{Key: cart, Body: []byte("c")})
		one, other := r.client("app"), r.client("app")
		other.ask(RouteType, "cart")
		other.take("RouteConfiguration cart=c")
		if got := r.standing(want...); got != "0 of 0, 0 rejected" {
			t.Errorf("nobody asks for it: %s", got)
		}
		if met := r.s.MetSince("edge", want); len(met) != 0 {
			t.Errorf("nobody asks for it: %v", met)
		}
		one.ask(RouteType, "shop")
		one.take("RouteConfiguration shop=s")
		if got := r.standing(want...); got != "0 of 1, 0 rejected" {
			t.Errorf("the cluster is not asked for yet: %s", got)
		}
		one.ask(ClusterType, "a")
		one.take("Cluster a=1")
		if got := r.standing(want...); got != "1 of 1, 0 rejected" {
			t.Errorf("all is there: %s", got)
		}
		if met := r.s.MetSince("edge", want); len(met) != 1 {
			t.Errorf("the stream that asks for something else counts: %v", met)
		}
		if got := r.s.Concerned("edge", want); len(got) != 1 || got["app"] != 1 {
			t.Errorf("concerned: %v", got)
		}
	})
}

func TestConnectedForCountsWhomStandingCounts(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), route("r"))
		c := r.client("uses a")
		c.ask(ClusterType, "a")
		c.take("Cluster a=1")
		r.client("uses nothing").ask(RouteType, "edge")
		synctest.Wait()
		given := Requirement{Key: Key{ClusterType, "a"}, Given: Key{ClusterType, "a"}}
		for _, want := range [][]Requirement{nil, {given}, {given, {Key: Key{RouteType, "edge"}}}} {
			if got, counted := r.s.ConnectedFor("edge", want), r.s.Standing("edge", want).Connected; got != counted {
				t.Errorf("of %v %d are connected, Standing counts %d", want, got, counted)
			}
		}
		if got := r.s.ConnectedFor("edge", []Requirement{given}); got != 1 {
			t.Errorf("%d use a", got)
		}
		if got := r.s.ConnectedFor("nobody's", nil); got != 0 || r.s.Connected() != 2 {
			t.Errorf("%d of no group, %d in all", got, r.s.Connected())
		}
	})
}

// A client that opens a stream and says nothing is in no list and under no limit: it is let go.
func TestAStreamThatNeverSaysWhoseItIsEnds(t *testing.T) {
	opened(t, func(r *rig) {
		c := r.client("n1")
		time.Sleep(Limits{}.WithDefaults().Silence - time.Millisecond)
		c.quiet()
		time.Sleep(time.Millisecond)
		wantEnd(t, c, codes.DeadlineExceeded, "")
		r.wantExceeded("silence")
	})
}
