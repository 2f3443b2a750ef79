package xds

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"pgregory.net/rapid"
)

// TestAProxyEndsInThePublishedStateWhateverHappened drives a server and one proxy through random publications, rejections, losses of proof, reconnections and
// subscriptions, in random order and interleaving, without goroutines, on a clock of its own. On the way it checks that nothing is sent that must not be; in the
// end that the proxy has what is published.
func TestAProxyEndsInThePublishedStateWhateverHappened(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.connect()
		rt.Repeat(map[string]func(*rapid.T){
			"change": func(rt *rapid.T) { w.change(rt) },
			"prove":  func(*rapid.T) { w.prove() },
			"wait": func(rt *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(rt, "ms")) * time.Millisecond)
			},
			"deliver":     func(*rapid.T) { w.deliver() },
			"deliver ":    func(*rapid.T) { w.deliver() },
			"answer":      func(*rapid.T) { w.answer() },
			"answer ":     func(*rapid.T) { w.answer() },
			"reconnect":   func(*rapid.T) { w.reconnect() },
			"resubscribe": func(rt *rapid.T) { w.resubscribe(rt) },
			"toggle":      func(*rapid.T) { w.toggle() },
			"ask":         func(rt *rapid.T) { w.ask(rt) },
			"move":        func(*rapid.T) { w.move() },
			"catch up":    func(*rapid.T) { w.catchUp() },
			"listeners":   func(rt *rapid.T) { w.listeners(rt) },
			"fold": func(*rapid.T) {
				w.now = w.now.Add(foldAfter)
				w.s.each(func(one *session) { one.fold(w.now) })
			},
		})
		w.settle()
	})
}

// world is a server with one proxy, as the test knows them, and another server of the same etcd, which lags behind.
type world struct {
	t        *rapid.T
	now      time.Time
	proof    time.Time
	s        *Server
	revision int64
	urgent   bool           // what is published next
	hurried  bool           // something urgent was published
	pools    map[string]int // version of each pool; its cluster, endpoints, route and ramp are derived
	bad      map[Key]bool   // what the proxy would reject now
	live     map[Key]string // what is published
	p        modelProxy

	other     *Server
	otherLive map[Key]string
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), revision: 10, pools: map[string]int{}, bad: map[Key]bool{}, live: map[Key]string{}}
	w.pools["a"] = 1
	for range 2 {
		w.s = New(Config{Cluster: "c1", Now: func() time.Time { return w.now }, Group: func(*corev3.Node, Protocol) string { return "edge" }, Log: sound(t)})
		w.publish()
		w.s.Open()
		w.swap()
	}
	return w
}

// swap makes the other server the one that the proxy speaks to.
func (w *world) swap() {
	w.s, w.other = w.other, w.s
	w.live, w.otherLive = w.otherLive, w.live
}

// catchUp has the other server publish what there is.
func (w *world) catchUp() {
	w.swap()
	w.publish()
	w.swap()
}

// move has the proxy go to the other server.
func (w *world) move() {
	w.s.part(w.p.session)
	w.swap()
	w.connect()
}

// resources are what the pools make: each pool a cluster, endpoints, a part of the routes and a part of its layer.
func (w *world) resources() []Resource {
	routes := Resource{Key: Key{RouteType, "edge"}, Body: []byte("edge")}
	layers := map[string]*Resource{}
	for _, name := range []string{"l1", "l2"} {
		layers[name] = &Resource{Key: Key{RuntimeType, name}, Body: []byte(name)}
	}
	var all []Resource
	mark := func(key Key, body string) []byte {
		if w.bad[key] {
			body += "!"
		}
		return []byte(body)
	}
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		v := w.pools[name]
		all = append(all,
			Resource{Key: Key{ClusterType, name}, Body: mark(Key{ClusterType, name}, fmt.Sprintf("cluster %s %d", name, v/2))},
			Resource{Key: Key{ListenerType, name}, Body: mark(Key{ListenerType, name}, fmt.Sprintf("listener %s %d", name, v/5))},
			Resource{Key: Key{EndpointType, name}, Body: fmt.Appendf(nil, "endpoints %s %d", name, v/3)})
		routes.Parts = append(routes.Parts, Part{Body: mark(routes.Key, fmt.Sprintf("[%s %d]", name, v/4)), Needs: w.needs(name)})
		l := layers["l1"]
		if name > "b" {
			l = layers["l2"]
		}
		l.Parts = append(l.Parts, Part{Body: mark(l.Key, fmt.Sprintf("[%s %d]", name, v)), Needs: w.needs(name)})
		l.TTL = []time.Duration{3 * time.Second, 30 * time.Second}[v/2%2]
	}
	return append(all, routes, *layers["l1"], *layers["l2"])
}

// needs are those of whatever names a pool. Its endpoints alone imply its cluster.
func (w *world) needs(name string) []Need {
	if name < "c" {
		return []Need{pool(name)}
	}
	return []Need{arm(name), pool(name)}
}

func (w *world) publish() {
	u, live := Update{Group: "edge", Set: w.resources()}, map[Key]string{}
	for _, r := range u.Set {
		body := string(r.Body)
		for _, p := range r.Parts {
			body += string(p.Body)
		}
		live[r.Key] = body
	}
	for key := range w.live {
		if _, stays := live[key]; !stays {
			u.Remove = append(u.Remove, key)
		}
	}
	w.live = live
	u.Urgent = w.urgent
	w.hurried = w.hurried || u.Urgent
	w.s.Publish(w.revision, []Update{u})
}

func (w *world) change(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "pool")
	switch rapid.IntRange(0, 5).Draw(t, "how") {
	case 0:
		delete(w.pools, name)
	case 1:
		key := rapid.SampledFrom([]Key{{ClusterType, name}, {ListenerType, name}, {RouteType, "edge"}, {RuntimeType, "l1"}}).Draw(t, "key")
		w.bad[key] = !w.bad[key]
	default:
		w.pools[name]++
	}
	local := rapid.IntRange(0, 4).Draw(t, "local") == 0
	if !local {
		w.revision++
	}
	w.urgent = rapid.IntRange(0, 4).Draw(t, "urgent") == 0
	w.publish()
	w.urgent = false
	if local { // a rollback without a revision of its own, which the proxy's tag would tell the other server of
		w.catchUp()
	}
}

func (w *world) prove() {
	w.proof = w.now
	w.s.Prove(w.now)
	w.other.Prove(w.now)
}

// settle makes everything acceptable, lets time pass while etcd and the leader live, and compares.
func (w *world) settle() {
	clear(w.bad)
	w.revision++
	w.publish()
	for range 60 {
		w.prove()
		for messages := 0; w.deliver() || w.answer(); messages++ {
			if messages > 500 {
				w.t.Fatal("the server does not come to rest")
			}
		}
		w.now = w.now.Add(250 * time.Millisecond)
	}
	w.expire()
	for key, body := range w.live {
		if !w.p.wanted(key) {
			continue
		}
		if got := w.p.has[key].body; got != body {
			w.t.Fatalf("the proxy has %v %q, published is %q", key, got, body)
		}
	}
	for key := range w.p.has {
		if _, published := w.live[key]; !published {
			w.t.Fatalf("the proxy still has %v", key)
		}
	}
	if len(w.p.asked) > 0 {
		w.t.Fatalf("subscriptions without an answer: %v", w.p.asked)
	}
	w.meets()
}

// ask checks that what the server says, from what it remembers and knows of all streams, is what it finds by a look at each.
func (w *world) ask(t *rapid.T) {
	var want []Requirement
	revision := rapid.SampledFrom([]int64{1, w.revision}).Draw(t, "revision")
	for _, key := range slices.SortedFunc(maps.Keys(w.live), func(a, b Key) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name)) }) {
		if key.Type == ClusterType || w.p.wants[key.Type][key.Name] {
			want = append(want, Requirement{Key: key, Revision: revision})
		}
	}
	said := w.s.Standing("edge", want)
	since := maps.Clone(w.s.MetSince("edge", want))
	g := w.s.find("edge")
	clear(g.verdicts)
	for _, e := range g.shelf(RuntimeType).entries {
		if t := w.p.session.interest(RuntimeType); !e.uptake.begun && t != nil && t.dirty.get(e.Name) != 0 {
			return // it may turn out to have been taken before
		}
		e.uptake.begun = true
	}
	g.losses++
	if now := w.s.Standing("edge", want); said.Met != now.Met || said.Rejected != now.Rejected || !said.LastAck.Equal(now.LastAck) {
		w.t.Fatalf("remembered %+v, found %+v", said, now)
	}
	if now := w.s.MetSince("edge", want); !maps.Equal(since, now) {
		w.t.Fatalf("remembered %v, found %v", since, now)
	}
}

// meets checks that the server knows that the proxy has everything.
func (w *world) meets() {
	var want []Requirement
	for key := range w.live {
		if w.p.wanted(key) {
			want = append(want, Requirement{Key: key, Revision: w.revision})
		}
	}
	if s := w.s.Standing("edge", want); s.Met != 1 || s.Rejected != 0 {
		w.t.Fatalf("the proxy has all, the server says %+v", s)
	}
}
