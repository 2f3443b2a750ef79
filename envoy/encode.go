package envoy

import (
	"net"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// encode serialises deterministically, so that equal content has equal bytes in every replica.
func encode(m proto.Message) []byte {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("envoy: a message of ours that cannot be serialised: " + err.Error())
	}
	return body
}

// pack wraps an extension's configuration.
func pack(m proto.Message) *anypb.Any {
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: encode(m)}
}

// overADS says that a resource comes over the stream that everything comes over.
func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// socketAddress reads host:port. Documents are validated before they are served; what is no address all the same is left out rather than sent to be refused.
func socketAddress(address string) (*corev3.Address, bool) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, false
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, false
	}
	return tcp(host, uint32(port)), true
}

func tcp(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
