package xds

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"
)

// found is a field as it was read.
type found struct {
	n     protowire.Number
	t     protowire.Type
	value string
}

// walk reads a message by protowire alone.
func walk(message []byte) (all []found, ok bool) {
	for len(message) > 0 {
		n, t, size := protowire.ConsumeTag(message)
		if size < 0 {
			return all, false
		}
		message = message[size:]
		f := found{n: n, t: t}
		size = protowire.ConsumeFieldValue(n, t, message)
		if size < 0 {
			return all, false
		}
		if t == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			f.value = string(value)
		}
		all, message = append(all, f), message[size:]
	}
	return all, true
}

// wires are messages of a few fields, whole, cut off, or with a byte that is another.
func wires() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		var message []byte
		for range rapid.IntRange(0, 5).Draw(t, "fields") {
			n := protowire.Number(rapid.SampledFrom([]int{1, 2, 5, 15, 16, 17, 2047, 2048}).Draw(t, "number"))
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				message = protowire.AppendVarint(protowire.AppendTag(message, n, protowire.VarintType), rapid.Uint64().Draw(t, "value"))
			default:
				size := rapid.SampledFrom([]int{0, 1, 60, 127, 128, 300}).Draw(t, "size")
				message = protowire.AppendBytes(protowire.AppendTag(message, n, protowire.BytesType), bytes.Repeat([]byte{'x'}, size))
			}
		}
		if len(message) > 0 && rapid.Bool().Draw(t, "spoiled") {
			message[rapid.IntRange(0, min(3, len(message)-1)).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		return message[:len(message)-rapid.IntRange(0, min(2, len(message))).Draw(t, "missing")]
	})
}

func TestShortFieldsAreReadAsAllOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		message := wires().Draw(t, "message")
		var got []found
		err := fields(message, func(n protowire.Number, kind protowire.Type, value []byte) error {
			got = append(got, found{n, kind, string(value)})
			return nil
		})
		want, ok := walk(message)
		if (err == nil) != ok || len(got) != len(want) {
			t.Fatalf("%x: read as %v (%v), by protowire as %v (%v)", message, got, err, want, ok)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%x: field %d is %v, by protowire %v", message, i, got[i], want[i])
			}
		}
	})
}

// cutUp is a message in buffers, as it comes over the wire.
func cutUp(t *rapid.T, message []byte) (buffers mem.BufferSlice) {
	for len(message) > 0 {
		n := rapid.IntRange(1, min(len(message), rapid.SampledFrom([]int{1, 3, 40, 400}).Draw(t, "most"))).Draw(t, "size")
		buffers = append(buffers, mem.SliceBuffer(message[:n:n]))
		message = message[n:]
	}
	return buffers
}

func sameNode(a, b *request) bool {
	one, oneError := a.proxyNode()
	other, otherError := b.proxyNode()
	if one == nil || other == nil { // none is as good as an empty one
		return one.GetId() == other.GetId()
	}
	return (oneError == nil) == (otherError == nil) && (oneError != nil || proto.Equal(one, other))
}

// TestANodeIsReadWithoutItsExtensions: as an Envoy sends it, in frames of 16 KiB.
func TestANodeIsReadWithoutItsExtensions(t *testing.T) {
	build := func(metadata *structpb.Struct) *corev3.Node_UserAgentBuildVersion {
		version := &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}, Metadata: metadata}
		return &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: version}
	}
	node := &corev3.Node{Id: "n1", Cluster: "edge", UserAgentName: "envoy", ClientFeatures: []string{"a", "b"}}
	node.UserAgentVersionType = build(&structpb.Struct{Fields: map[string]*structpb.Value{"revision.sha": structpb.NewStringValue("abc")}})
	for i := range 1000 {
		node.Extensions = append(node.Extensions, &corev3.Extension{Name: fmt.Sprint("an extension with a name of some length ", i, strings.Repeat(".", i%100))})
	}
	for _, m := range []proto.Message{
		&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: RuntimeType, ResourceNamesSubscribe: []string{"l1"}},
		&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: RuntimeType, ResourceNames: []string{"l1"}},
	} {
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var buffers mem.BufferSlice
		for part := range slices.Chunk(wire, 16<<10) {
			buffers = append(buffers, mem.SliceBuffer(part))
		}
		r := bare().newRequest(Delta)
		if _, world := m.(*discoveryv3.DiscoveryRequest); world {
			r.protocol = StateOfTheWorld
		}
		if err := (codec{}).Unmarshal(buffers, r); err != nil {
			t.Fatal(err)
		}
		if len(buffers) < 3 || len(r.node) > 100 {
			t.Errorf("of a node in %d buffers %d bytes are kept", len(buffers), len(r.node))
		}
		got, err := r.proxyNode()
		if want := (&corev3.Node{Id: "n1", Cluster: "edge", UserAgentName: "envoy", UserAgentVersionType: build(nil)}); err != nil || !proto.Equal(got, want) || r.typeURL != RuntimeType || r.subscribe != 1 {
			t.Errorf("%v, %v, %q", got, err, r.typeURL)
		}
	}
}

func TestAMessageInBuffersIsReadAsAWholeOne(t *testing.T) {
	pieced := 0
	for round := 0; round < 50 && pieced == 0; round++ { // of most rounds some are
		rapid.Check(t, func(t *rapid.T) { pieced += checkInBuffers(t) })
	}
	if pieced == 0 {
		t.Error("no message was read in pieces")
	}
}

// checkInBuffers reads a message in one buffer and in several, and returns how many were kept in pieces.
func checkInBuffers(t *rapid.T) (pieced int) {
	s := bare()
	message := wires().Draw(t, "message")
	before := bytes.Clone(message)
	whole, parts := s.newRequest(Delta), s.newRequest(Delta)
	wholeError := codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, whole)
	partsError := codec{}.Unmarshal(cutUp(t, message), parts)
	if (wholeError == nil) != (partsError == nil) {
		t.Fatalf("%x: in buffers %v, whole %v", message, partsError, wholeError)
	}
	if !bytes.Equal(message, before) {
		t.Fatalf("what came was changed: %x, was %x", message, before)
	}
	if wholeError != nil {
		return 0
	}
	if len(parts.data) > 1 {
		pieced = 1
	}
	for _, piece := range parts.data {
		if _, ok := walk(piece); !ok {
			t.Fatalf("%x: a piece is no whole fields: %x", message, piece)
		}
	}
	if parts.subscribe != whole.subscribe || parts.versions != whole.versions || parts.everything != whole.everything || parts.tally.sums() != whole.tally.sums() || !bytes.Equal(parts.nonce, whole.nonce) || !sameNode(parts, whole) {
		t.Fatalf("%x: in buffers it is another", message)
	}
	return pieced
}
