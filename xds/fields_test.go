package xds

import (
	"bytes"
	"testing"

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
