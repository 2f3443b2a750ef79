package xdsbench

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/testenv/fleet"
)

// layerNames are those of the bootstrap.
func layerNames() []string {
	var names []string
	for i := range envoy.Layers {
		names = append(names, fmt.Sprintf("ramp-%02d", i))
	}
	return names
}

// captured is all that a proxy gets, by type and name.
type captured map[string]map[string]*discoveryv3.Resource

// capture asks a server, as one proxy, for everything, and goes on until it has the routes of so many services.
func capture(ctx context.Context, server string, services int) (captured, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return nil, fmt.Errorf("capture what is served: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, fmt.Errorf("capture what is served: %w", err)
	}
	node := &corev3.Node{Id: "capture", Cluster: gatewayName, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"rampart.layers": structpb.NewNumberValue(envoy.Layers)}}}
	for _, ask := range []*discoveryv3.DeltaDiscoveryRequest{
		{Node: node, TypeUrl: fleet.Layers, ResourceNamesSubscribe: layerNames()}, {TypeUrl: fleet.Clusters},
		{TypeUrl: fleet.Listeners}, {TypeUrl: fleet.Routes, ResourceNamesSubscribe: []string{gatewayName}},
	} {
		if err := stream.Send(ask); err != nil {
			return nil, fmt.Errorf("capture what is served: %w", err)
		}
	}
	found := captured{fleet.Layers: {}, fleet.Clusters: {}, fleet.Endpoints: {}, fleet.Listeners: {}, fleet.Routes: {}}
	for !found.whole(services) {
		response, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("capture what is served: %w", err)
		}
		if err := found.take(stream, response); err != nil {
			return nil, fmt.Errorf("capture what is served: %w", err)
		}
	}
	return found, nil
}

func (c captured) take(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, r *discoveryv3.DeltaDiscoveryResponse) error {
	for _, resource := range r.Resources {
		c[r.TypeUrl][resource.Name] = resource
	}
	if r.TypeUrl == fleet.Clusters {
		ask := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: fleet.Endpoints}
		for _, resource := range r.Resources {
			ask.ResourceNamesSubscribe = append(ask.ResourceNamesSubscribe, resource.Name)
		}
		if err := stream.Send(ask); err != nil {
			return err
		}
	}
	return stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce})
}

// whole reports whether nothing is missing: routes come last, for clusters whose endpoints have come.
func (c captured) whole(services int) bool {
	routes := c[fleet.Routes][gatewayName]
	if len(c[fleet.Layers]) < envoy.Layers || len(c[fleet.Listeners]) == 0 || len(c[fleet.Endpoints]) < services || routes == nil {
		return false
	}
	var body routev3.RouteConfiguration
	return proto.Unmarshal(routes.Resource.Value, &body) == nil && len(body.VirtualHosts) >= services
}

// responses are what a server answers that sends everything of a type at once.
func (c captured) responses() (map[string][]byte, error) {
	all := map[string][]byte{}
	for typeURL, resources := range c {
		response := &discoveryv3.DeltaDiscoveryResponse{SystemVersionInfo: "1", TypeUrl: typeURL, Nonce: "1"}
		for _, name := range slices.Sorted(maps.Keys(resources)) {
			response.Resources = append(response.Resources, resources[name])
		}
		var err error
		if all[typeURL], err = proto.Marshal(response); err != nil {
			return nil, fmt.Errorf("encode what is served: %w", err)
		}
	}
	return all, nil
}
