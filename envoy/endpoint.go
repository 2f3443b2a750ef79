package envoy

import (
	"net"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protowire"
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

// The fields of an assignment, as far as encodeAssignment writes them.
const (
	fieldPool       protowire.Number = 1 // of ClusterLoadAssignment
	fieldLocalities protowire.Number = 2

	fieldLocality    protowire.Number = 1 // of LocalityLbEndpoints
	fieldEndpoints   protowire.Number = 2
	fieldWeight      protowire.Number = 3
	fieldZone        protowire.Number = 2 // of Locality
	fieldWeightValue protowire.Number = 1 // of UInt32Value

	fieldEndpoint protowire.Number = 1 // of LbEndpoint
	fieldMetadata protowire.Number = 3
	fieldAddress  protowire.Number = 1 // of Endpoint
	fieldSocket   protowire.Number = 1 // of Address
	fieldHost     protowire.Number = 2 // of SocketAddress
	fieldPort     protowire.Number = 3
)

// encodeAssignment is encode of assignment, to the byte, at a tenth of its cost: a backend may have a thousand endpoints of which one comes or goes all the time.
func encodeAssignment(pool string, addresses []string, mark *corev3.Metadata) []byte {
	var metadata []byte
	if mark != nil {
		metadata = appendField(nil, fieldMetadata, encode(mark))
	}
	locality := appendField(nil, fieldLocality, appendField(nil, fieldZone, []byte("default")))
	empty := len(locality)
	var address, endpoint []byte // used again for each
	for _, text := range addresses {
		host, digits, err := net.SplitHostPort(text)
		port, badPort := strconv.ParseUint(digits, 10, 16)
		if err != nil || badPort != nil {
			continue
		}
		address = appendSocket(address[:0], host, port)
		endpoint = appendField(endpoint[:0], fieldSocket, address)
		address = appendField(address[:0], fieldAddress, endpoint)
		endpoint = appendField(append(endpoint[:0], metadata...), fieldEndpoint, address) // the library writes what is one of several last
		locality = appendField(locality, fieldEndpoints, endpoint)
	}
	body := appendField(nil, fieldPool, []byte(pool))
	if len(locality) == empty {
		return body
	}
	weight := protowire.AppendVarint(protowire.AppendTag(nil, fieldWeightValue, protowire.VarintType), 1)
	return appendField(body, fieldLocalities, appendField(locality, fieldWeight, weight))
}

func appendField(to []byte, field protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, field, protowire.BytesType), body)
}

func appendSocket(to []byte, host string, port uint64) []byte {
	if host != "" {
		to = protowire.AppendString(protowire.AppendTag(to, fieldHost, protowire.BytesType), host)
	}
	return protowire.AppendVarint(protowire.AppendTag(to, fieldPort, protowire.VarintType), port)
}

// canary marks the endpoints of a candidate, so that an arm's statistics tell what the candidate itself answered from what live answered for it
// (envoy-measured.md §2).
func canary() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"envoy.lb": {Fields: map[string]*structpb.Value{"canary": structpb.NewBoolValue(true)}},
	}}
}
