package envoy

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

// counter is one of the counters that are read.
type counter int

// The counters. Those of canaries count the requests that the candidate itself answered, or should have.
const (
	completed counter = iota // requests with a status, from the moment on that its headers are there
	failed                   // of them, 5xx
	timedOut                 // of them, 504
	canaryCompleted
	canaryFailed
	canaryTimedOut
	timeouts    // requests that took longer than their route allows
	tryTimeouts // the same of single tries
	refused     // a pool's tries that found no connection
	firstStatus // gRPC statuses follow
	counters    = firstStatus + policy.GRPCStatuses
)

// family says what a family of metrics holds.
type family struct {
	times   bool    // histograms
	canary  bool    // of them
	counter counter // of counters
	label   string  // must have value; "": none must
	value   string
}

const (
	labelCluster = "envoy.cluster_name"
	labelClass   = "envoy.response_code_class"
	labelCode    = "envoy.response_code"
)

// familyOf knows the families that matter, by the names that Envoy gives them when it takes tags out of them (emit_tags_as_labels).
func familyOf(name []byte) (f family, known bool) {
	switch string(name) {
	case "cluster.upstream_rq_time":
		return family{times: true}, true
	case "cluster.canary.upstream_rq_time":
		return family{times: true, canary: true}, true
	case "cluster.upstream_rq_completed":
		return family{counter: completed}, true
	case "cluster.canary.upstream_rq_completed":
		return family{counter: canaryCompleted}, true
	case "cluster.upstream_rq_xx":
		return family{counter: failed, label: labelClass, value: "5"}, true
	case "cluster.canary.upstream_rq_xx":
		return family{counter: canaryFailed, label: labelClass, value: "5"}, true
	case "cluster.upstream_rq":
		return family{counter: timedOut, label: labelCode, value: "504"}, true
	case "cluster.canary.upstream_rq":
		return family{counter: canaryTimedOut, label: labelCode, value: "504"}, true
	case "cluster.upstream_rq_timeout":
		return family{counter: timeouts}, true
	case "cluster.upstream_rq_per_try_timeout":
		return family{counter: tryTimeouts}, true
	case "cluster.upstream_rq_pending_failure_eject":
		return family{counter: refused}, true
	}
	status, ok := statusOf(name)
	return family{counter: firstStatus + status}, ok
}

// statusOf reads the number in cluster.grpc.<number>.
func statusOf(name []byte) (counter, bool) {
	digits, found := bytes.CutPrefix(name, []byte("cluster.grpc."))
	if !found || len(digits) == 0 || len(digits) > 2 {
		return 0, false
	}
	status := counter(0)
	for _, digit := range digits {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		status = 10*status + counter(digit-'0')
	}
	return status, status < policy.GRPCStatuses
}

// statsReport is what one message of statistics says of the clusters that are watched. Everything else in it is skipped: with a bootstrap of the operator's own it can
// be megabytes.
type statsReport struct {
	node     origin // read only if wantNode was set
	wantNode bool
	watching *atomic.Pointer[map[string]*watch]
	scale    *scale // of the stream
	seed     maphash.Seed

	counts  []countReport
	times   []timesReport
	watched map[string]*watch // when it was read
	mark    uint64            // alike in a message that comes twice, and in no other: each has its time in it
	problem error             // why nothing of it must be counted
	flawed  error             // why something in it is left out
	buckets buckets
}

// countReport is a counter's newest value.
type countReport struct {
	watch   *watch
	counter counter
	value   uint64
}

// timesReport is one histogram of the time since the message before.
type timesReport struct {
	watch  *watch
	canary bool
	times  judge.Histogram
}

// Field numbers of StreamMetricsMessage and its Identifier, and of io.prometheus.client's messages.
const (
	fieldIdentifier protowire.Number = 1
	fieldMetrics    protowire.Number = 2

	fieldIdentified protowire.Number = 1

	fieldFamilyName protowire.Number = 1
	fieldMetric     protowire.Number = 4

	fieldLabel     protowire.Number = 1
	fieldCounter   protowire.Number = 3
	fieldHistogram protowire.Number = 7

	fieldLabelName  protowire.Number = 1
	fieldLabelValue protowire.Number = 2

	fieldCounterValue protowire.Number = 1

	fieldTotal  protowire.Number = 1
	fieldBucket protowire.Number = 3

	fieldUpTo  protowire.Number = 1
	fieldBound protowire.Number = 2
)

var (
	errNumber     = errors.New("a counter that is no count")
	errHistograms = errors.New("more histograms of times than there are arms")
)

// trim gives back the room that an uncommonly large message took: the next one may be long in coming.
func (r *statsReport) trim() {
	if cap(r.counts) > mostKept*int(counters) {
		r.counts = nil
	}
	if cap(r.times) > mostKept {
		r.times = nil
	}
	if cap(r.buckets.bounds) > mostKept {
		r.buckets = buckets{}
	}
}

func (r *statsReport) read(data mem.BufferSlice) {
	inOnePiece(data, func(message []byte) {
		r.mark = maphash.Bytes(r.seed, message)
		r.problem = r.decode(message)
	})
}

// decode reads a serialised StreamMetricsMessage. It keeps nothing of data.
func (r *statsReport) decode(data []byte) error {
	r.node, r.counts, r.times, r.flawed, r.watched = origin{}, r.counts[:0], r.times[:0], nil, *r.watching.Load()
	err := fields(data, func(number protowire.Number, value field) error {
		switch {
		case value.kind != protowire.BytesType:
		case number == fieldIdentifier && r.wantNode:
			if err := within(value.bytes, fieldIdentified, r.node.decode); err != nil {
				return err
			}
			r.scale.version = r.node.version
		case number == fieldMetrics:
			return r.family(value.bytes)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read statistics: %w", err)
	}
	return nil
}

// family reads one MetricFamily, if it matters.
func (r *statsReport) family(data []byte) error {
	var f family
	var known bool
	err := within(data, fieldFamilyName, func(name []byte) error {
		f, known = familyOf(name)
		return nil
	})
	if err != nil || !known {
		return err
	}
	return within(data, fieldMetric, func(metric []byte) error { return r.metric(f, metric) })
}

// metric reads one Metric of a family.
func (r *statsReport) metric(f family, data []byte) error {
	labelled := f.label == ""
	var of *watch
	err := within(data, fieldLabel, func(label []byte) error {
		name, value, err := labelOf(label)
		switch {
		case string(name) == labelCluster:
			of = r.watched[string(value)]
		case !labelled && string(name) == f.label:
			labelled = string(value) == f.value
		}
		return err
	})
	if err != nil || of == nil || !labelled {
		return err
	}
	if f.times {
		return within(data, fieldHistogram, func(histogram []byte) error { return r.histogram(of, f.canary, histogram) })
	}
	return within(data, fieldCounter, func(count []byte) error { return r.count(of, f.counter, count) })
}

func labelOf(data []byte) (name, value []byte, err error) {
	err = fields(data, func(number protowire.Number, field field) error {
		switch {
		case field.kind != protowire.BytesType:
		case number == fieldLabelName:
			name = field.bytes
		case number == fieldLabelValue:
			value = field.bytes
		}
		return nil
	})
	return name, value, err
}

func (r *statsReport) count(of *watch, c counter, data []byte) error {
	var count float64
	err := fields(data, func(number protowire.Number, value field) error {
		if number == fieldCounterValue && value.kind == protowire.Fixed64Type {
			count = value.double()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !(count >= 0 && count < maxCount) { // which no NaN is
		r.flawed = errNumber
		return nil
	}
	r.counts = append(r.counts, countReport{watch: of, counter: c, value: uint64(count)})
	return nil
}

func (r *statsReport) histogram(of *watch, canary bool, data []byte) error {
	if len(r.times) >= 2*len(r.watched) { // each has some of canaries beside all
		return errHistograms
	}
	r.buckets.reset()
	err := fields(data, func(number protowire.Number, value field) error {
		switch {
		case number == fieldTotal && value.kind == protowire.VarintType:
			r.buckets.total = value.number
		case number == fieldBucket && value.kind == protowire.BytesType:
			return r.buckets.add(value.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.times = append(r.times, timesReport{watch: of, canary: canary})
	if flaw := r.scale.convert(&r.buckets, &r.times[len(r.times)-1].times); flaw != nil {
		r.times, r.flawed = r.times[:len(r.times)-1], flaw
	}
	return nil
}

// add reads one Bucket.
func (b *buckets) add(data []byte) error {
	var bound float64
	var upTo uint64
	err := fields(data, func(number protowire.Number, value field) error {
		switch {
		case number == fieldUpTo && value.kind == protowire.VarintType:
			upTo = value.number
		case number == fieldBound && value.kind == protowire.Fixed64Type:
			bound = value.double()
		}
		return nil
	})
	b.bounds, b.counts = append(b.bounds, bound), append(b.counts, upTo)
	return err
}
