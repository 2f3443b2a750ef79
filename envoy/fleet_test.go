package envoy

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

func TestRequirementsAreDatedWhenThisServicesShareChanged(t *testing.T) {
	w := newWorld(t)
	find := func(group string, key xds.Key) int64 {
		for _, want := range w.r.Confirmed("shop")[group] {
			if want.Key == key {
				return want.Revision
			}
		}
		return -1
	}
	routes := xds.Key{Type: xds.RouteType, Name: "edge"}
	w.set(shop(), State{}, 2)
	if got := find("edge", layerKey()); got != -1 {
		t.Errorf("without a release ever the layer is asked for, at %d", got)
	}
	w.set(releasing(shop(), policy.Gated, 0), State{Permit: true}, 3)
	w.set(releasing(shop(), policy.Shifting, 100), State{Permit: true}, 5)
	other := shop()
	other.Service.Name, other.Service.Hosts = "other", []string{"other.example.com"}
	w.r.SetService("other", other, State{}, 8)
	w.flush(8)
	same(t, "layer", find("edge", layerKey()), 5)
	same(t, "routes", find("edge", routes), 2)
	same(t, "routes, plain", find("edge/plain", routes), 5)
	same(t, "layer, plain", find("edge/plain", layerKey()), -1)
	same(t, "arm", find("edge", xds.Key{Type: xds.ClusterType, Name: "shop/green|blue"}), 3)
	ready := w.r.Ready("shop")["edge"]
	same(t, "ready", len(ready), 7)
	listener := xds.Key{Type: xds.ListenerType, Name: w.r.fleet("edge").listening[0]}
	same(t, "ready, last", ready[6], xds.Requirement{Key: listener, Given: listener})
	w.set(shop(), State{}, 9)
	same(t, "emptied layer", find("edge", layerKey()), 9)
	same(t, "settled", w.r.Settled("shop"), 2)
}

func TestARequirementIsNeverOlderThanItsPublication(t *testing.T) {
	w := newWorld(t)
	w.r.SetService("shop", shop(), State{}, 2)
	w.flush(7)
	for _, want := range w.r.Confirmed("shop")["edge"] {
		if want.Revision != 7 {
			t.Errorf("%v is dated %d, published at 7", want.Key, want.Revision)
		}
	}
	// A rollback from memory is ahead of etcd.
	w.r.SetService("shop", releasing(shop(), policy.Gated, 0), State{Permit: true}, 9)
	w.flush(8)
	for _, want := range w.r.Confirmed("shop")["edge"] {
		if want.Key == layerKey() && want.Revision != 9 {
			t.Errorf("the layer is dated %d, want 9", want.Revision)
		}
	}
}

func TestAServiceThatMovesIsTakenFromItsOldGateway(t *testing.T) {
	w := newWorld(t)
	w.r.SetGateway("other", &policy.Gateway{Name: "other"}, 1)
	w.set(shop(), State{}, 2)
	moved := shop()
	moved.Service.Gateways = []string{"other"}
	w.set(moved, State{}, 3)
	same(t, "old", w.published("edge", xds.ClusterType), []string{})
	same(t, "new", w.published("other", xds.ClusterType), []string{"shop/blue"})
	if hosts := w.routes("edge").GetVirtualHosts(); len(hosts) > 0 {
		t.Errorf("the old gateway still has %v", hosts)
	}
	w.set(nil, State{}, 4)
	same(t, "gone", w.published("other", xds.ClusterType), []string{})
	same(t, "requirements", len(w.r.Confirmed("shop")), 0)
}

func TestAServiceWaitsForItsGateway(t *testing.T) {
	w := newWorld(t)
	s := shop()
	s.Service.Gateways = []string{"later"}
	if changed := w.set(s, State{}, 2); changed["later"] != nil {
		t.Errorf("published for an unknown gateway: %v", changed)
	}
	w.r.SetGateway("later", &policy.Gateway{Name: "later", Listeners: []policy.Listener{{Address: "127.0.0.1", Port: 1}}}, 3)
	w.flush(3)
	same(t, "clusters", w.published("later", xds.ClusterType), []string{"shop/blue"})
	same(t, "routes", w.published("later", xds.RouteType), []string{"later"})
	w.r.SetGateway("later", nil, 4)
	w.flush(4)
	if left := len(w.has["later"]) + len(w.has["later/plain"]); left > 0 {
		t.Errorf("%d resources are left of a gateway that is gone", left)
	}
}

// DESIGN §9: `listeners: []` is legal.
func TestListenersFollowTheirDocument(t *testing.T) {
	w := newWorld(t)
	w.flush(1)
	w.r.SetGateway("edge", &policy.Gateway{Name: "edge", Listeners: []policy.Listener{{Address: "127.0.0.1", Port: 9090}}}, 2)
	w.flush(2)
	same(t, "moved", w.published("edge", xds.ListenerType), []string{"edge/127.0.0.1:9090"})
	w.r.SetGateway("edge", &policy.Gateway{Name: "edge", Listeners: []policy.Listener{}}, 3)
	w.flush(3)
	same(t, "none of ours", w.published("edge", xds.ListenerType), []string{})
	same(t, "the routes stay, for listeners that are not ours", w.published("edge", xds.RouteType), []string{"edge"})
	w.r.SetGateway(policy.DefaultGateway, &policy.Gateway{Name: "default", Listeners: []policy.Listener{{Address: "127.0.0.1", Port: 1}}}, 4)
	w.flush(4)
	w.r.SetGateway(policy.DefaultGateway, nil, 5)
	w.flush(5)
	same(t, "the default gateway's own listener", w.published("default", xds.ListenerType), []string{"default/127.0.0.1:10000"})
}

func TestPartsTogetherAreTheWholeMessage(t *testing.T) {
	w := newWorld(t)
	want := routeHead("edge")
	for i := range 3 {
		s := shop()
		s.Service.Name, s.Service.Hosts = fmt.Sprintf("shop-%d", i), []string{fmt.Sprintf("shop-%d.example.com", i)}
		running := releasing(s, policy.Shifting, 100)
		w.r.SetService(s.Service.Name, running, State{Permit: true}, 2)
		want.VirtualHosts = append(want.VirtualHosts, virtualHost(running.Service, safeBase(running, State{Permit: true})))
	}
	w.flush(2)
	if got := w.routes("edge"); !proto.Equal(got, want) {
		t.Errorf("routes:\n got %v\nwant %v", got, want)
	}
	keys := 0
	for i := range Layers {
		name := layerName(i)
		layer := read(w, "edge", xds.Key{Type: xds.RuntimeType, Name: name}, &runtimev3.Runtime{})
		if layer.GetName() != name {
			t.Errorf("layer %s calls itself %q", name, layer.GetName())
		}
		keys += len(layer.GetLayer().GetFields())
	}
	same(t, "keys in all layers", keys, 9)
}

func TestAFlushCostsWhatChanged(t *testing.T) {
	w := newWorld(t)
	for i := range 50 {
		s := shop()
		s.Service.Name = fmt.Sprintf("shop-%d", i)
		w.r.SetService(s.Service.Name, s, State{}, 2)
	}
	w.flush(2)
	s := shop()
	s.Service.Name = "shop-7"
	s.Live.Definition.Endpoints = []string{"10.0.0.9:8080"}
	w.r.SetService("shop-7", s, State{}, 3)
	changed := w.flush(3)
	same(t, "changed endpoints push", slices.Collect(maps.Keys(changed["edge"])), []xds.Key{{Type: xds.EndpointType, Name: "shop-7/blue"}})
}
