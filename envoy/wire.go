package envoy

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rampart-proxy/rampart/xds"
)

// maxCount is beyond what any proxy can count: a subtraction in it went below zero.
const maxCount = 1 << 62

// maxInterval is beyond the longest interval that is ever asked for; a longer one is a broken clock's.
const maxInterval = 30 * 24 * time.Hour

var (
	errCount    = errors.New("a count of 2^62 or more")
	errInterval = errors.New("an interval below zero or beyond a month")
)

// field is the value of a field: a number, of which doubles are the bits, or bytes, which belong to the message.
type field struct {
	kind   protowire.Type
	number uint64
	bytes  []byte
}

// double is the value of a field that holds one.
func (f field) double() float64 { return math.Float64frombits(f.number) }

// fields calls take with every field of a serialised message. Numbers, doubles and bytes are read, all else is skipped.
func fields(data []byte, take func(protowire.Number, field) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		value := field{kind: kind}
		switch kind {
		case protowire.VarintType:
			value.number, n = protowire.ConsumeVarint(data)
		case protowire.Fixed64Type:
			value.number, n = protowire.ConsumeFixed64(data)
		case protowire.BytesType:
			value.bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(number, kind, data)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := take(number, value); err != nil {
			return err
		}
	}
	return nil
}

// Field numbers of google.protobuf.Duration.
const (
	fieldSeconds protowire.Number = 1
	fieldNanos   protowire.Number = 2
)

// duration is a google.protobuf.Duration.
type duration struct{ seconds, nanos int64 }

func (d *duration) decode(data []byte) error {
	return fields(data, func(number protowire.Number, value field) error {
		switch {
		case value.kind != protowire.VarintType:
		case number == fieldSeconds:
			d.seconds = int64(value.number)
		case number == fieldNanos:
			d.nanos = int64(int32(value.number))
		}
		return nil
	})
}

func (d *duration) value() (time.Duration, error) {
	if d.seconds < 0 || d.seconds > int64(maxInterval/time.Second) || d.nanos < 0 || d.nanos > math.MaxInt32 {
		return 0, errInterval
	}
	return time.Duration(d.seconds)*time.Second + time.Duration(d.nanos), nil
}

// Field numbers of core.v3.Node, BuildVersion and SemanticVersion.
const (
	fieldID           protowire.Number = 1
	fieldCluster      protowire.Number = 2
	fieldAgent        protowire.Number = 6
	fieldBuildVersion protowire.Number = 8

	fieldVersion protowire.Number = 1

	fieldMajor protowire.Number = 1
	fieldMinor protowire.Number = 2
)

// origin is what matters of a node.
type origin struct {
	id, gateway string
	client      bool // a gRPC client, no Envoy
	version     version
}

// version is an Envoy's; zero is unknown.
type version struct{ major, minor uint64 }

// before reports whether it is known to be older than 1.minor.
func (v version) before(minor uint64) bool { return v.major == 1 && v.minor < minor }

// decode reads a serialised Node. All but the id, the cluster and the version is some 60 kB of extensions (envoy-measured.md §13).
func (o *origin) decode(data []byte) error {
	return fields(data, func(number protowire.Number, value field) error {
		switch {
		case value.kind != protowire.BytesType:
		case (number == fieldID || number == fieldCluster) && len(value.bytes) > xds.MaxName:
			return errLongNode
		case number == fieldID:
			o.id = string(value.bytes)
		case number == fieldCluster:
			o.gateway = string(value.bytes)
		case number == fieldAgent:
			o.client = isClient(strings.ToLower(string(value.bytes)))
		case number == fieldBuildVersion:
			return within(value.bytes, fieldVersion, o.version.decode)
		}
		return nil
	})
}

func (v *version) decode(data []byte) error {
	return fields(data, func(number protowire.Number, value field) error {
		switch {
		case value.kind != protowire.VarintType:
		case number == fieldMajor:
			v.major = value.number
		case number == fieldMinor:
			v.minor = value.number
		}
		return nil
	})
}

// within reads the messages in one field of a message.
func within(data []byte, wanted protowire.Number, read func([]byte) error) error {
	return fields(data, func(number protowire.Number, value field) error {
		if number == wanted && value.kind == protowire.BytesType {
			return read(value.bytes)
		}
		return nil
	})
}

// Codec is gRPC's usual codec, except that load reports and statistics are read by our own decoders. A server uses it through grpc.ForceServerCodecV2.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(protocodec.Name)} }

type codec struct{ encoding.CodecV2 }

// ours is a message that is read by a decoder of our own. What is wrong with it is kept in it: an error would end the stream, and the proxy would only come back with
// the next one. It keeps nothing of data.
type ours interface{ read(data mem.BufferSlice) }

// Unmarshal reads data into v, which is a protobuf message or one of ours.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	message, own := v.(ours)
	if !own {
		return c.CodecV2.Unmarshal(data, v)
	}
	message.read(data)
	return nil
}

// pooled is up to which size a message's bytes come from grpc-go's pool. The next size there is 1 MiB, far too much for the 60 kB with which each proxy comes.
const pooled = 32 << 10

// inOnePiece hands a message over as one piece, copied only if it came in several.
func inOnePiece(data mem.BufferSlice, take func([]byte)) {
	if len(data) > 1 && data.Len() > pooled {
		take(data.Materialize())
		return
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	take(buffer.ReadOnlyData())
}

// past hands over, as one piece, what follows the first field of a message if that is the one to skip, and otherwise the whole message. Nothing of the field is looked
// at or copied, however many pieces it came in.
func past(skip protowire.Number, data mem.BufferSlice, take func([]byte)) {
	from := 0
	if len(data) > 0 {
		from = firstEnd(skip, data[0].ReadOnlyData(), data.Len())
	}
	for len(data) > 1 && from >= data[0].Len() {
		from -= data[0].Len()
		data = data[1:]
	}
	if len(data) == 1 {
		take(data[0].ReadOnlyData()[from:])
		return
	}
	if from > 0 {
		data = slices.Clone(data)
		data[0] = mem.SliceBuffer(data[0].ReadOnlyData()[from:])
	}
	inOnePiece(data, take)
}

// firstEnd is where the first field of a message of so many bytes ends, 0 if that is another one or not whole.
func firstEnd(number protowire.Number, data []byte, message int) int {
	first, kind, n := protowire.ConsumeTag(data)
	if n < 0 || first != number || kind != protowire.BytesType {
		return 0
	}
	size, m := protowire.ConsumeVarint(data[n:])
	if m < 0 || size > uint64(message-n-m) {
		return 0
	}
	return n + m + int(size)
}
