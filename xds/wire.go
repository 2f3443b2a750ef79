package xds

import (
	"encoding/binary"
	"encoding/hex"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Protocol is the variant of xDS that a stream speaks.
type Protocol int

// The protocols. Envoys speak either, gRPC clients the state of the world.
const (
	Delta Protocol = iota
	StateOfTheWorld
)

// String is the protocol as people write it.
func (p Protocol) String() string {
	if p == StateOfTheWorld {
		return "state of the world"
	}
	return "delta"
}

// Field numbers of the requests (discovery.proto, base.proto, status.proto). Map entries have 1 and 2.
const (
	fieldNode protowire.Number = 1

	deltaType        protowire.Number = 2
	deltaSubscribe   protowire.Number = 3
	deltaUnsubscribe protowire.Number = 4
	deltaVersions    protowire.Number = 5
	deltaNonce       protowire.Number = 6
	deltaError       protowire.Number = 7
	deltaLocators    protowire.Number = 8

	worldVersion  protowire.Number = 1
	worldNode     protowire.Number = 2
	worldNames    protowire.Number = 3
	worldType     protowire.Number = 4
	worldNonce    protowire.Number = 5
	worldError    protowire.Number = 6
	worldLocators protowire.Number = 7

	fieldNodeBuild      protowire.Number = 8
	fieldBuildVersion   protowire.Number = 1
	fieldNodeExtensions protowire.Number = 9
	fieldNodeFeatures   protowire.Number = 10
	fieldErrorMessage   protowire.Number = 2
	fieldMapKey         protowire.Number = 1
	fieldMapValue       protowire.Number = 2
)

// Codec reads and writes this package's messages, and leaves all others to base.
func Codec(base encoding.CodecV2) encoding.CodecV2 { return codec{base} }

type codec struct{ encoding.CodecV2 }

// Unmarshal reads a message that came.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ours := v.(*request)
	if !ours {
		return c.CodecV2.Unmarshal(data, v)
	}
	r.free()
	return r.receive(data)
}

// Marshal writes a message that goes.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ours := v.(*frame); ours {
		return f.buffers, nil
	}
	return c.CodecV2.Marshal(v)
}

// frame is a response as it goes over the wire: resources in bytes that streams share, and the stream's own.
type frame struct {
	buffers mem.BufferSlice
	size    int
	few     [2]mem.Buffer   // where buffers begins: most frames have one resource
	own     mem.SliceBuffer // the last of buffers
}

func newFrame() *frame {
	f := &frame{}
	f.buffers = f.few[:0]
	return f
}

func (f *frame) add(b mem.Buffer) {
	if b.Len() > 0 {
		f.buffers = append(f.buffers, b)
		f.size += b.Len()
	}
}

// finish adds the stream's own bytes.
func (f *frame) finish(own []byte) {
	f.own = own
	f.add(&f.own)
}

// fields calls do for each field of a message; value is empty unless the field is of bytes.
func fields(message []byte, do func(n protowire.Number, t protowire.Type, value []byte) error) error {
	rest, err := wholeFields(message, do)
	if err == nil && len(rest) > 0 {
		_, _, size := protowire.ConsumeField(rest)
		return protowire.ParseError(size)
	}
	return err
}

// wholeFields is the same for a message that may be cut off; rest is what lies behind the last whole field.
func wholeFields(message []byte, do func(n protowire.Number, t protowire.Type, value []byte) error) (rest []byte, err error) {
	for len(message) > 0 {
		n, value, rest, short := shortField(message)
		t := protowire.BytesType
		if !short {
			var tag, size int
			if n, t, tag = protowire.ConsumeTag(message); tag < 0 {
				return message, nil
			}
			value = nil
			if t == protowire.BytesType {
				value, size = protowire.ConsumeBytes(message[tag:])
			} else {
				size = protowire.ConsumeFieldValue(n, t, message[tag:])
			}
			if size < 0 {
				return message, nil
			}
			rest = message[tag+size:]
		}
		if err := do(n, t, value); err != nil {
			return nil, err
		}
		message = rest
	}
	return nil, nil
}

// shortField takes a field of bytes whose tag and length are a byte each, off a message that begins with one. Names and versions are such, and who comes back brings
// tens of thousands.
func shortField(message []byte) (n protowire.Number, value, rest []byte, short bool) {
	if len(message) < 2 || message[0]&0x87 != byte(protowire.BytesType) || message[1] >= 0x80 {
		return 0, nil, nil, false
	}
	n, end := protowire.Number(message[0]>>3), 2+int(message[1])
	if n == 0 || end > len(message) {
		return 0, nil, nil, false
	}
	return n, message[2:end], message[end:], true
}

// Field numbers of the responses, the same in both protocols; only delta's says what is removed.
const (
	responseVersion protowire.Number = 1
	responseType    protowire.Number = 4
	responseNonce   protowire.Number = 5
	responseRemoved protowire.Number = 6
)

// appendNonce writes the nonce as proxies give it back.
func appendNonce(to []byte, nonce uint64) []byte {
	return hex.AppendEncode(to, binary.BigEndian.AppendUint64(make([]byte, 0, 8), nonce))
}

// nonceOf reads one, 0 if it is none of ours.
func nonceOf(text []byte) uint64 {
	var nonce [8]byte
	if len(text) != hex.EncodedLen(len(nonce)) {
		return 0
	}
	if _, err := hex.Decode(nonce[:], text); err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(nonce[:])
}

func appendText[T string | []byte](to []byte, field protowire.Number, text T) []byte {
	to = protowire.AppendTag(to, field, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(len(text)))
	return append(to, text...)
}
