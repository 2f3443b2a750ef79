package envoy

import (
	"fmt"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// shop is a service at rest, live on blue.
func shop() *policy.Served {
	document := policy.Service{
		Name: "shop", Gateways: []string{"edge"}, Hosts: []string{"shop.example.com"}, Serve: "blue",
		Backends: map[string]policy.Backend{
			"blue":  {Revision: "v1", Endpoints: []string{"10.0.0.1:8080", "[::1]:8081"}},
			"green": {Revision: "v2", Endpoints: []string{"10.0.0.2:8080"}},
		},
	}.WithDefaults()
	return &policy.Served{Service: document, Live: arm(document, "blue")}
}

func arm(s policy.Service, backend string) policy.Arm {
	return policy.Arm{Ref: policy.Ref{Backend: backend, Revision: s.Backends[backend].Revision}, Definition: s.Backends[backend]}
}

// releasing is a copy of s with a running release of green.
func releasing(s *policy.Served, phase policy.Phase, w policy.Weight) *policy.Served {
	next := *s
	next.Service.Serve = "green"
	next.Release = &policy.Release{ID: "green-7", Candidate: arm(s.Service, "green"), Phase: phase, Weight: w}
	return &next
}

// committed is s after its release was committed.
func committed(s *policy.Served) *policy.Served {
	next := *s
	next.Live, next.Release = s.Release.Candidate, nil
	return &next
}

// world is what the groups have been told so far.
type world struct {
	t *testing.T
	r *Renderer
	// by group
	has map[string]map[xds.Key]xds.Resource
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, r: NewRenderer(), has: map[string]map[xds.Key]xds.Resource{}}
	w.r.SetGateway("edge", &policy.Gateway{Name: "edge", Listeners: []policy.Listener{{Address: "127.0.0.1", Port: 8080}}}, 1)
	return w
}

// flush applies what changed and returns it, the removals as nil.
func (w *world) flush(rev int64) map[string]map[xds.Key]*xds.Resource {
	changed := map[string]map[xds.Key]*xds.Resource{}
	for _, u := range w.r.Flush(rev) {
		if w.has[u.Group] == nil {
			w.has[u.Group] = map[xds.Key]xds.Resource{}
		}
		changed[u.Group] = map[xds.Key]*xds.Resource{}
		for _, r := range u.Set {
			w.has[u.Group][r.Key] = r
			changed[u.Group][r.Key] = &r
		}
		for _, key := range u.Remove {
			delete(w.has[u.Group], key)
			changed[u.Group][key] = nil
		}
	}
	return changed
}

func (w *world) set(s *policy.Served, st State, rev int64) map[string]map[xds.Key]*xds.Resource {
	w.r.SetService("shop", s, st, rev)
	return w.flush(rev)
}

// read decodes a resource, parts and all.
func read[M proto.Message](w *world, group string, key xds.Key, into M) M {
	w.t.Helper()
	resource, published := w.has[group][key]
	if !published {
		w.t.Fatalf("%s: %v is not published", group, key)
	}
	if err := proto.Unmarshal(whole(resource), into); err != nil {
		w.t.Fatalf("%s: %v: %v", group, key, err)
	}
	return into
}

func whole(r xds.Resource) []byte {
	body := slices.Clone(r.Body)
	for _, part := range r.Parts {
		body = append(body, part.Body...)
	}
	return body
}

func (w *world) routes(group string) *routev3.RouteConfiguration {
	w.t.Helper()
	return read(w, group, xds.Key{Type: xds.RouteType, Name: "edge"}, &routev3.RouteConfiguration{})
}

// weights are those of the first route of the group's only virtual host.
func (w *world) weights(group string) map[string]uint32 {
	w.t.Helper()
	weights := map[string]uint32{}
	for _, c := range w.routes(group).GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetWeightedClusters().GetClusters() {
		weights[c.GetName()] = c.GetWeight().GetValue()
	}
	return weights
}

func (w *world) layer() xds.Resource { return w.has["edge"][layerKey()] }

func layerKey() xds.Key { return xds.Key{Type: xds.RuntimeType, Name: Layer("shop")} }

// keys are the runtime values of shop's layer.
func (w *world) keys() map[string]float64 {
	w.t.Helper()
	values := map[string]float64{}
	for name, v := range read(w, "edge", layerKey(), &runtimev3.Runtime{}).GetLayer().GetFields() {
		values[name] = v.GetNumberValue()
	}
	return values
}

func (w *world) published(group, url string) []string {
	var names []string
	for key := range w.has[group] {
		if key.Type == url {
			names = append(names, key.Name)
		}
	}
	slices.Sort(names)
	return names
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}
