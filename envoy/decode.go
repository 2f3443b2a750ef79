package envoy

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rampart-proxy/rampart/policy"
)

// loadReport is what one LoadStatsRequest says, without the node: Envoy repeats it in every message, 61 kB against some 100 bytes of counts
// (envoy-measured.md §13).
type loadReport struct {
	node     []byte // serialised; read only if wantNode was set
	wantNode bool
	clusters []clusterReport
	problem  error // why it must not be counted
}

// clusterReport is what one report says of one cluster, over its localities.
type clusterReport struct {
	cluster  string
	counts   policy.Counts
	interval time.Duration // true time elapsed, by the proxy's clock
}

// Field numbers of LoadStatsRequest, ClusterStats, UpstreamLocalityStats and Duration.
const (
	fieldNode         protowire.Number = 1
	fieldClusterStats protowire.Number = 2

	fieldClusterName   protowire.Number = 1
	fieldLocalityStats protowire.Number = 2
	fieldInterval      protowire.Number = 4

	fieldOK     protowire.Number = 2
	fieldErrors protowire.Number = 4
	fieldIssued protowire.Number = 8

	fieldSeconds protowire.Number = 1
	fieldNanos   protowire.Number = 2
)

// maxCount is beyond what any proxy can count in an interval: a subtraction in it went below zero.
const maxCount = 1 << 62

// maxInterval is beyond the longest interval that is ever asked for; a longer one is a broken clock's.
const maxInterval = 30 * 24 * time.Hour

var (
	errCount    = errors.New("a count of 2^62 or more")
	errInterval = errors.New("an interval below zero or beyond a month")
	errTwice    = errors.New("a cluster that is reported twice")
)

// decode reads a serialised LoadStatsRequest. It keeps nothing of data. A report in which anything is out of reason is an error as a whole.
func (r *loadReport) decode(data []byte) error {
	r.node, r.clusters = r.node[:0], r.clusters[:0]
	err := fields(data, func(number protowire.Number, value field) error {
		switch {
		case number == fieldNode && value.kind == protowire.BytesType && r.wantNode:
			r.node = append(r.node, value.bytes...) // messages merge by following one another
		case number == fieldClusterStats && value.kind == protowire.BytesType:
			return r.cluster(value.bytes)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read a load report: %w", err)
	}
	return nil
}

// cluster reads one ClusterStats.
func (r *loadReport) cluster(data []byte) error {
	var c clusterReport
	var elapsed duration
	err := fields(data, func(number protowire.Number, value field) error {
		switch {
		case value.kind != protowire.BytesType:
			return nil
		case number == fieldClusterName:
			c.cluster = string(value.bytes)
		case number == fieldLocalityStats:
			return c.locality(value.bytes)
		case number == fieldInterval:
			return elapsed.decode(value.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.interval, err = elapsed.value(); err != nil {
		return err
	}
	for _, other := range r.clusters {
		if other.cluster == c.cluster {
			return errTwice
		}
	}
	r.clusters = append(r.clusters, c)
	return nil
}

// locality adds one UpstreamLocalityStats. Of a field that comes twice the last counts, as everywhere in protobuf.
func (c *clusterReport) locality(data []byte) error {
	var counts policy.Counts
	err := fields(data, func(number protowire.Number, value field) error {
		if value.kind != protowire.VarintType {
			return nil
		}
		switch number {
		case fieldOK:
			counts.OK = value.number
		case fieldErrors:
			counts.Errors = value.number
		case fieldIssued:
			counts.Issued = value.number
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.counts = c.counts.Add(counts)
	for _, n := range []uint64{counts.OK, counts.Errors, counts.Issued, c.counts.OK, c.counts.Errors, c.counts.Issued} {
		if n >= maxCount {
			return errCount
		}
	}
	return nil
}

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

// field is the value of a field: a number or bytes, which belong to the message.
type field struct {
	kind   protowire.Type
	number uint64
	bytes  []byte
}

// fields calls take with every field of a serialised message. Numbers and bytes are read, all else is skipped.
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

// Codec is gRPC's usual codec, except that load reports are read by our own decoder and that some messages are skipped. A server uses it through grpc.ForceServerCodecV2.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(protocodec.Name)} }

type codec struct{ encoding.CodecV2 }

// skipped is a message that nobody looks into.
type skipped struct{}

// Unmarshal reads data into v, which is a loadReport, a protobuf message, or skipped.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, none := v.(*skipped); none {
		return nil
	}
	report, ours := v.(*loadReport)
	if !ours {
		return c.CodecV2.Unmarshal(data, v)
	}
	// What is wrong with a report must not end the stream: the proxy would only come back with the next one.
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	report.problem = report.decode(buffer.ReadOnlyData())
	return nil
}
