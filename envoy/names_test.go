package envoy

import (
	"fmt"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rampart-proxy/rampart/xds"
)

func TestNamesOfARelease(t *testing.T) {
	for got, want := range map[string]string{
		Pool("shop", "blue"):                  "shop/blue",
		LiveArm("shop", "blue"):               "shop/blue|none",
		CandidateArm("shop", "green", "blue"): "shop/green|blue",
		RuntimePrefix("shop"):                 "ramp.shop",
		Group("edge", true):                   "edge",
		Group("edge", false):                  "edge/plain",
		ClientGroup("edge"):                   "edge/grpc",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestServicesSpreadOverAllLayersAndStayWhereTheyAre(t *testing.T) {
	used := map[string]int{}
	for i := range 1600 {
		used[Layer(fmt.Sprintf("service-%d", i))]++
	}
	if len(used) != Layers {
		t.Fatalf("%d layers are used, want %d", len(used), Layers)
	}
	for layer, n := range used {
		if n > 200 {
			t.Errorf("layer %s has %d of 1600 services", layer, n)
		}
	}
	// A proxy would keep the weights of a service in the layer that an older release of rampart put them in.
	if got := Layer("shop"); got != "ramp-09" {
		t.Errorf("shop is in %s", got)
	}
}

func TestAProxyWithoutAllLayersIsPlain(t *testing.T) {
	node := func(layers float64) *corev3.Node {
		return &corev3.Node{Cluster: "edge", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{layersKey: structpb.NewNumberValue(layers)}}}
	}
	for group, n := range map[string]*corev3.Node{
		"edge":       node(Layers),
		"edge/plain": node(Layers - 1),
		"/plain":     nil,
	} {
		if got := GroupOf(n, xds.Delta); got != group {
			t.Errorf("got group %q, want %q", got, group)
		}
	}
	if got := GroupOf(&corev3.Node{Cluster: "edge"}, xds.Delta); got != "edge/plain" {
		t.Errorf("without metadata: %q", got)
	}
}

func TestWhoeverSpeaksTheStateOfTheWorldIsPlainIfItIsAnEnvoyAndAClientIfNot(t *testing.T) {
	layers := &structpb.Struct{Fields: map[string]*structpb.Value{layersKey: structpb.NewNumberValue(Layers)}}
	for _, c := range []struct {
		agent    string
		protocol xds.Protocol
		group    string
	}{
		{"envoy", xds.StateOfTheWorld, "edge/plain"},
		{"envoy", xds.Delta, "edge"},
		{"gRPC Go", xds.StateOfTheWorld, "edge/grpc"},
		{"gRPC C-core linux", xds.Delta, "edge/grpc"},
		{"grpc-java", xds.StateOfTheWorld, "edge/grpc"},
		{"", xds.StateOfTheWorld, "edge/grpc"},
	} {
		if got := GroupOf(&corev3.Node{Cluster: "edge", UserAgentName: c.agent, Metadata: layers}, c.protocol); got != c.group {
			t.Errorf("%q over %v: got group %q, want %q", c.agent, c.protocol, got, c.group)
		}
	}
	if OfClients("edge/plain") || OfClients("edge") || !OfClients("edge/grpc") {
		t.Error("groups of clients are mistaken")
	}
}
