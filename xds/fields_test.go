package xds

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
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

func TestAMessageInBuffersIsReadAsAWholeOne(t *testing.T) {
	pieced := 0
	rapid.Check(t, func(t *rapid.T) {
		message := wires().Draw(t, "message")
		before := bytes.Clone(message)
		var whole, parts request
		wholeError := codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, &whole)
		partsError := codec{}.Unmarshal(cutUp(t, message), &parts)
		if (wholeError == nil) != (partsError == nil) {
			t.Fatalf("%x: in buffers %v, whole %v", message, partsError, wholeError)
		}
		if !bytes.Equal(message, before) {
			t.Fatalf("what came was changed: %x, was %x", message, before)
		}
		if wholeError != nil {
			return
		}
		if len(parts.data) > 1 {
			pieced++
		}
		if got := bytes.Join(parts.data, nil); !bytes.Equal(got, message) {
			t.Fatalf("%x: in buffers %x", message, got)
		}
		for _, piece := range parts.data {
			if _, ok := walk(piece); !ok {
				t.Fatalf("%x: a piece is no whole fields: %x", message, piece)
			}
		}
		if parts.subscribe != whole.subscribe || parts.versions != whole.versions || parts.everything != whole.everything || !bytes.Equal(parts.nonce, whole.nonce) || !bytes.Equal(parts.node, whole.node) {
			t.Fatalf("%x: in buffers %+v, whole %+v", message, parts, whole)
		}
	})
	if pieced == 0 {
		t.Error("no message was read in pieces")
	}
}
