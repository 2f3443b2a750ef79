package xds

import (
	"testing"
	"time"
)

func named(name, body string, needs ...Need) Part {
	return Part{Name: name, Body: []byte(body), Needs: needs}
}

func accepts(cluster string) Need { return Need{Key: Key{ClusterType, cluster}, Accepted: true} }

// With a quorum below all proxies a service's base moves to clusters that some proxy rejects or has not accepted yet. Its users must not lose the service.
func TestAProxyThatLacksANewPartsClusterKeepsTheFormerPartAndItsCluster(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("blue", "1"), cluster("other", "1"), routes(named("shop", "S-blue ", accepts("blue")), named("cart", "C1", accepts("other"))))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster blue=1 other=1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:S-blue C1")

		r.set(12, cluster("green", "1"))
		c.nack(c.expect("Cluster green=1"), "no such thing")
		r.set(13, routes(named("shop", "S-green ", accepts("green")), named("cart", "C1", accepts("other"))))
		c.take("RouteConfiguration edge=edge:C1S-blue ")
		r.remove(14, Key{ClusterType, "blue"})
		time.Sleep(time.Minute)
		c.quiet() // the former part needs its cluster
		r.set(15, routes(named("shop", "S-green ", accepts("green")), named("cart", "C2", accepts("other"))))
		c.take("RouteConfiguration edge=edge:C2S-blue ")
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 15}); got != "0 of 1, 0 rejected" {
			t.Errorf("counted as confirmed: %s", got)
		}
		time.Sleep(time.Minute)
		c.quiet()

		r.set(16, cluster("green", "2"))
		c.take("Cluster green=2")
		c.take("RouteConfiguration edge=edge:S-green C2")
		time.Sleep(6 * time.Second)
		c.take("Cluster -blue")
		if got := r.standing(Requirement{Key: Key{RouteType, "edge"}, Revision: 15}); got != "1 of 1, 0 rejected" {
			t.Errorf("not counted as confirmed: %s", got)
		}
	})
}

func TestAServiceThatIsNotPublishedAnyMoreIsNotKept(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("blue", "1"), routes(named("shop", "S", accepts("blue"))))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster blue=1")
		c.ask(RouteType, "edge")
		c.take("RouteConfiguration edge=edge:S")
		r.set(12, routes())
		c.take("RouteConfiguration edge=edge:")
	})
}

// What a dead-man's switch holds must not outlive what is now.
func TestALayerKeepsNothing(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		ramp := func(keys, needs string) Resource {
			l := layer("l1", keys)
			l.Parts[0].Name, l.Parts[0].Needs = "shop", []Need{accepts(needs)}
			return l
		}
		r.set(11, cluster("a", "1"), ramp("1", "a"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.take("Cluster a=1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:1/3s")
		r.set(12, ramp("2", "b"))
		c.take("Runtime l1=l1:")
	})
}
