package xds

import (
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Field numbers of the messages that are written by hand, so that a body is encoded once and its
// bytes are shared between streams (discovery.proto, any.proto).
const (
	fieldResources       protowire.Number = 2 // DeltaDiscoveryResponse
	fieldResourceName    protowire.Number = 3 // Resource
	fieldResourceVersion protowire.Number = 1
	fieldResourceBody    protowire.Number = 2
	fieldResourceTTL     protowire.Number = 6
	fieldAnyType         protowire.Number = 1 // Any
	fieldAnyValue        protowire.Number = 2
)

// resourceBytes returns the variant as one element of the response's field `resources`. The caller
// holds the group's mu.
func (v *variant) resourceBytes() []byte {
	if v.body == nil {
		v.body = v.encode(v.anyBytes())
	}
	return v.body
}

// beatBytes returns the heartbeat: the same name, version and TTL without the resource (xDS
// protocol, Resource TTL). The caller holds the group's mu.
func (v *variant) beatBytes() []byte {
	if v.beat == nil {
		v.beat = v.encode(nil)
	}
	return v.beat
}

// value is the resource's message.
func (v *variant) value() []byte {
	whole := slices.Clone(v.of.Body)
	for _, part := range v.parts() {
		whole = append(whole, part.Body...)
	}
	return whole
}

func (v *variant) anyBytes() []byte {
	value := v.value()
	body := make([]byte, 0, len(value)+len(v.of.Type)+16)
	body = appendText(body, fieldAnyType, v.of.Type)
	return appendText(body, fieldAnyValue, value)
}

// encode writes the Resource around an Any; without an Any it is a heartbeat.
func (v *variant) encode(body []byte) []byte {
	head := protowire.AppendTag(nil, fieldResourceVersion, protowire.BytesType)
	head = protowire.AppendString(head, v.version)
	head = protowire.AppendTag(head, fieldResourceName, protowire.BytesType)
	head = protowire.AppendString(head, v.of.Name)
	if v.ttl > 0 {
		head = protowire.AppendTag(head, fieldResourceTTL, protowire.BytesType)
		head = protowire.AppendBytes(head, durationBytes(v.ttl))
	}
	size := len(head)
	if body != nil {
		size += protowire.SizeTag(fieldResourceBody) + protowire.SizeBytes(len(body))
	}
	out := make([]byte, 0, size+8)
	out = protowire.AppendTag(out, fieldResources, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(size))
	out = append(out, head...)
	if body != nil {
		// The state of the world's responses hold the same field, under the same number, without what is before it here.
		v.anyAt = len(out)
		out = protowire.AppendTag(out, fieldResourceBody, protowire.BytesType)
		out = protowire.AppendBytes(out, body)
	}
	return out
}

// encoded returns the variant as one element of a response of this protocol. The caller holds the
// group's mu.
func (v *variant) encoded(protocol Protocol) []byte {
	body := v.resourceBytes()
	if protocol == StateOfTheWorld {
		return body[v.anyAt:]
	}
	return body
}

func durationBytes(d time.Duration) []byte {
	encoded, err := proto.Marshal(durationpb.New(d))
	if err != nil {
		panic(err) // a Duration always encodes
	}
	return encoded
}
