package xds

import (
	"bytes"
	"slices"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// receive reads a message that came in buffers where it lies: all that proxies ask for when they come would be as much garbage again, were it copied together.
func (r *request) receive(in mem.BufferSlice) error {
	in.Ref()
	r.buffers = append(r.oneBuffer[:0], in...)
	if len(in) == 1 {
		r.data = append(r.onePiece[:0], in[0].ReadOnlyData())
		return r.read()
	}
	if len(in) <= mostPieces+in.Len()/leastPiece {
		if whole, err := r.readPieces(bytesOf(in)); whole || err != nil {
			r.made()
			return err
		}
		r.free()
	}
	r.data = append(r.onePiece[:0], in.Materialize())
	return r.read()
}

// Of a message in more buffers than mostPieces and one for each leastPiece bytes, each would take more memory than it holds; no client sends such frames.
const (
	mostPieces = 16
	leastPiece = 1 << 10
)

// readPieces reads a message in pieces of whole fields. Only a field that begins in one buffer and ends in another is copied; of a node, what is read of it. It reports
// false for a message that is cut off, and for one of which a field across buffers is not of bytes, as no client writes any.
func (r *request) readPieces(buffers [][]byte) (whole bool, err error) {
	c := cursor{buffers}
	for c.more() {
		rest, err := wholeFields(c.rest[0], r.field)
		if err != nil {
			return false, err
		}
		if read := len(c.rest[0]) - len(rest); read > 0 {
			r.data = append(r.data, c.take(read)...)
			continue
		}
		n, head, size := bytesField(c.peek())
		if head == 0 {
			return false, nil
		}
		across := c.take(head + size)
		if across == nil {
			return false, nil
		}
		if n == r.nodeField() {
			across = withoutExtensions(n, across, head)
		}
		piece := bytes.Join(across, nil)
		r.data = append(r.data, piece)
		if err := fields(piece, r.field); err != nil {
			return false, err
		}
	}
	return true, nil
}

// withoutExtensions is a node's field without what an Envoy says of its extensions and features, some 60 kB.
func withoutExtensions(n protowire.Number, field [][]byte, head int) [][]byte {
	c := cursor{slices.Clone(field)}
	c.take(head)
	var kept []byte
	for c.more() {
		if listed := extensions(c.rest[0]); listed > 0 {
			c.rest[0] = c.rest[0][listed:]
			continue
		}
		_, head, size := bytesField(c.peek())
		one := c.take(head + size)
		if one == nil {
			return field
		}
		kept, _ = appendKept(kept, bytes.Join(one, nil)) // it is a whole field
	}
	return [][]byte{protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), kept)}
}

// The first bytes of these fields.
const (
	extensionTag = byte(fieldNodeExtensions<<3) | byte(protowire.BytesType)
	featureTag   = byte(fieldNodeFeatures<<3) | byte(protowire.BytesType)
)

// extensions is how many bytes the extensions and features take that a node's fields begin with, as far as they are whole. There are hundreds, most of some hundred bytes.
func extensions(node []byte) int {
	rest := node
	for len(rest) > 2 && (rest[0] == extensionTag || rest[0] == featureTag) {
		end := 2 + int(rest[1])
		if rest[1] >= 0x80 {
			end = 3 + int(rest[1]&0x7f) + int(rest[2])<<7
			if rest[2] >= 0x80 {
				break
			}
		}
		if end > len(rest) {
			break
		}
		rest = rest[end:]
	}
	return len(node) - len(rest)
}

// cursor is what is left of a message in buffers.
type cursor struct{ rest [][]byte }

// more skips empty buffers, and reports whether anything is left.
func (c *cursor) more() bool {
	for len(c.rest) > 0 && len(c.rest[0]) == 0 {
		c.rest = c.rest[1:]
	}
	return len(c.rest) > 0
}

// take goes on by n bytes and returns them where they lie; nil: there are fewer.
func (c *cursor) take(n int) (parts [][]byte) {
	for n > 0 && len(c.rest) > 0 {
		taken := min(n, len(c.rest[0]))
		parts = append(parts, c.rest[0][:taken:taken])
		c.rest[0] = c.rest[0][taken:]
		if n -= taken; len(c.rest[0]) == 0 {
			c.rest = c.rest[1:]
		}
	}
	if n > 0 {
		return nil
	}
	return parts
}

// peek returns a copy of as much as the head of a field takes at most.
func (c *cursor) peek() []byte {
	head := make([]byte, 0, longestHead)
	for _, b := range c.rest {
		if len(head) == longestHead {
			break
		}
		head = append(head, b[:min(len(b), longestHead-len(head))]...)
	}
	return head
}

// longestHead is how many bytes a field's tag and length take at most.
const longestHead = 20

// bytesField is the number of the field of bytes that begins here, and how long its head and the rest are; 0: it is not one.
func bytesField(from []byte) (n protowire.Number, head, size int) {
	n, t, tag := protowire.ConsumeTag(from)
	if tag < 0 || t != protowire.BytesType {
		return 0, 0, 0
	}
	length, varint := protowire.ConsumeVarint(from[tag:])
	if varint < 0 || length > longestField {
		return 0, 0, 0
	}
	return n, tag + varint, int(length)
}

// longestField is more than any message that is received has.
const longestField = 1 << 31

func bytesOf(buffers mem.BufferSlice) [][]byte {
	all := make([][]byte, len(buffers))
	for i, b := range buffers {
		all[i] = b.ReadOnlyData()
	}
	return all
}

// nodeField is the number of the field with the client's node.
func (r *request) nodeField() protowire.Number {
	if r.protocol == StateOfTheWorld {
		return worldNode
	}
	return fieldNode
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
