package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// worldProxy is a proxy that speaks of the state of the world, as the model knows it: it takes a response whole or not at all, and drops the clusters and listeners
// that are not in it.
type worldProxy struct {
	node    string
	at      *Server
	session *session
	wants   map[string]map[string]bool
	has     map[Key]string
	version map[string]string // that it accepted last, by type
	newest  map[string]int64  // revision of what it accepted, by type
	turns   int               // how often it changed what it wants

	// Of the stream.
	floor        int64 // the newest revision that it named when it came
	inbox        []delivered
	nonce, stale map[string]string // that it read last and before, by type
	asked        map[string]bool
	fresh        map[Key]bool    // came on this stream
	refused      map[string]bool // type, name and version of what it refused alone, and has not asked for anew since
}

// delivered is a response that the proxy has not read yet.
type delivered struct {
	*discoveryv3.DiscoveryResponse
	revision int64  // that the server had reached
	turns    int    // the proxy's when it was sent
	alone    string // type, name and version of all that is new in it; "": that is more than one, or the first of all there is
}

func newWorldProxy(node string) *worldProxy {
	return &worldProxy{
		node: node, has: map[Key]string{}, version: map[string]string{}, newest: map[string]int64{},
		wants: map[string]map[string]bool{
			RuntimeType: names("l1", "l2"), ClusterType: names("*"), EndpointType: {}, ListenerType: names("*"), RouteType: names("edge"), "other": names("x"),
		},
	}
}

func (p *worldProxy) wanted(key Key) bool {
	return p.wants[key.Type]["*"] || p.wants[key.Type][key.Name]
}

// forget drops what the proxy does not want any more of a type.
func (p *worldProxy) forget(url string) {
	for key := range p.has {
		if key.Type == url && !p.wanted(key) {
			delete(p.has, key)
		}
	}
}

// join begins a stream: layers first, clusters after them, with the versions that the proxy has.
func (r *realm) join(p *worldProxy, to *Server) {
	p.at, p.inbox, p.nonce, p.stale, p.asked, p.fresh = to, nil, map[string]string{}, map[string]string{}, map[string]bool{}, map[Key]bool{}
	p.refused = map[string]bool{}
	first := &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: p.node, Cluster: "edge"}, TypeUrl: RuntimeType}
	one, _, err := to.join(nobody(), r.worldRequest(to, first))
	r.check(err)
	p.session, p.floor = one, 0
	for _, url := range []string{RuntimeType, RouteType, EndpointType, ListenerType, "other", ClusterType} {
		if len(p.wants[url]) > 0 {
			p.floor = max(p.floor, p.newest[url])
			r.say(p, url)
		}
	}
}

func (r *realm) worldRequest(by *Server, from *discoveryv3.DiscoveryRequest) *request {
	to := by.newRequest(StateOfTheWorld)
	r.check(received(to, from))
	return to
}

// tell has a proxy's stream receive a message.
func (r *realm) tell(p *worldProxy, from *discoveryv3.DiscoveryRequest) {
	to := r.worldRequest(p.session.server, from)
	defer to.free()
	r.check(p.session.apply(to))
}

// ask is a request for all that a proxy wants of a type, in no particular order. It names none where none means all.
func (p *worldProxy) request(url string) *discoveryv3.DiscoveryRequest {
	wanted := slices.Collect(maps.Keys(p.wants[url]))
	if len(wanted) == 1 && wanted[0] == "*" && !p.asked[url] {
		wanted = nil
	}
	p.asked[url] = p.asked[url] || len(wanted) > 0
	return &discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: wanted, VersionInfo: p.version[url], ResponseNonce: p.nonce[url]}
}

func (r *realm) say(p *worldProxy, url string) {
	r.tell(p, p.request(url))
}

// deliver takes one message from the server and checks what it may send.
func (r *realm) deliver(p *worldProxy) bool {
	o := p.session.upcoming(r.now)
	if o.flight == nil {
		return false
	}
	checkLast(r.t.Fatalf, p.session, o, r.now)
	checkInFlight(r.t.Fatalf, p.session, r.hurried)
	m := &discoveryv3.DiscoveryResponse{}
	r.check(proto.Unmarshal(o.frame.buffers.Materialize(), m))
	reached := p.at.reached()
	if reached < p.floor {
		r.t.Fatalf("%s has what was published at %d and is sent what was at %d", p.node, p.floor, reached)
	}
	seen := map[string]bool{}
	for _, one := range m.Resources {
		name := nameIn(string(one.Value))
		if one.TypeUrl != m.TypeUrl || seen[name] {
			r.t.Fatalf("%s is sent %s %q in a response of %s", p.node, one.TypeUrl, one.Value, m.TypeUrl)
		}
		seen[name] = true
	}
	if len(m.Resources) == 0 && m.TypeUrl != ClusterType && m.TypeUrl != ListenerType {
		r.t.Fatalf("%s is sent an empty response of %s", p.node, m.TypeUrl)
	}
	p.inbox = append(p.inbox, delivered{m, reached, p.turns, r.versions(p, o.flight)})
	return true
}

// versions fails if a proxy is sent what it refused, and returns what is sent alone. In the state of the world a response does not say it.
func (r *realm) versions(p *worldProxy, f *flight) (alone string) {
	for _, i := range f.items {
		if i.v == nil {
			continue
		}
		alone = fmt.Sprint(f.t.url, " ", i.name, " ", i.v.version)
		if p.refused[alone] {
			r.t.Fatalf("%s refused %s and is sent it again", p.node, alone)
		}
	}
	if f.t.full && f.t.brought && !f.t.took || f.pack != nil || len(f.items) != 1 {
		return ""
	}
	return alone
}

// answer has a proxy take in its oldest message and answer it.
func (r *realm) answer(p *worldProxy) bool {
	if len(p.inbox) == 0 {
		return false
	}
	m := p.inbox[0]
	p.inbox = p.inbox[1:]
	p.stale[m.TypeUrl], p.nonce[m.TypeUrl] = p.nonce[m.TypeUrl], m.Nonce
	for _, one := range m.Resources {
		if strings.Contains(string(one.Value), "!") {
			reply := p.request(m.TypeUrl)
			reply.ErrorDetail = &rpcstatus.Status{Message: "bad"}
			if m.alone != "" && m.turns == p.turns {
				p.refused[m.alone] = true
			}
			r.tell(p, reply)
			return true
		}
	}
	p.version[m.TypeUrl], p.newest[m.TypeUrl] = m.VersionInfo, m.revision
	r.store(p, m)
	r.say(p, m.TypeUrl)
	if m.TypeUrl == ClusterType {
		r.followClusters(p)
	}
	return true
}

// store has a proxy take over a response.
func (r *realm) store(p *worldProxy, m delivered) {
	there := map[Key]bool{}
	for _, one := range m.Resources {
		key := Key{m.TypeUrl, nameIn(string(one.Value))}
		if there[key] = true; p.wanted(key) {
			p.has[key], p.fresh[key] = string(one.Value), true
			r.checkParts(p, key, m.turns)
		}
	}
	if m.TypeUrl != ClusterType && m.TypeUrl != ListenerType {
		return
	}
	for key := range p.has {
		if key.Type == m.TypeUrl && !there[key] {
			r.checkUnneeded(p, key, m.turns)
			delete(p.has, key)
		}
	}
}

// checkParts fails if something names a pool whose cluster or endpoints the proxy was not sent; unless it has changed its mind meanwhile.
func (r *realm) checkParts(p *worldProxy, key Key, turns int) {
	if key.Type != RouteType || turns != p.turns {
		return
	}
	for _, word := range strings.Split(p.has[key], "[")[1:] {
		name, _, _ := strings.Cut(word, " ")
		for _, url := range []string{ClusterType, EndpointType} {
			if _, has := p.has[Key{url, name}]; !has {
				r.t.Fatalf("%s: %v %q names %s, of which it has no %s", p.node, key, p.has[key], name, url)
			}
		}
	}
}

// checkUnneeded fails if a cluster is taken away that routes of the same stream name.
func (r *realm) checkUnneeded(p *worldProxy, key Key, turns int) {
	route := Key{RouteType, "edge"}
	if key.Type == ClusterType && turns == p.turns && p.fresh[key] && p.fresh[route] && strings.Contains(p.has[route], "["+key.Name+" ") {
		r.t.Fatalf("%s: %v is removed while routes name it: %q", p.node, key, p.has[route])
	}
}

// followClusters has a proxy want the endpoints of the clusters that it has.
func (r *realm) followClusters(p *worldProxy) {
	wanted := map[string]bool{}
	for key := range p.has {
		if key.Type == ClusterType {
			wanted[key.Name] = true
		}
	}
	if maps.Equal(wanted, p.wants[EndpointType]) {
		return
	}
	p.wants[EndpointType] = wanted
	p.forget(EndpointType)
	r.say(p, EndpointType)
}
