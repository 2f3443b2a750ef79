package envoy

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/xds"
)

// loadReport is what one LoadStatsRequest says, without the node: Envoy repeats it in every message, 61 kB against some 100 bytes of counts
// (envoy-measured.md §13).
type loadReport struct {
	node     origin // read only if wantNode was set
	wantNode bool
	clusters []clusterReport
	told     map[string]struct{} // which clusters those are
	samples  []sampleReport
	problem  error // why nothing of it must be counted
	flawed   error // why some of its samples are left out
	words    words
}

// clusterReport is what one report says of one cluster, over its localities.
type clusterReport struct {
	cluster  string
	counts   policy.Counts
	active   uint64        // tries in progress when the report was made
	interval time.Duration // true time elapsed, by the proxy's clock
}

// sampleReport is what one report says of one named metric of a cluster's requests.
type sampleReport struct {
	cluster int // in clusters
	metric  string
	sample  judge.Sample
}

// Field numbers of LoadStatsRequest, ClusterStats, UpstreamLocalityStats and EndpointLoadMetricStats.
const (
	fieldNode         protowire.Number = 1
	fieldClusterStats protowire.Number = 2

	fieldClusterName   protowire.Number = 1
	fieldLocalityStats protowire.Number = 2
	fieldInterval      protowire.Number = 4

	fieldOK          protowire.Number = 2
	fieldActive      protowire.Number = 3
	fieldErrors      protowire.Number = 4
	fieldMetricStats protowire.Number = 5
	fieldIssued      protowire.Number = 8

	fieldMetricName  protowire.Number = 1
	fieldMetricCount protowire.Number = 2
	fieldMetricTotal protowire.Number = 3
)

// maxSum is beyond any sum of a metric's values that makes sense: squares of more could not be added up.
const maxSum = 1e100

// A stream keeps room for so many entries of each kind between two reports, and as many names, none of them longer than that.
const (
	mostKept    = 1024
	longestKept = 256
)

var (
	errLongNode = fmt.Errorf("a node whose id or cluster is longer than %d bytes", xds.MaxName)
	errTwice    = errors.New("a cluster that is reported twice")
	errSample   = errors.New("a metric whose sum or count is none")
)

// words are names that came before, so that they need not be allocated again.
type words map[string]string

// keep returns the name as a string. Proxies have a handful of names; of one that never ends to bring new ones not all are remembered.
func (w *words) keep(name []byte) string {
	if kept, known := (*w)[string(name)]; known {
		return kept
	}
	kept := string(name)
	if len(name) > longestKept {
		return kept
	}
	if *w == nil || len(*w) >= mostKept {
		*w = words{}
	}
	(*w)[kept] = kept
	return kept
}

// trim gives back the room that an uncommonly large report took: the next one may be long in coming.
func (r *loadReport) trim() {
	if max(cap(r.clusters), cap(r.samples)) > mostKept { // a map stays as large as it ever was
		r.told, r.clusters, r.samples = nil, nil, nil
	}
}

func (r *loadReport) read(data mem.BufferSlice) {
	decode := func(message []byte) { r.problem = r.decode(message) }
	if r.wantNode {
		inOnePiece(data, decode)
		return
	}
	past(fieldNode, data, decode)
}

// decode reads a serialised LoadStatsRequest. It keeps nothing of data. A report in which a count or interval is out of reason is an error as a whole; a sample of a
// metric that is none is left out, for an application can send what it likes.
func (r *loadReport) decode(data []byte) error {
	r.node, r.clusters, r.samples, r.flawed = origin{}, r.clusters[:0], r.samples[:0], nil
	if clear(r.told); r.told == nil {
		r.told = map[string]struct{}{}
	}
	err := fields(data, func(number protowire.Number, value field) error {
		switch {
		case number == fieldNode && value.kind == protowire.BytesType && r.wantNode:
			return r.node.decode(value.bytes) // messages merge by following one another
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
			c.cluster = r.words.keep(value.bytes)
		case number == fieldLocalityStats:
			return r.locality(&c, value.bytes)
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
	if _, twice := r.told[c.cluster]; twice {
		return errTwice
	}
	r.told[c.cluster] = struct{}{}
	r.clusters = append(r.clusters, c)
	return nil
}

// locality adds one UpstreamLocalityStats. Of a number that comes twice the last counts, as everywhere in protobuf.
func (r *loadReport) locality(c *clusterReport, data []byte) error {
	var counts policy.Counts
	var active uint64
	err := fields(data, func(number protowire.Number, value field) error {
		if number == fieldMetricStats && value.kind == protowire.BytesType {
			return r.metric(value.bytes)
		}
		if value.kind != protowire.VarintType {
			return nil
		}
		switch number {
		case fieldOK:
			counts.OK = value.number
		case fieldActive:
			active = value.number
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
	c.active += active
	for _, n := range []uint64{counts.OK, counts.Errors, counts.Issued, active, c.counts.OK, c.counts.Errors, c.counts.Issued, c.active} {
		if n >= maxCount {
			return errCount
		}
	}
	return nil
}

// metric adds one EndpointLoadMetricStats to the samples of the cluster that is being read.
func (r *loadReport) metric(data []byte) error {
	one := sampleReport{cluster: len(r.clusters)}
	err := fields(data, func(number protowire.Number, value field) error {
		switch {
		case number == fieldMetricName && value.kind == protowire.BytesType:
			one.metric = r.words.keep(value.bytes)
		case number == fieldMetricCount && value.kind == protowire.VarintType:
			one.sample.Count = value.number
		case number == fieldMetricTotal && value.kind == protowire.Fixed64Type:
			one.sample.Sum = value.double()
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The comparison is false for what is not a number.
	if one.sample.Count == 0 || one.sample.Count >= maxCount || !(math.Abs(one.sample.Sum) <= maxSum) {
		r.flawed = errSample
		return nil
	}
	r.samples = append(r.samples, one)
	return nil
}
