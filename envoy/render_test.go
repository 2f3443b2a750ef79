package envoy

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

func TestAtRestOnlyLiveIsPublished(t *testing.T) {
	w := newWorld(t)
	w.set(shop(), State{}, 2)
	for _, group := range []string{"edge", "edge/plain"} {
		same(t, "clusters", w.published(group, xds.ClusterType), []string{"shop/blue"})
		same(t, "endpoints", w.published(group, xds.EndpointType), []string{"shop/blue"})
		same(t, "routes", w.published(group, xds.RouteType), []string{"edge"})
		same(t, "listeners", w.published(group, xds.ListenerType), []string{"edge/127.0.0.1:8080"})
		same(t, "weights", w.weights(group), map[string]uint32{"shop/blue": 10000, "shop/blue|none": 0, "shop/green|blue": 0})
	}
	same(t, "layers", len(w.published("edge", xds.RuntimeType)), Layers)
	same(t, "layers of plain proxies", len(w.published("edge/plain", xds.RuntimeType)), 0)
	same(t, "keys", w.keys(), map[string]float64{})
	if ttl := w.layer().TTL; ttl != 0 {
		t.Errorf("an empty layer has a TTL of %s: there is nothing to take back", ttl)
	}
	same(t, "the default gateway", w.published("default", xds.ListenerType), []string{"default/127.0.0.1:10000"})
}

func TestNothingIsPushedAtRest(t *testing.T) {
	w := newWorld(t)
	w.set(shop(), State{}, 2)
	if changed := w.flush(3); len(changed) > 0 {
		t.Errorf("flushed again: %v", changed)
	}
	edited := shop()
	edited.Accepted, edited.Refused = 9, &policy.Refusal{Revision: 8, Problems: []string{"what proxies do not see"}}
	if changed := w.set(edited, State{}, 4); len(changed) > 0 {
		t.Errorf("set again: %v", changed)
	}
}

func TestARampChangesNothingButItsLayer(t *testing.T) {
	w := newWorld(t)
	w.set(shop(), State{}, 2)
	w.set(releasing(shop(), policy.Gated, 0), State{Permit: true}, 3)
	same(t, "gated", w.keys(), map[string]float64{"ramp.shop.shop/blue": 0, "ramp.shop.shop/blue|none": 10000, "ramp.shop.shop/green|blue": 0})
	changed := w.set(releasing(shop(), policy.Shifting, 2500), State{Permit: true}, 4)
	same(t, "what a step changes", slices.Collect(maps.Keys(changed["edge"])), []xds.Key{layerKey()})
	same(t, "shifting", w.keys(), map[string]float64{"ramp.shop.shop/blue": 0, "ramp.shop.shop/blue|none": 7500, "ramp.shop.shop/green|blue": 2500})
	if size := len(whole(w.layer())); size > 300 {
		t.Errorf("a step is %d bytes", size)
	}
	same(t, "what it changes for plain proxies", slices.Collect(maps.Keys(changed["edge/plain"])), []xds.Key{{Type: xds.RouteType, Name: "edge"}})
	same(t, "plain", w.weights("edge/plain"), map[string]uint32{"shop/blue": 7500, "shop/blue|none": 0, "shop/green|blue": 2500})
	if changed := w.set(releasing(shop(), policy.Soaking, 2500), State{Permit: true}, 5); len(changed) > 0 {
		t.Errorf("a phase alone is pushed: %v", changed)
	}
}

func TestABeginningReleaseTouchesNeitherRoutesNorLive(t *testing.T) {
	w := newWorld(t)
	w.set(shop(), State{}, 2)
	changed := w.set(releasing(shop(), policy.Gated, 0), State{Permit: true}, 3)
	for group, keys := range changed {
		for key := range keys {
			if key.Type == xds.RouteType || key.Name == "shop/blue" {
				t.Errorf("%s: %v is pushed", group, key)
			}
		}
	}
	same(t, "clusters", w.published("edge", xds.ClusterType), []string{"shop/blue", "shop/blue|none", "shop/green", "shop/green|blue"})
}

func TestWithoutPermitOrLatchedTheCandidateWeighsNothing(t *testing.T) {
	for name, st := range map[string]State{"no permit": {}, "latched": {Permit: true, Latched: true}} {
		t.Run(name, func(t *testing.T) {
			for _, phase := range []policy.Phase{policy.Shifting, policy.Soaking, policy.Baking, policy.Committing, policy.RollingBack} {
				w := newWorld(t)
				w.set(releasing(shop(), phase, 9999), st, 2)
				same(t, string(phase), w.keys(), map[string]float64{"ramp.shop.shop/blue": 0, "ramp.shop.shop/blue|none": 10000, "ramp.shop.shop/green|blue": 0})
				for _, group := range []string{"edge", "edge/plain"} {
					same(t, string(phase)+" base of "+group, w.weights(group), map[string]uint32{"shop/blue": 10000, "shop/blue|none": 0, "shop/green|blue": 0})
				}
			}
		})
	}
}

func TestACommitPushesTheBaseFirstAndThenOnlyTakesAway(t *testing.T) {
	w := newWorld(t)
	baking := releasing(shop(), policy.Baking, 9999)
	w.set(baking, State{Permit: true}, 2)
	overlay := w.keys()
	committing := releasing(shop(), policy.Committing, 9999)
	w.set(committing, State{Permit: true}, 3)
	base := map[string]uint32{"shop/green": 10000, "shop/green|none": 0, "shop/blue|green": 0}
	same(t, "committing", w.weights("edge"), base)
	same(t, "committing, plain", w.weights("edge/plain"), base)
	same(t, "overlay while committing", w.keys(), overlay)
	before := maps.Clone(w.has["edge"])
	changed := w.set(committed(committing), State{}, 4)
	same(t, "committed", w.weights("edge"), base)
	same(t, "overlay afterwards", w.keys(), map[string]float64{})
	after := w.has["edge"]
	for _, name := range []xds.Key{{Type: xds.RouteType, Name: "edge"}, {Type: xds.ClusterType, Name: "shop/green"}} {
		if !bytes.Equal(whole(before[name]), whole(after[name])) {
			t.Errorf("the commit changes %v", name)
		}
	}
	for _, group := range []string{"edge", "edge/plain"} {
		if r := changed[group][xds.Key{Type: xds.RouteType, Name: "edge"}]; r != nil {
			t.Errorf("%s: the commit pushes the routes again", group)
		}
		same(t, "clusters", w.published(group, xds.ClusterType), []string{"shop/green"})
	}
}

func TestNoMoveChangesAPool(t *testing.T) {
	pools := map[string][]byte{}
	check := func(what string, w *world) {
		for _, name := range []string{"shop/blue", "shop/green"} {
			r, published := w.has["edge"][xds.Key{Type: xds.ClusterType, Name: name}]
			if !published {
				continue
			}
			if pools[name] == nil {
				pools[name] = whole(r)
			}
			if !bytes.Equal(pools[name], whole(r)) {
				t.Errorf("%s: the cluster of %s changed: Envoy would drop its connections", what, name)
			}
		}
	}
	w := newWorld(t)
	permit := State{Permit: true}
	w.set(shop(), State{}, 2)
	check("rest", w)
	w.set(releasing(shop(), policy.Gated, 0), permit, 3)
	check("gated", w)
	committing := releasing(shop(), policy.Committing, 9999)
	w.set(committing, permit, 4)
	check("committing", w)
	green := committed(committing)
	w.set(green, State{}, 5)
	check("committed", w)
	back := *green
	back.Release = &policy.Release{ID: "blue-9", Candidate: arm(green.Service, "blue"), Phase: policy.Shifting, Weight: 100}
	w.set(&back, permit, 6)
	check("back", w)
	same(t, "base of the way back", w.weights("edge"), map[string]uint32{"shop/green": 10000, "shop/green|none": 0, "shop/blue|green": 0})
}

func TestOnlyTheCandidatesEndpointsAreCanaries(t *testing.T) {
	w := newWorld(t)
	w.set(releasing(shop(), policy.Gated, 0), State{Permit: true}, 2)
	for backend, want := range map[string]bool{"blue": false, "green": true} {
		a := read(w, "edge", xds.Key{Type: xds.EndpointType, Name: "shop/" + backend}, &endpointv3.ClusterLoadAssignment{})
		for _, l := range a.GetEndpoints() {
			if l.GetLoadBalancingWeight().GetValue() == 0 || l.GetLocality() == nil {
				t.Errorf("%s: locality %v has no name or no weight", backend, l)
			}
			for _, e := range l.GetLbEndpoints() {
				got := e.GetMetadata().GetFilterMetadata()["envoy.lb"].GetFields()["canary"].GetBoolValue()
				if got != want {
					t.Errorf("%s: canary %v, want %v", backend, got, want)
				}
			}
		}
	}
}

func TestACandidateThatItsDocumentLostKeepsItsPlaceInTheBase(t *testing.T) {
	w := newWorld(t)
	s := releasing(shop(), policy.Shifting, 100)
	s.Service.Backends = map[string]policy.Backend{"blue": s.Service.Backends["blue"]}
	w.set(s, State{Permit: true}, 2)
	same(t, "weights", w.weights("edge"), map[string]uint32{"shop/blue": 10000, "shop/blue|none": 0, "shop/green|blue": 0})
}

func TestALayerCarriesTheDeadMansTimeAndWhatIsLatched(t *testing.T) {
	w := newWorld(t)
	w.set(releasing(shop(), policy.Shifting, 100), State{Permit: true}, 2)
	if got := w.layer(); got.TTL != 15*time.Second || got.Tag != "" {
		t.Errorf("TTL %s, tag %q; want 15s and none", got.TTL, got.Tag)
	}
	off := policy.Deadman(0)
	w.r.SetGateway("edge", &policy.Gateway{Name: "edge", Deadman: &off}, 3)
	w.flush(3)
	if got := w.layer(); got.TTL != 0 {
		t.Errorf("TTL %s with the switch off", got.TTL)
	}
	w.set(releasing(shop(), policy.Shifting, 100), State{Permit: true, Latched: true}, 4)
	same(t, "latched", LatchedIn(w.layer().Tag), []Latched{{"shop", "green-7"}})
	w.set(shop(), State{}, 5)
	same(t, "latched after its end", LatchedIn(w.layer().Tag), []Latched{})
}

func TestALatchAtWeightZeroIsToldToo(t *testing.T) {
	w := newWorld(t)
	w.set(releasing(shop(), policy.Gated, 0), State{Permit: true}, 2)
	w.set(releasing(shop(), policy.Gated, 0), State{Permit: true, Latched: true}, 3)
	same(t, "tag", LatchedIn(w.layer().Tag), []Latched{{"shop", "green-7"}})
}

func TestWeightsNameOnlyWhatAProxyHas(t *testing.T) {
	w := newWorld(t)
	w.set(releasing(shop(), policy.Gated, 0), State{Permit: true}, 2)
	same(t, "needs of the overlay", w.layer().Parts[0].Needs, []xds.Need{
		{Key: xds.Key{Type: xds.ClusterType, Name: "shop/blue"}},
		{Key: xds.Key{Type: xds.ClusterType, Name: "shop/blue|none"}},
		{Key: xds.Key{Type: xds.ClusterType, Name: "shop/green"}},
		{Key: xds.Key{Type: xds.ClusterType, Name: "shop/green|blue"}},
		{Key: xds.Key{Type: xds.EndpointType, Name: "shop/blue"}, Accepted: true},
		{Key: xds.Key{Type: xds.EndpointType, Name: "shop/green"}, Accepted: true},
	})
	needs := func() []xds.Need { return w.has["edge"][xds.Key{Type: xds.RouteType, Name: "edge"}].Parts[0].Needs }
	same(t, "needs of the routes", needs(), []xds.Need{{Key: xds.Key{Type: xds.ClusterType, Name: "shop/blue"}, Accepted: true}})
	w.set(releasing(shop(), policy.Committing, 9999), State{Permit: true}, 3)
	same(t, "needs of the new base", needs(), []xds.Need{{Key: xds.Key{Type: xds.ClusterType, Name: "shop/green"}, Accepted: true}})
}

func TestADNSBackendIsResolvedByTheProxies(t *testing.T) {
	w := newWorld(t)
	s := shop()
	s.Service.Backends["green"] = policy.Backend{Revision: "v2", DNS: "green.internal:8080", Protocol: policy.HTTP2, Health: &policy.Health{Path: "/healthz"}}
	w.set(releasing(s, policy.Gated, 0), State{Permit: true}, 2)
	same(t, "endpoints", w.published("edge", xds.EndpointType), []string{"shop/blue"})
	c := read(w, "edge", xds.Key{Type: xds.ClusterType, Name: "shop/green"}, &clusterv3.Cluster{})
	if c.GetType() != clusterv3.Cluster_STRICT_DNS || c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress().GetPortValue() != 8080 {
		t.Errorf("cluster: %v", c)
	}
	if len(c.GetTypedExtensionProtocolOptions()) != 1 || c.GetHealthChecks()[0].GetHttpHealthCheck().GetHost() != "shop.example.com" {
		t.Errorf("protocol or health: %v", c)
	}
	same(t, "needs", w.layer().Parts[0].Needs[2], xds.Need{Key: xds.Key{Type: xds.ClusterType, Name: "shop/green"}, Accepted: true})
}
