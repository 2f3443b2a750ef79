package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

func TestARejectedVersionIsNeverSentAgainAndItsWordsAreKept(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		r.set(12, cluster("a", "bad"))
		m := c.expect("Cluster a=bad")
		c.nack(m, "Field 'weight' is missing")
		time.Sleep(time.Hour)
		c.quiet()
		r.set(13, cluster("b", "1"))
		c.take("Cluster b=1")
		p := r.s.Proxies()[0]
		want := []Rejection{{Key{ClusterType, "a"}, versionOf(t, m, "a"), "Field 'weight' is missing"}}
		if !slices.Equal(p.Rejections, want) {
			t.Errorf("rejections are %v, want %v", p.Rejections, want)
		}
		if got := r.standing(Requirement{Key: Key{ClusterType, "a"}, Revision: 12}); got != "0 of 1, 1 rejected" {
			t.Error(got)
		}
		c.ask(ClusterType, "a") // a subscription is answered with what the proxy accepted last
		c.take("Cluster a=1")
		r.set(14, cluster("a", "3"))
		c.take("Cluster a=3")
		if got := r.standing(Requirement{Key: Key{ClusterType, "a"}, Revision: 12}); got != "1 of 1, 0 rejected" {
			t.Error(got)
		}
	})
}

func TestOnlyTheProxyThatRejectedIsSpared(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("bad"))
		old, young := r.client("old"), r.client("new")
		old.ask(RouteType, "edge")
		old.nack(old.expect("RouteConfiguration edge=bad"), "unknown field")
		young.ask(RouteType, "edge")
		young.take("RouteConfiguration edge=bad")
		young.ask(RouteType, "edge")
		young.take("RouteConfiguration edge=bad")
		old.quiet()
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 11}); got != "1 of 2, 1 rejected" {
			t.Error(got)
		}
	})
}

func TestRepublishingWhatTheProxyHoldsClearsTheRejection(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("good"))
		c := r.client("n1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=good")
		r.set(12, route("bad"))
		c.nack(c.expect("RouteConfiguration edge=bad"), "bad")
		r.set(13, route("good"))
		c.quiet()
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 13}); got != "1 of 1, 0 rejected" {
			t.Error(got)
		}
	})
}

// A response is rejected as a whole and its words must not be read, so the others in it would share the rejected resource's fate. They are sent apart instead.
func TestARejectedResourceDoesNotCostTheOthersInItsResponse(t *testing.T) {
	opened(t, func(r *rig) {
		var all []Resource
		for i := range 20 {
			all = append(all, cluster(fmt.Sprintf("c%02d", i), "ok"))
		}
		all[7].Body, all[13].Body = []byte("bad"), []byte("bad")
		r.set(11, all...)
		c := r.client("n1")
		c.ask(ClusterType)
		sent, have := map[string]int{}, map[string]bool{}
		answer := func(m *discoveryv3.DeltaDiscoveryResponse) {
			if len(m.Resources) == 1 {
				sent[m.Resources[0].Name]++
			}
			if strings.Contains(describe(m), "bad") {
				c.nack(m, "something in it is bad")
				return
			}
			for _, one := range m.Resources {
				have[one.Name] = true
			}
			c.ack(m)
		}
		responses := 0
		for answer(c.next()); len(have) < 18; answer(c.next()) {
			if responses++; responses > 30 {
				t.Fatalf("still sending after %d responses, %d clusters accepted", responses, len(have))
			}
		}
		drain(c, answer)
		c.quiet()
		for name, times := range sent {
			if times > 1 {
				t.Errorf("%s was sent alone %d times", name, times)
			}
		}
		if rejected := len(r.s.Proxies()[0].Rejections); rejected != 2 {
			t.Errorf("%d clusters are parked, want the two bad ones", rejected)
		}
	})
}

// drain answers whatever still comes.
func drain(c *client, answer func(*discoveryv3.DeltaDiscoveryResponse)) {
	for {
		select {
		case m := <-c.came:
			answer(m)
		case <-time.After(time.Second):
			return
		}
	}
}

func TestARemovalInARejectedResponseIsRepeated(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("1"), Resource{Key: Key{ListenerType, "old"}, Body: []byte("1")})
		c := r.client("n1")
		c.ask(ListenerType)
		c.take("Listener old=1")
		r.s.Publish(12, []Update{{Group: "edge", Set: []Resource{{Key: Key{ListenerType, "new"}, Body: []byte("bad")}}, Remove: []Key{{ListenerType, "old"}}}})
		c.nack(c.expect("Listener new=bad -old"), "bad")
		c.nack(c.expect("Listener -old"), "no reason at all")
		c.quiet()
	})
}

func TestLongWordsAreCut(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("bad"))
		c := r.client("n1")
		c.ask(RouteType, "edge")
		c.nack(c.expect("RouteConfiguration edge=bad"), strings.Repeat("x", 5000))
		c.quiet()
		if n := len(r.s.Proxies()[0].Rejections[0].Words); n != maxWords {
			t.Errorf("kept %d bytes", n)
		}
	})
}
