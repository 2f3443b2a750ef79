package xds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// TestStandingIsWhatALookAtEachProxyFinds has a few proxies come, go, answer and refuse while a layer changes, and holds what the server says from what it counted and
// remembers against a look at each of them.
func TestStandingIsWhatALookAtEachProxyFinds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &crowd{t: rt, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), revision: 10}
		c.s = New(Config{Cluster: "c1", Now: func() time.Time { return c.now }, Group: func(*corev3.Node, Protocol) string { return "edge" }, Log: sound(rt)})
		c.publish(layer("shop", "0"), cluster("a", "1"))
		c.s.Open()
		c.s.Prove(c.now)
		c.come()
		c.come()
		all := func(*rapid.T) {
			for _, one := range slices.Clone(c.proxies) {
				for c.send(one) || c.answer(one, "") {
					continue
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"":     func(*rapid.T) { c.compare() },
			"come": func(*rapid.T) { c.come() },
			"go": func(rt *rapid.T) {
				if one := c.some(rt); one != nil {
					c.s.part(one)
					c.proxies = slices.DeleteFunc(c.proxies, func(other *session) bool { return other == one })
				}
			},
			"step":   func(rt *rapid.T) { c.publish(layer("shop", fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "weight")))) },
			"step ":  func(rt *rapid.T) { c.publish(layer("shop", fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "weight")))) },
			"local":  func(*rapid.T) { c.revision--; c.publish(layer("shop", "0")) },
			"empty":  func(*rapid.T) { c.publish(Resource{Key: Key{RuntimeType, "shop"}, Body: []byte("none")}) },
			"pool":   func(rt *rapid.T) { c.publish(cluster("a", fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "pool")))) },
			"needs":  func(rt *rapid.T) { c.publish(needing(fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "weight")))) },
			"needs ": func(rt *rapid.T) { c.publish(needing(fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "weight")))) },
			"all":    all,
			"all ":   all,
			"all  ":  all,
			"send":   func(rt *rapid.T) { c.send(c.some(rt)) },
			"answer": func(rt *rapid.T) { c.answer(c.some(rt), "") },
			"refuse": func(rt *rapid.T) { c.answer(c.some(rt), "no") },
			"drop":   func(rt *rapid.T) { c.drop(c.some(rt)) },
			"wait": func(rt *rapid.T) {
				c.now = c.now.Add(time.Duration(rapid.IntRange(1, 1500).Draw(rt, "ms")) * time.Millisecond)
				c.s.Prove(c.now)
			},
			"long wait": func(*rapid.T) { c.now = c.now.Add(4 * time.Second) },
		})
	})
}

// needing is the layer with a part for which a proxy needs the pool.
func needing(keys string) Resource {
	r := layer("shop", keys)
	r.Parts = append(r.Parts, Part{Body: []byte("b" + keys), Needs: []Need{{Key: Key{ClusterType, "a"}, Accepted: true}}})
	return r
}

// crowd is a server with some proxies.
type crowd struct {
	t        *rapid.T
	now      time.Time
	s        *Server
	revision int64
	came     int
	proxies  []*session
}

func (c *crowd) publish(set ...Resource) {
	c.revision++
	c.s.Publish(c.revision, []Update{{Group: "edge", Set: set}})
}

// some is one of the proxies, nil if there is none.
func (c *crowd) some(t *rapid.T) *session {
	if len(c.proxies) == 0 {
		return nil
	}
	return rapid.SampledFrom(c.proxies).Draw(t, "proxy")
}

func (c *crowd) say(one *session, r *discoveryv3.DeltaDiscoveryRequest) {
	wire, err := proto.Marshal(r)
	if err != nil {
		c.t.Fatal(err)
	}
	asked := c.s.newRequest(Delta)
	asked.data = [][]byte{wire}
	if err := asked.read(); err != nil {
		c.t.Fatal(err)
	}
	if err := one.apply(asked); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) come() {
	if len(c.proxies) == 4 {
		return
	}
	c.came++
	one, _, err := c.s.join(nobody(), c.greeting())
	if err != nil {
		c.t.Fatal(err)
	}
	c.proxies = append(c.proxies, one)
	c.say(one, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: RuntimeType, ResourceNamesSubscribe: []string{"shop"}})
	c.say(one, requestOf(ClusterType))
}

func (c *crowd) greeting() *request {
	wire, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: fmt.Sprint("n", c.came), Cluster: "edge"}, TypeUrl: RuntimeType})
	if err != nil {
		c.t.Fatal(err)
	}
	first := c.s.newRequest(Delta)
	first.data = [][]byte{wire}
	if err := first.read(); err != nil {
		c.t.Fatal(err)
	}
	return first
}

func (c *crowd) send(one *session) bool {
	if one == nil {
		return false
	}
	return one.upcoming(c.now).flight != nil
}

func (c *crowd) answer(one *session, words string) bool {
	if one == nil || len(one.flights) == 0 {
		return false
	}
	f := one.flights[0]
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: f.t.url, ResponseNonce: string(appendNonce(nil, f.nonce))}
	if words != "" {
		r.ErrorDetail = &rpcstatus.Status{Message: words}
	}
	c.say(one, r)
	return true
}

// drop has a proxy take the layer back and want it anew.
func (c *crowd) drop(one *session) {
	if one == nil {
		return
	}
	c.say(one, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: RuntimeType, ResourceNamesUnsubscribe: []string{"shop"}})
	c.say(one, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: RuntimeType, ResourceNamesSubscribe: []string{"shop"}})
}

func (c *crowd) compare() {
	for _, want := range [][]Requirement{poolAndLayer("shop", c.revision), poolAndLayer("shop", c.revision-1)} {
		said := c.s.Standing("edge", want)
		found, unsure := Standing{}, false
		g := c.s.find("edge")
		if g == nil {
			return
		}
		for _, one := range g.sessions {
			found.Connected++
			since, met := one.metSince(g.find(want), c.s.reached(), c.now)
			if met {
				found.Met++
				found.LastAck = latest(found.LastAck, since)
			}
			if one.refuses(want) {
				found.Rejected++
			}
			t := one.interest(RuntimeType)
			unsure = unsure || t != nil && t.dirty.get("shop") != 0
		}
		// What a proxy has of a layer that is published again is known when it is looked at.
		if unsure && said.Met < found.Met {
			continue
		}
		if said.Connected != found.Connected || said.Met != found.Met || said.Rejected != found.Rejected {
			c.t.Fatalf("at %d it says %+v, a look at each finds %+v", want[1].Revision, said, found)
		}
		if found.Met == found.Connected && !said.LastAck.Equal(found.LastAck) {
			c.t.Fatalf("at %d it says that the last ACK came at %s, a look at each finds %s", want[1].Revision, said.LastAck, found.LastAck)
		}
	}
}
