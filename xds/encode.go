package xds

import (
	"slices"
	"time"

	"google.golang.org/grpc/mem"
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

// encoded returns the variant as one element of a response of this protocol: the field `resources`,
// ready to send. The bytes are kept, for all streams that get it. The caller holds the group's mu.
func (v *variant) encoded(protocol Protocol) mem.Buffer {
	if v.bodies[protocol] == nil {
		whole := v.append(nil, Delta)
		v.bodies[Delta], v.bodies[StateOfTheWorld] = mem.SliceBuffer(whole), mem.SliceBuffer(whole[len(whole)-v.worldSize():])
	}
	return v.bodies[protocol]
}

// beatBytes returns the heartbeat: the same name, version and TTL without the resource (xDS
// protocol, Resource TTL). The caller holds the group's mu.
func (v *variant) beatBytes() mem.Buffer {
	if v.beat == nil {
		v.beat = mem.SliceBuffer(appendText(nil, fieldResources, v.head()))
	}
	return v.beat
}

// append writes what encoded returns. The two protocols have the resource itself in a field of the
// same number, so one is the end of the other.
func (v *variant) append(to []byte, protocol Protocol) []byte {
	parts := v.parts()
	if protocol == Delta {
		head := v.head()
		to = slices.Grow(to, len(head)+v.worldSize()+16)
		to = protowire.AppendTag(to, fieldResources, protowire.BytesType)
		to = protowire.AppendVarint(to, uint64(len(head)+v.worldSize()))
		to = append(to, head...)
	}
	to = protowire.AppendTag(to, fieldResourceBody, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(v.anySize()))
	to = appendText(to, fieldAnyType, v.of.Type)
	to = protowire.AppendTag(to, fieldAnyValue, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(v.valueSize()))
	to = append(to, v.of.Body...)
	for _, part := range parts {
		to = append(to, part.Body...)
	}
	return to
}

// head is a Resource's fields before the resource itself.
func (v *variant) head() []byte {
	head := make([]byte, 0, len(v.version)+len(v.of.Name)+32)
	head = appendText(head, fieldResourceVersion, v.version)
	head = appendText(head, fieldResourceName, v.of.Name)
	if v.ttl > 0 {
		head = appendText(head, fieldResourceTTL, durationBytes(v.ttl))
	}
	return head
}

// worldSize is how many bytes the resource takes in a response of the state of the world.
func (v *variant) worldSize() int {
	return protowire.SizeTag(fieldResourceBody) + protowire.SizeBytes(v.anySize())
}

func (v *variant) anySize() int {
	return protowire.SizeTag(fieldAnyType) + protowire.SizeBytes(len(v.of.Type)) + protowire.SizeTag(fieldAnyValue) + protowire.SizeBytes(v.valueSize())
}

func (v *variant) valueSize() int {
	size := len(v.of.Body)
	for _, part := range v.parts() {
		size += len(part.Body)
	}
	return size
}

// value is the resource's message.
func (v *variant) value() []byte {
	whole := slices.Clone(v.of.Body)
	for _, part := range v.parts() {
		whole = append(whole, part.Body...)
	}
	return whole
}

func durationBytes(d time.Duration) []byte {
	encoded, err := proto.Marshal(durationpb.New(d))
	if err != nil {
		panic(err) // a Duration always encodes
	}
	return encoded
}
