package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"pgregory.net/rapid"
)

// TestProxiesOfTheStateOfTheWorldEndInThePublishedStateWhateverHappened drives two servers, of which the second lags behind, and three proxies through random
// publications, rejections, changed subscriptions with stale nonces, repeated answers and reconnections to either server, in random order and interleaving.
func TestProxiesOfTheStateOfTheWorldEndInThePublishedStateWhateverHappened(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRealm(rt)
		one := func(rt *rapid.T) *worldProxy { return r.proxies[rapid.IntRange(0, len(r.proxies)-1).Draw(rt, "proxy")] }
		deliver, answer := func(rt *rapid.T) { r.deliver(one(rt)) }, func(rt *rapid.T) { r.answer(one(rt)) }
		rt.Repeat(map[string]func(*rapid.T){
			"change":   func(rt *rapid.T) { r.revision++; r.change(rt) },
			"catch up": func(*rapid.T) { r.catchUp() },
			"wait":     func(rt *rapid.T) { r.pass(time.Duration(rapid.IntRange(1, 4000).Draw(rt, "ms")) * time.Millisecond) },
			"deliver":  deliver, "deliver ": deliver, "deliver  ": deliver,
			"answer": answer, "answer ": answer, "answer  ": answer,
			"reconnect": func(rt *rapid.T) { r.reconnect(one(rt), r.servers[rapid.IntRange(0, 1).Draw(rt, "server")]) },
			"subscribe": func(rt *rapid.T) { r.resubscribe(rt, one(rt)) },
			"repeat":    func(rt *rapid.T) { r.repeat(rt, one(rt)) },
			"fold":      func(*rapid.T) { r.pass(foldAfter) },
		})
		r.settle()
	})
}

// realm is two servers of one etcd, with proxies that speak of the state of the world. What is published, it has from world.
type realm struct {
	*world
	servers [2]*Server
	behind  map[Key]string // what the second server has published
	proxies []*worldProxy
}

func newRealm(t *rapid.T) *realm {
	r := &realm{world: newWorld(t)}
	r.servers = [2]*Server{r.s, New(Config{
		Cluster: "c1", Now: func() time.Time { return r.now }, Group: func(*corev3.Node, Protocol) string { return "edge" }, Log: sound(t),
	})}
	r.catchUp()
	r.servers[1].Open()
	for i := range 3 {
		p := newWorldProxy(fmt.Sprint("n", i))
		r.proxies = append(r.proxies, p)
		r.join(p, r.servers[i%2])
	}
	return r
}

// catchUp has the second server publish what the first one has.
func (r *realm) catchUp() {
	first, live := r.s, r.live
	r.s, r.live = r.servers[1], r.behind
	r.publish()
	r.s, r.live, r.behind = first, live, r.live
}

func (r *realm) pass(d time.Duration) {
	r.now = r.now.Add(d)
	for _, s := range r.servers {
		s.each(func(one *session) { one.fold(r.now) })
	}
}

// settle makes everything acceptable, has everybody want everything and both servers catch up, lets time pass, and compares.
func (r *realm) settle() {
	clear(r.bad)
	r.revision++
	r.publish()
	r.catchUp()
	for _, p := range r.proxies {
		p.wants[ClusterType], p.wants[ListenerType] = names("*"), names("*")
		p.wants[RuntimeType] = names("l1", "l2")
		for _, url := range []string{ClusterType, ListenerType, RuntimeType} {
			r.say(p, url)
		}
	}
	for range 60 {
		for _, p := range r.proxies {
			for messages := 0; r.deliver(p) || r.answer(p); messages++ {
				if messages > 500 {
					r.t.Fatal("the server does not come to rest")
				}
			}
		}
		r.now = r.now.Add(250 * time.Millisecond)
	}
	for _, p := range r.proxies {
		r.compare(p)
	}
	for i, s := range r.servers {
		r.agrees(i, s)
	}
}

// compare fails unless a proxy has what is published.
func (r *realm) compare(p *worldProxy) {
	for key, body := range r.live {
		if key.Type == RuntimeType {
			body = key.Name // without a TTL nothing would take the parts back, so they are not sent
		}
		if got := p.has[key]; p.wanted(key) && got != body {
			r.t.Fatalf("%s has %v %q, published is %q", p.node, key, got, body)
		}
	}
	for key := range p.has {
		if _, published := r.live[key]; !published {
			r.t.Fatalf("%s still has %v", p.node, key)
		}
	}
}

// agrees fails unless a server knows that its proxies have everything.
func (r *realm) agrees(i int, s *Server) {
	var want []Requirement
	for key := range r.live {
		if key.Type != RuntimeType {
			want = append(want, Requirement{Key: key, Revision: r.revision})
		}
	}
	connected := 0
	for _, p := range r.proxies {
		if p.at == s {
			connected++
		}
	}
	if got := s.Standing("edge", want); got.Met != connected || got.Connected != connected || got.Rejected != 0 {
		r.t.Fatalf("all %d proxies of server %d have all, it says %+v", connected, i, got)
	}
	s.each(func(one *session) {
		for _, t := range one.types {
			if t.dirty.len() > 0 || t.flying != 0 || len(t.suspects) > 0 {
				r.t.Fatalf("%s of %s is not at rest: %+v", t.url, one.node, t)
			}
		}
	})
}

// reconnect ends a proxy's stream and begins another one.
func (r *realm) reconnect(p *worldProxy, to *Server) {
	p.at.part(p.session)
	r.join(p, to)
}

// resubscribe changes what a proxy wants of a type. It names the newest nonce that it has read, which may be stale.
func (r *realm) resubscribe(t *rapid.T, p *worldProxy) {
	url := rapid.SampledFrom([]string{ClusterType, ListenerType, RuntimeType}).Draw(t, "type")
	among := []string{"a", "b", "c", "d", "*"}
	if url == RuntimeType {
		among = []string{"l1", "l2"}
	}
	wanted := rapid.SliceOfDistinct(rapid.SampledFrom(among), func(s string) string { return s }).Draw(t, "names")
	if len(wanted) == 0 && !p.asked[url] {
		return // that would mean all
	}
	p.wants[url] = names(wanted...)
	p.turns++
	maps.DeleteFunc(p.refused, func(what string, _ bool) bool { return strings.HasPrefix(what, url) })
	r.say(p, url)
	p.forget(url)
	if url == ClusterType {
		r.followClusters(p)
	}
}

// repeat has a proxy send again what it sent before: the newest answer, or one that is long stale.
func (r *realm) repeat(t *rapid.T, p *worldProxy) {
	url := rapid.SampledFrom(slices.Sorted(maps.Keys(p.wants))).Draw(t, "type")
	if len(p.wants[url]) == 0 && !p.asked[url] {
		return
	}
	if old := p.stale[url]; old != "" && rapid.Bool().Draw(t, "stale") {
		newest := p.nonce[url]
		p.nonce[url] = old
		defer func() { p.nonce[url] = newest }()
	}
	r.say(p, url)
}

func names(all ...string) map[string]bool {
	set := map[string]bool{}
	for _, name := range all {
		set[name] = true
	}
	return set
}

// nameIn is the resource's name in one of world's bodies.
func nameIn(body string) string {
	body = strings.TrimSuffix(body, "!")
	if before, rest, found := strings.Cut(body, " "); found && !strings.Contains(before, "[") {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	name, _, _ := strings.Cut(body, "[")
	return name
}
