package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"pgregory.net/rapid"
)

// modelProxy is an Envoy as the model knows it.
type modelProxy struct {
	session *session
	has     map[Key]had
	wants   map[string]map[string]bool
	inbox   []*discoveryv3.DeltaDiscoveryResponse
	refused map[string]bool // key and version of what it refused alone, and has not unsubscribed since
	turns   int             // how often it changed which listeners it wants
	floor   int64           // the newest revision that it named when it came
	born    map[string]int  // the turns when a response was sent, by nonce
	asked   map[Key]bool    // subscriptions that were not answered yet
}

// wanted reports whether the proxy subscribed to a resource.
func (p *modelProxy) wanted(key Key) bool {
	return p.wants[key.Type]["*"] || p.wants[key.Type][key.Name]
}

type had struct {
	body, version string
	ttl           time.Duration
	expires       time.Time
	by            *session
}

// connect begins a stream as Envoy does: layers first, and what it has is named.
func (w *world) connect() {
	p := &w.p
	if p.has == nil {
		p.has = map[Key]had{}
		p.wants = map[string]map[string]bool{
			RuntimeType: {"l1": true, "l2": true}, ClusterType: {"*": true}, EndpointType: {}, ListenerType: {"*": true}, RouteType: {"edge": true}, "other": {"x": true},
		}
	}
	p.inbox, p.refused, p.asked, p.born = nil, map[string]bool{}, map[Key]bool{}, map[string]int{}
	w.expire()
	p.floor = 0
	for i, url := range []string{RuntimeType, ClusterType, EndpointType, ListenerType, RouteType, "other"} {
		r := requestOf(url)
		r.ResourceNamesSubscribe = slices.Sorted(maps.Keys(p.wants[url]))
		r.InitialResourceVersions = map[string]string{}
		for key, h := range p.has {
			if key.Type == url {
				r.InitialResourceVersions[key.Name] = h.version
				if v, _ := parseVersion(h.version); len(p.wants[url]) > 0 {
					p.floor = max(p.floor, v.revision)
				}
			}
		}
		if i == 0 {
			r.Node = &corev3.Node{Id: "n1", Cluster: "edge"}
			one, _, err := w.s.join(nobody(), w.requested(r))
			w.check(err)
			p.session = one
		}
		if len(r.ResourceNamesSubscribe) > 0 {
			w.say(r)
		}
	}
}

func (w *world) check(err error) {
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) say(from *discoveryv3.DeltaDiscoveryRequest) {
	r := w.requested(from)
	defer r.free()
	w.check(w.p.session.apply(r))
}

func (w *world) requested(from *discoveryv3.DeltaDiscoveryRequest) *request {
	r := w.s.newRequest(Delta)
	w.check(received(r, from))
	return r
}

func (w *world) reconnect() {
	w.s.part(w.p.session)
	w.connect()
}

func (w *world) resubscribe(t *rapid.T) {
	url := rapid.SampledFrom([]string{RuntimeType, EndpointType, RouteType, "other"}).Draw(t, "type")
	names := slices.Sorted(maps.Keys(w.p.wants[url]))
	if len(names) == 0 {
		return
	}
	name := rapid.SampledFrom(names).Draw(t, "name")
	r := requestOf(url)
	r.ResourceNamesSubscribe = []string{name}
	if rapid.Bool().Draw(t, "drop") {
		r.ResourceNamesUnsubscribe = []string{name}
	}
	w.p.asked[Key{url, name}] = true
	w.say(r)
}

// toggle ends or renews the subscription to a layer.
func (w *world) toggle() {
	r := requestOf(RuntimeType)
	if w.p.wants[RuntimeType]["l2"] {
		delete(w.p.wants[RuntimeType], "l2")
		delete(w.p.has, Key{RuntimeType, "l2"})
		delete(w.p.asked, Key{RuntimeType, "l2"})
		r.ResourceNamesUnsubscribe = []string{"l2"}
	} else {
		w.p.wants[RuntimeType]["l2"] = true
		r.ResourceNamesSubscribe = []string{"l2"}
		w.p.asked[Key{RuntimeType, "l2"}] = true
	}
	w.say(r)
}

// listeners changes which listeners the proxy wants: all, some by name, or both.
func (w *world) listeners(t *rapid.T) {
	name := rapid.SampledFrom([]string{"*", "*", "a", "b"}).Draw(t, "listener")
	r, wants := requestOf(ListenerType), w.p.wants[ListenerType]
	w.p.turns++
	maps.DeleteFunc(w.p.refused, func(what string, _ bool) bool { return strings.Contains(what, ListenerType) })
	if wants[name] {
		delete(wants, name)
		delete(w.p.asked, Key{ListenerType, name})
		r.ResourceNamesUnsubscribe = []string{name}
		for key := range w.p.has {
			if key.Type == ListenerType && !w.p.wanted(key) {
				delete(w.p.has, key)
			}
		}
	} else {
		wants[name] = true
		r.ResourceNamesSubscribe = []string{name}
		if name != "*" {
			w.p.asked[Key{ListenerType, name}] = true
		}
	}
	w.say(r)
}

// expire is the proxy's own dead-man switch.
func (w *world) expire() {
	for key, h := range w.p.has {
		if h.ttl > 0 && !w.now.Before(h.expires) {
			delete(w.p.has, key)
		}
	}
}

// deliver takes one message from the server, as it comes over the wire, and checks what the server may send.
func (w *world) deliver() bool {
	o := w.p.session.upcoming(w.now)
	if o.flight == nil {
		return false
	}
	checkLast(w.t.Fatalf, w.p.session, o, w.now)
	checkInFlight(w.t.Fatalf, w.p.session, w.hurried)
	m, err := sentOf(o.frame)
	w.check(err)
	w.p.inbox, w.p.born[m.Nonce] = append(w.p.inbox, m), w.p.turns
	if reached := w.s.reached(); reached < w.p.floor {
		w.t.Fatalf("the proxy has what was published at %d and is sent what was at %d: %s", w.p.floor, reached, describe(m))
	}
	mortal := func(r *discoveryv3.Resource) bool { return r.Ttl != nil }
	if slices.ContainsFunc(m.Resources, mortal) && len(m.Resources)+len(m.RemovedResources) > 1 {
		w.t.Fatalf("several layers in one response, with a TTL: %s", describe(m))
	}
	for _, one := range m.Resources {
		key := Key{m.TypeUrl, one.Name}
		delete(w.p.asked, key)
		if w.p.refused[fmt.Sprint(key, one.Version)] {
			w.t.Fatalf("%v %s was refused and is sent again", key, one.Version)
		}
		if one.Ttl != nil && w.now.Sub(w.proof) > one.Ttl.AsDuration()/3 {
			w.t.Fatalf("%v is sent with a TTL %s after the last proof", key, w.now.Sub(w.proof))
		}
	}
	for _, name := range m.RemovedResources {
		delete(w.p.asked, Key{m.TypeUrl, name})
	}
	return true
}

// answer has the proxy take in its oldest message and answer it.
func (w *world) answer() bool {
	if len(w.p.inbox) == 0 {
		return false
	}
	m := w.p.inbox[0]
	w.p.inbox = w.p.inbox[1:]
	w.expire()
	reply := requestOf(m.TypeUrl)
	reply.ResponseNonce = m.Nonce
	if words := w.objection(m); words != "" {
		reply.ErrorDetail = &rpcstatus.Status{Message: words}
		if len(m.Resources) == 1 && m.Resources[0].Resource != nil && (m.TypeUrl != ListenerType || w.p.born[m.Nonce] == w.p.turns) {
			w.p.refused[fmt.Sprint(Key{m.TypeUrl, m.Resources[0].Name}, m.Resources[0].Version)] = true
		}
		w.say(reply)
		return true
	}
	for _, one := range m.Resources {
		w.store(m.TypeUrl, one)
	}
	for _, name := range m.RemovedResources {
		w.removed(Key{m.TypeUrl, name})
	}
	w.say(reply)
	if m.TypeUrl == ClusterType {
		w.followClusters()
	}
	return true
}

// objection is why the proxy rejects a response, empty if it does not.
func (w *world) objection(m *discoveryv3.DeltaDiscoveryResponse) string {
	for _, one := range m.Resources {
		key := Key{m.TypeUrl, one.Name}
		if one.Resource == nil {
			if h, alive := w.p.has[key]; !alive || h.version != one.Version {
				return "heartbeat of an expired resource"
			}
			continue
		}
		if strings.Contains(string(one.Resource.Value), "!") {
			return "bad"
		}
	}
	return ""
}

func (w *world) store(url string, one *discoveryv3.Resource) {
	key := Key{url, one.Name}
	if !w.p.wanted(key) {
		return
	}
	h := w.p.has[key]
	if one.Resource != nil {
		older, _ := parseVersion(h.version)
		newer, _ := parseVersion(one.Version)
		if h.by == w.p.session && newer.revision < older.revision {
			w.t.Fatalf("%v goes back from %s to %s", key, h.version, one.Version)
		}
		h = had{body: string(one.Resource.Value), version: one.Version, by: w.p.session}
		w.checkNeeds(key, h.body)
	}
	if one.Ttl != nil {
		h.ttl, h.expires = one.Ttl.AsDuration(), w.now.Add(one.Ttl.AsDuration())
	}
	w.p.has[key] = h
}

// checkNeeds fails if something names a pool whose cluster or endpoints the proxy does not have.
func (w *world) checkNeeds(key Key, body string) {
	if key.Type != RouteType && key.Type != RuntimeType {
		return
	}
	for _, word := range strings.Split(body, "[")[1:] {
		name, _, _ := strings.Cut(word, " ")
		if _, has := w.p.has[Key{EndpointType, name}]; !has {
			w.t.Fatalf("%v %q names %s, whose endpoints this proxy does not have", key, body, name)
		}
		if _, has := w.p.has[Key{ClusterType, name}]; !has {
			w.t.Fatalf("%v %q names %s, which this proxy does not have", key, body, name)
		}
	}
}

// removed takes a resource away, and fails if something still names it.
func (w *world) removed(key Key) {
	if _, has := w.p.has[key]; has && (key.Type == ClusterType || key.Type == EndpointType) {
		for other, h := range w.p.has {
			if (other.Type == RouteType || other.Type == RuntimeType) && strings.Contains(h.body, "["+key.Name+" ") {
				w.t.Fatalf("%v is removed while %v names it: %q", key, other, h.body)
			}
		}
	}
	delete(w.p.has, key)
}

// followClusters subscribes to the endpoints of the clusters that the proxy has.
func (w *world) followClusters() {
	r := requestOf(EndpointType)
	for key := range w.p.has {
		if key.Type == ClusterType && !w.p.wants[EndpointType][key.Name] {
			w.p.wants[EndpointType][key.Name] = true
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, key.Name)
		}
	}
	for name := range w.p.wants[EndpointType] {
		if _, has := w.p.has[Key{ClusterType, name}]; !has {
			delete(w.p.wants[EndpointType], name)
			delete(w.p.has, Key{EndpointType, name})
			delete(w.p.asked, Key{EndpointType, name})
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, name)
		}
	}
	if len(r.ResourceNamesSubscribe)+len(r.ResourceNamesUnsubscribe) > 0 {
		w.say(r)
	}
}
