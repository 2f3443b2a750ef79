package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"
)

// TestAProxyOfTheStateOfTheWorldEndsInThePublishedState is TestAProxyEndsInThePublishedStateWhateverHappened in the other protocol.
func TestAProxyOfTheStateOfTheWorldEndsInThePublishedState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		p := &worldProxy{w: w}
		p.connect()
		rt.Repeat(map[string]func(*rapid.T){
			"change": func(rt *rapid.T) { w.change(rt) },
			"prove":  func(*rapid.T) { w.prove() },
			"wait": func(rt *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(rt, "ms")) * time.Millisecond)
			},
			"deliver":     func(*rapid.T) { p.deliver() },
			"deliver ":    func(*rapid.T) { p.deliver() },
			"answer":      func(*rapid.T) { p.answer() },
			"answer ":     func(*rapid.T) { p.answer() },
			"reconnect":   func(*rapid.T) { w.s.part(p.session); p.connect() },
			"resubscribe": func(rt *rapid.T) { p.resubscribe(rt) },
			"stale":       func(rt *rapid.T) { p.stale(rt) },
			"fold": func(*rapid.T) {
				w.now = w.now.Add(foldAfter)
				w.s.each(func(one *session) { one.fold(w.now) })
			},
		})
		p.settle()
	})
}

// worldProxy is an Envoy that speaks the state of the world, as the model knows it.
type worldProxy struct {
	w       *world
	session *session
	has     map[Key]string
	wants   map[string][]string
	nonce   map[string]string // of the newest response it has seen, by type
	version map[string]string // that it accepted last
	inbox   []*discoveryv3.DiscoveryResponse
	turn    int
	begun   bool            // its clusters came on this stream
	refused map[string]bool // versions of responses with one resource that it refused
}

// connect begins a stream. What the proxy has it keeps.
func (p *worldProxy) connect() {
	if p.has == nil {
		p.has, p.version = map[Key]string{}, map[string]string{}
		p.wants = map[string][]string{ClusterType: nil, RouteType: {"edge"}, "other": {"x", "y"}, EndpointType: nil}
	}
	p.inbox, p.nonce, p.begun, p.refused = nil, map[string]string{}, false, map[string]bool{}
	for i, url := range []string{ClusterType, EndpointType, RouteType, "other"} {
		r := p.request(url)
		if i == 0 {
			r.Node = &corev3.Node{Id: "n1", Cluster: "edge"}
			one, err := p.w.s.join(nobody(), p.read(r))
			p.w.check(err)
			p.session = one
		}
		if url != EndpointType || len(r.ResourceNames) > 0 {
			p.say(r)
		}
	}
}

// request names what the proxy wants, in another order each time as gRPC does.
func (p *worldProxy) request(url string) *discoveryv3.DiscoveryRequest {
	names := slices.Clone(p.wants[url])
	if p.turn++; p.turn%2 == 0 {
		slices.Reverse(names)
	}
	return &discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: names, ResponseNonce: p.nonce[url], VersionInfo: p.version[url]}
}

func (p *worldProxy) read(from *discoveryv3.DiscoveryRequest) *request {
	r := &request{protocol: StateOfTheWorld}
	p.w.check(received(r, from))
	return r
}

func (p *worldProxy) say(r *discoveryv3.DiscoveryRequest) { p.w.check(p.session.apply(p.read(r))) }

// resubscribe wants more or less than before.
func (p *worldProxy) resubscribe(t *rapid.T) {
	name := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "name")
	if at := slices.Index(p.wants["other"], name); at >= 0 && len(p.wants["other"]) > 1 {
		p.wants["other"] = slices.Delete(p.wants["other"], at, at+1)
	} else if at < 0 {
		p.wants["other"] = append(p.wants["other"], name)
	}
	p.say(p.request("other"))
}

// stale sends what was written before the newest response was read.
func (p *worldProxy) stale(t *rapid.T) {
	url := rapid.SampledFrom([]string{ClusterType, EndpointType, RouteType}).Draw(t, "type")
	r := p.request(url)
	r.ResponseNonce = rapid.SampledFrom([]string{"1", "2", "never"}).Draw(t, "nonce")
	if t := p.session.interest(url); t != nil && nonceOf([]byte(r.ResponseNonce)) != t.last && len(p.session.flights) == 0 {
		p.say(r)
	}
}

func (p *worldProxy) deliver() bool {
	f, sent, _ := p.session.upcoming(p.w.now)
	if f == nil {
		return false
	}
	m := &discoveryv3.DiscoveryResponse{}
	p.w.check(proto.Unmarshal(sent.buffers.Materialize(), m))
	if len(m.Resources) == 1 && p.refused[m.TypeUrl+string(m.Resources[0].Value)+f.items0()] {
		p.w.t.Fatalf("%q was refused and is sent again", m.Resources[0].Value)
	}
	p.inbox = append(p.inbox, m)
	return true
}

// items0 is the version of a response's only resource.
func (f *flight) items0() string {
	if len(f.items) == 1 && f.items[0].v != nil {
		return f.items[0].v.version
	}
	return ""
}

func (p *worldProxy) answer() bool {
	if len(p.inbox) == 0 {
		return false
	}
	m := p.inbox[0]
	p.inbox = p.inbox[1:]
	p.nonce[m.TypeUrl] = m.Nonce
	if slices.ContainsFunc(m.Resources, func(r *anypb.Any) bool { return strings.Contains(string(r.GetValue()), "!") }) {
		r := p.request(m.TypeUrl)
		r.ErrorDetail = &rpcstatus.Status{Message: "bad"}
		p.say(r)
		return true
	}
	p.version[m.TypeUrl] = m.VersionInfo
	p.store(m)
	p.say(p.request(m.TypeUrl))
	if m.TypeUrl == ClusterType {
		p.followClusters()
	}
	return true
}

// store takes in a response. The model's bodies do not name their resource, so it is looked up.
func (p *worldProxy) store(m *discoveryv3.DiscoveryResponse) {
	if m.TypeUrl == ClusterType {
		for key := range p.has {
			if key.Type == ClusterType {
				p.lose(key, m)
			}
		}
		p.begun = true
	}
	for _, r := range m.Resources {
		key := Key{m.TypeUrl, nameIn(string(r.Value))}
		if m.TypeUrl == RouteType {
			key.Name = "edge"
			p.checkNeeds(string(r.Value))
		}
		p.has[key] = string(r.Value)
	}
}

// nameIn is the name that a body of the model begins with.
func nameIn(body string) string {
	_, name, _ := strings.Cut(body, "@")
	name, _, _ = strings.Cut(name, "!")
	return name
}

// lose drops a cluster that a response does not hold, and fails if the routes still name it.
func (p *worldProxy) lose(key Key, m *discoveryv3.DiscoveryResponse) {
	for _, r := range m.Resources {
		if nameIn(string(r.Value)) == key.Name {
			return
		}
	}
	// A stream that begins cannot tell what its proxy has, so what was unpublished before is gone with its first response.
	if p.begun && strings.Contains(p.has[Key{RouteType, "edge"}], "["+key.Name+" ") {
		p.w.t.Fatalf("%s is deleted while the routes name it", key.Name)
	}
	delete(p.has, key)
	delete(p.has, Key{EndpointType, key.Name})
}

func (p *worldProxy) checkNeeds(routes string) {
	for _, word := range strings.Split(routes, "[")[1:] {
		name, _, _ := strings.Cut(word, " ")
		for _, url := range []string{ClusterType, EndpointType} {
			if _, has := p.has[Key{url, name}]; !has {
				p.w.t.Fatalf("routes %q name %s, which this proxy does not have of %s", routes, name, url)
			}
		}
	}
}

func (p *worldProxy) followClusters() {
	var names []string
	for key := range p.has {
		if key.Type == ClusterType {
			names = append(names, key.Name)
		}
	}
	slices.Sort(names)
	if before := slices.Clone(p.wants[EndpointType]); !slices.Equal(before, names) {
		for key := range p.has {
			if key.Type == EndpointType && !slices.Contains(names, key.Name) {
				delete(p.has, key)
			}
		}
		p.wants[EndpointType] = names
		p.say(p.request(EndpointType))
	}
}

func (p *worldProxy) settle() {
	w := p.w
	clear(w.bad)
	w.revision++
	w.publish()
	for range 60 {
		for messages := 0; p.deliver() || p.answer(); messages++ {
			if messages > 500 {
				w.t.Fatal("the server does not come to rest")
			}
		}
		w.now = w.now.Add(250 * time.Millisecond)
	}
	var want []Requirement
	for key, body := range w.live {
		if key.Type == RuntimeType {
			continue
		}
		if got := p.has[key]; got != body {
			w.t.Fatalf("the proxy has %v %q, published is %q", key, got, body)
		}
		want = append(want, Requirement{Key: key, Revision: w.revision})
	}
	for key := range p.has {
		if _, published := w.live[key]; !published && key.Type == ClusterType {
			w.t.Fatalf("the proxy still has %v", key)
		}
	}
	if s := w.s.Standing("edge", want); s.Met != 1 || s.Rejected != 0 {
		w.t.Fatalf("the proxy has all, the server says %+v; it has %s", s, fmt.Sprint(slices.Sorted(maps.Values(p.has))))
	}
}
