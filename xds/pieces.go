package xds

import (
	"bytes"
	"slices"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// pieces cuts a message where it lies, in the buffers in which it came, into pieces of whole fields: all that proxies ask for when they come would be as much garbage
// again, were it copied together. Only a field that begins in one buffer and ends in another is copied. It reports false for a message that is cut off, and for one of
// which such a field is not of bytes, as no client writes any.
func pieces(buffers mem.BufferSlice) (all [][]byte, cut bool) {
	var begun []byte // of a field that goes on in the next buffer
	for _, b := range buffers {
		data := b.ReadOnlyData()
		if len(begun) > 0 {
			size := bytesFieldSize(append(begun[:len(begun):len(begun)], data[:min(longestHead, len(data))]...))
			if size == 0 {
				return nil, false
			}
			if cap(begun) < size {
				begun = append(make([]byte, 0, size), begun...)
			}
			taken := min(size-len(begun), len(data))
			begun, data = append(begun, data[:taken]...), data[taken:]
			if len(begun) < size {
				continue
			}
			all = append(all, begun)
		}
		whole := wholeFields(data)
		if whole > 0 {
			all = append(all, data[:whole])
		}
		begun = data[whole:len(data):len(data)]
	}
	return all, len(begun) == 0
}

// longestHead is how many bytes a field's tag and length take at most.
const longestHead = 20

// bytesFieldSize is how long the field of bytes is that begins here; 0: it is not one, or its head is not all there.
func bytesFieldSize(head []byte) int {
	_, t, tag := protowire.ConsumeTag(head)
	if tag < 0 || t != protowire.BytesType {
		return 0
	}
	length, size := protowire.ConsumeVarint(head[tag:])
	if size < 0 || length > longestField {
		return 0
	}
	return tag + size + int(length)
}

// longestField is more than any message that is received has.
const longestField = 1 << 31

// wholeFields is how many bytes the whole fields take that a message begins with.
func wholeFields(message []byte) int {
	rest := message
	for len(rest) > 0 {
		if _, _, after, short := shortField(rest); short {
			rest = after
			continue
		}
		_, _, size := protowire.ConsumeField(rest)
		if size < 0 {
			break
		}
		rest = rest[size:]
	}
	return len(message) - len(rest)
}

// lies keeps the buffers in which a message came, if it can be read there.
func (r *request) lies(in mem.BufferSlice) {
	if len(in) == 1 {
		r.data = append(r.onePiece[:0], in[0].ReadOnlyData())
	} else if all, cut := pieces(in); cut {
		r.data = all
	}
	if r.data != nil {
		in.Ref()
		r.buffers = append(r.oneBuffer[:0], in...)
	}
}

// each calls do for each field of data.
func (r *request) each(do func(n protowire.Number, t protowire.Type, value []byte) error) error {
	for _, piece := range r.data {
		if err := fields(piece, do); err != nil {
			return err
		}
	}
	return nil
}

// contains reports whether a byte is anywhere in the message.
func (r *request) contains(b byte) bool {
	return slices.ContainsFunc(r.data, func(piece []byte) bool { return bytes.IndexByte(piece, b) >= 0 })
}
