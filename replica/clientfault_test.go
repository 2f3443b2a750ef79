package replica_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// scripted is what a gRPC library says on its stream, in which refuse makes it reject routes.
type scripted struct {
	stream grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
	refuse atomic.Bool
	leave  func() error
}

// scripted connects a client that uses shop.
func (r *rig) scripted(id string) *scripted {
	r.t.Helper()
	conn := must[*grpc.ClientConn](r.t)(grpc.NewClient(r.servers[0], grpc.WithTransportCredentials(insecure.NewCredentials())))
	r.t.Cleanup(func() { _ = conn.Close() })
	s := &scripted{leave: conn.Close}
	var err error
	if s.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	node := &corev3.Node{Id: id, Cluster: "edge", UserAgentName: "gRPC Test"}
	names := map[string][]string{
		xds.ListenerType: {"shop"},
		xds.RouteType:    {"shop"},
		xds.ClusterType:  {"shop/blue", "shop/green", "shop/green|blue"},
		xds.EndpointType: {"shop/blue", "shop/green"},
	}
	for url, wanted := range names {
		if err := s.stream.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: url, ResourceNames: wanted}); err != nil {
			r.t.Fatal(err)
		}
	}
	go s.answer(names)
	return s
}

// answer takes what comes until the stream ends, or does not.
func (s *scripted) answer(names map[string][]string) {
	accepted := map[string]string{}
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return
		}
		answer := &discoveryv3.DiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResourceNames: names[m.GetTypeUrl()], ResponseNonce: m.GetNonce()}
		if s.refuse.Load() && m.GetTypeUrl() == xds.RouteType {
			answer.ErrorDetail = &status.Status{Code: 3, Message: "this library knows no such weights"}
		} else {
			accepted[m.GetTypeUrl()] = m.GetVersionInfo()
		}
		answer.VersionInfo = accepted[m.GetTypeUrl()]
		if s.stream.Send(answer) != nil {
			return
		}
	}
}

// DESIGN §4, confirmed steps: they are the same for gRPC clients that use the service, and others are not waited for.
func TestAGRPCClientThatRejectsAStepHoldsIt(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.callable("blue"))
	one := r.client("shop", "app-1")
	one.untilCalled("v1")
	stranger := strings.ReplaceAll(strings.ReplaceAll(r.callable("blue"), "service: shop", "service: cart"), "shop.example.com", "cart.example.com")
	r.put("services/cart", stranger)
	other := r.client("cart", "app-1") // the same application
	other.untilCalled("v1")
	s := r.scripted("app-3")
	r.put("services/shop", r.callable("green"))
	r.untilServed("the release", begun)
	r.step(1000)
	r.until("the two that use the service count", func() (bool, error) {
		fleet := r.report("a").Releases["shop"].Fleet
		return fleet.Connected == 2 && fleet.Confirmed == 2, fmt.Errorf("the fleet is %+v", fleet)
	})
	s.refuse.Store(true)
	r.put("orders/shop", "advance")
	r.untilWaitsFor("app-3", "knows no such weights")
	if served := r.served("shop"); served.Release.Phase != policy.Shifting || served.Release.Weight != 5000 {
		t.Errorf("it waits in %s at %s", served.Release.Phase, served.Release.Weight)
	}
	r.until("it counts as one that rejects", func() (bool, error) {
		fleet := r.report("a").Releases["shop"].Fleet
		return fleet.Rejected == 1 && fleet.Confirmed == 1, fmt.Errorf("the fleet is %+v", fleet)
	})
	one.shares(500, 5000)
	if err := s.leave(); err != nil {
		t.Fatal(err)
	}
	r.at(5000)
}
