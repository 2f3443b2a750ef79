package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// assignment renders the endpoints of a pool. They share one locality, named and weighted, because load is reported by locality and gRPC clients skip one
// without a weight. Without endpoints it is an assignment all the same: an answer that never comes would hold up every cluster for 15 s (envoy-measured.md §4).
func assignment(pool string, addresses []string, mark *corev3.Metadata) *endpointv3.ClusterLoadAssignment {
	locality := &endpointv3.LocalityLbEndpoints{
		Locality:            &corev3.Locality{Zone: "default"},
		LoadBalancingWeight: wrapperspb.UInt32(1),
	}
	for _, text := range addresses {
		address, ok := socketAddress(text)
		if !ok {
			continue
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
			Metadata:       mark,
		})
	}
	a := &endpointv3.ClusterLoadAssignment{ClusterName: pool}
	if len(locality.LbEndpoints) > 0 {
		a.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	}
	return a
}

// canary marks the endpoints of a candidate, so that an arm's statistics tell what the candidate itself answered from what live answered for it
// (envoy-measured.md §2).
func canary() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"envoy.lb": {Fields: map[string]*structpb.Value{"canary": structpb.NewBoolValue(true)}},
	}}
}
