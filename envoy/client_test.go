package envoy

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// callable is shop with backends that speak gRPC.
func callable() *policy.Served {
	s := shop()
	for name, b := range s.Service.Backends {
		b.Protocol = policy.GRPC
		s.Service.Backends[name] = b
	}
	s.Live = arm(s.Service, "blue")
	return s
}

func shopDoor() xds.Key  { return xds.Key{Type: xds.ListenerType, Name: "shop"} }
func shopPaths() xds.Key { return xds.Key{Type: xds.RouteType, Name: "shop"} }

// clientPaths are the routes that clients of shop get.
func (w *world) clientPaths() *routev3.VirtualHost {
	w.t.Helper()
	hosts := read(w, "edge/grpc", shopPaths(), &routev3.RouteConfiguration{}).GetVirtualHosts()
	same(w.t, "hosts", len(hosts), 1)
	same(w.t, "domains", hosts[0].GetDomains(), []string{"*"})
	return hosts[0]
}

// clientWeights are those of a client's first route.
func (w *world) clientWeights() map[string]uint32 {
	w.t.Helper()
	weights := map[string]uint32{}
	for _, c := range w.clientPaths().GetRoutes()[0].GetRoute().GetWeightedClusters().GetClusters() {
		weights[c.GetName()] = c.GetWeight().GetValue()
	}
	return weights
}

func TestGRPCClientsGetWhatIsOfTheirService(t *testing.T) {
	w := newWorld(t)
	w.set(callable(), State{}, 2)
	same(t, "listeners", w.published("edge/grpc", xds.ListenerType), []string{"shop"})
	same(t, "routes", w.published("edge/grpc", xds.RouteType), []string{"shop"})
	same(t, "clusters", w.published("edge/grpc", xds.ClusterType), []string{"shop/blue"})
	same(t, "endpoints", w.published("edge/grpc", xds.EndpointType), []string{"shop/blue"})
	same(t, "weights", w.clientWeights(), map[string]uint32{"shop/blue": 10000})
	for _, group := range []string{"edge", "edge/plain"} {
		same(t, "listeners of "+group, w.published(group, xds.ListenerType), []string{"edge/127.0.0.1:8080"})
		same(t, "routes of "+group, w.published(group, xds.RouteType), []string{"edge"})
	}
	pool := read(w, "edge/grpc", xds.Key{Type: xds.ClusterType, Name: "shop/blue"}, &clusterv3.Cluster{})
	if pool.GetLrsServer().GetSelf() == nil {
		t.Error("clients are not asked for load reports")
	}
	w.set(shop(), State{}, 3)
	same(t, "left of a service that speaks HTTP/1.1", len(w.has["edge/grpc"]), 0)
	same(t, "its requirements", len(w.r.Confirmed("shop")), 2)
}

func TestAStepIsOneSmallRouteForGRPCClients(t *testing.T) {
	w := newWorld(t)
	w.set(callable(), State{}, 2)
	w.set(releasing(callable(), policy.Gated, 0), State{Permit: true}, 3)
	same(t, "gated", w.clientWeights(), map[string]uint32{"shop/blue": 10000})
	same(t, "clusters", w.published("edge/grpc", xds.ClusterType), []string{"shop/blue", "shop/green", "shop/green|blue"})
	for step, weight := range []policy.Weight{1000, 5000, 9500} {
		changed := w.set(releasing(callable(), policy.Shifting, weight), State{Permit: true}, int64(4+step))
		same(t, "what a step changes", slices.Collect(maps.Keys(changed["edge/grpc"])), []xds.Key{shopPaths()})
		same(t, "for Envoys", slices.Collect(maps.Keys(changed["edge"])), []xds.Key{layerKey()})
		same(t, "weights", w.clientWeights(), map[string]uint32{"shop/blue": uint32(policy.Full - weight), "shop/green|blue": uint32(weight)})
	}
	if size := len(whole(w.has["edge/grpc"][shopPaths()])); size > 500 {
		t.Errorf("a step is %d bytes", size)
	}
	for _, st := range []State{{}, {Permit: true, Latched: true}} {
		w.set(releasing(callable(), policy.Shifting, 5000), st, 8)
		same(t, "taken back", w.clientWeights(), map[string]uint32{"shop/blue": 10000})
	}
	committing := releasing(callable(), policy.Committing, 9999)
	w.set(committing, State{Permit: true}, 9)
	same(t, "committing", w.clientWeights(), map[string]uint32{"shop/green": 10000})
	w.set(committed(committing), State{}, 10)
	same(t, "committed", w.clientWeights(), map[string]uint32{"shop/green": 10000})
	same(t, "clusters afterwards", w.published("edge/grpc", xds.ClusterType), []string{"shop/green"})
	w.set(nil, State{}, 11)
	same(t, "left of a service that ended", len(w.has["edge/grpc"]), 0)
}

// grpc-go fails requests to clusters that the routes before did not name.
func TestWhileAReleaseRunsClientsKnowEveryClusterThatItCouldComeTo(t *testing.T) {
	w := newWorld(t)
	w.set(callable(), State{}, 2)
	same(t, "routes at rest", len(w.clientPaths().GetRoutes()), 1)
	for i, phase := range []policy.Phase{policy.Gated, policy.Shifting, policy.Committing, policy.RollingBack} {
		w.set(releasing(callable(), phase, policy.Weight(i*100)), State{Permit: true}, int64(3+i))
		routes := w.clientPaths().GetRoutes()
		var names []string
		for _, c := range routes[len(routes)-1].GetRoute().GetWeightedClusters().GetClusters() {
			names = append(names, c.GetName())
		}
		same(t, string(phase), names, []string{"shop/blue", "shop/green", "shop/green|blue"})
		same(t, string(phase)+": taken by", routes[len(routes)-1].GetMatch().GetPath(), nobodysPath)
	}
}

func TestAClientsRoutesAreThoseThatItsCallsCanTake(t *testing.T) {
	w := newWorld(t)
	s, none := callable(), policy.Duration(0)
	s.Service.Routes = []policy.Route{
		{Match: policy.Match{Path: "/shop.Shop/List", Methods: []string{"GET"}}},
		{Match: policy.Match{Path: "/shop.Shop/Buy", Methods: []string{"GET", "POST"}}, Timeout: &none},
		{Match: policy.Match{Headers: map[string]string{"x-tier": "gold"}}},
	}
	w.set(s, State{}, 2)
	routes := w.clientPaths().GetRoutes()
	same(t, "routes", len(routes), 2)
	same(t, "path", routes[0].GetMatch().GetPath(), "/shop.Shop/Buy")
	same(t, "methods", len(routes[0].GetMatch().GetHeaders()), 0)
	if limit := routes[0].GetRoute().GetMaxStreamDuration(); limit != nil {
		t.Errorf("a route without a timeout ends after %s", limit)
	}
	same(t, "headers", len(routes[1].GetMatch().GetHeaders()), 1)
	same(t, "timeout", routes[1].GetRoute().GetMaxStreamDuration().GetMaxStreamDuration().AsDuration(), 15*time.Second)
	next := *s
	next.Service.Routes = s.Service.Routes[:1]
	w.set(&next, State{}, 3)
	same(t, "none that they can take", len(w.clientPaths().GetRoutes()), 0)
}

func TestRequirementsOfClientsAreForThoseWhoUseTheService(t *testing.T) {
	w := newWorld(t)
	w.set(callable(), State{}, 2)
	w.set(releasing(callable(), policy.Gated, 0), State{Permit: true}, 3)
	w.set(releasing(callable(), policy.Shifting, 1000), State{Permit: true}, 5)
	var got []string
	for _, want := range w.r.Confirmed("shop")["edge/grpc"] {
		same(t, want.Name+" given", want.Given, shopDoor())
		got = append(got, fmt.Sprintf("%s@%d", want.Name, want.Revision))
	}
	same(t, "confirmed", got, []string{"shop/blue@2", "shop/green@3", "shop/green|blue@3", "shop/blue@2", "shop/green@3", "shop@5"})
	ready := w.r.Ready("shop")["edge/grpc"]
	same(t, "ready", len(ready), 6)
	same(t, "ready, last", ready[5], xds.Requirement{Key: shopDoor(), Revision: 2, Given: shopDoor()})
	same(t, "moved", w.r.Moved("shop"), 5)
}

func TestClientsLoseAServiceWithItsGateway(t *testing.T) {
	w := newWorld(t)
	w.set(callable(), State{}, 2)
	w.r.SetGateway("edge", nil, 3)
	w.flush(3)
	same(t, "left", len(w.has["edge/grpc"]), 0)
	w.r.SetGateway("edge", &policy.Gateway{Name: "edge"}, 4)
	w.flush(4)
	same(t, "back", w.published("edge/grpc", xds.ListenerType), []string{"shop"})
	moved := callable()
	moved.Service.Gateways = []string{policy.DefaultGateway}
	w.set(moved, State{}, 5)
	same(t, "left where it was", len(w.has["edge/grpc"]), 0)
	same(t, "where it moved", w.published("default/grpc", xds.ListenerType), []string{"shop"})
}

func TestAClientResolvesANameByItself(t *testing.T) {
	w := newWorld(t)
	s := callable()
	s.Live.Definition.Endpoints, s.Live.Definition.DNS = nil, "shop.internal:8080"
	w.set(s, State{}, 2)
	pool := read(w, "edge/grpc", xds.Key{Type: xds.ClusterType, Name: "shop/blue"}, &clusterv3.Cluster{})
	same(t, "type", pool.GetType(), clusterv3.Cluster_LOGICAL_DNS)
	same(t, "endpoints", w.published("edge/grpc", xds.EndpointType), []string{})
	same(t, "confirmed", len(w.r.Confirmed("shop")["edge/grpc"]), 2)
}

func TestARollbackOvertakesAllElseForClientsToo(t *testing.T) {
	w := newWorld(t)
	w.set(releasing(callable(), policy.Shifting, 5000), State{Permit: true}, 2)
	w.r.SetService("shop", releasing(callable(), policy.Shifting, 5000), State{Permit: true, Latched: true}, 3)
	var hurried []xds.Key
	for _, u := range w.r.Flush(3) {
		for _, r := range u.Set {
			if u.Group == "edge/grpc" && u.Urgent {
				hurried = append(hurried, r.Key)
			}
		}
	}
	same(t, "before all else", hurried, []xds.Key{shopPaths()})
	w.r.SetService("shop", releasing(callable(), policy.Shifting, 9000), State{Permit: true}, 4)
	for _, u := range w.r.Flush(4) {
		if u.Group == "edge/grpc" && u.Urgent {
			t.Errorf("a step overtakes: %v", u.Set)
		}
	}
}
