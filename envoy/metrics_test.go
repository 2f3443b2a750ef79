package envoy

import (
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"testing"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	prometheus "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// reader reads the statistics of shop's clusters.
func reader() *statsReport {
	var watching atomic.Pointer[map[string]*watch]
	watched := map[string]*watch{}
	for i, cluster := range []string{"shop/blue", "shop/green", blueArm, greenArm} {
		watched[cluster] = &watch{cluster: cluster, service: "shop", role: role(i)}
	}
	watching.Store(&watched)
	return &statsReport{wantNode: true, watching: &watching, scale: &scale{}, seed: maphash.MakeSeed()}
}

// gist is a report in words, to compare.
func gist(r *statsReport) string {
	text := ""
	for _, c := range r.counts {
		text += fmt.Sprintf("%s %d=%d\n", c.watch.cluster, c.counter, c.value)
	}
	for i := range r.times {
		text += fmt.Sprintf("%s %t %v\n", r.times[i].watch.cluster, r.times[i].canary, r.times[i].times)
	}
	return text
}

// slowStatistics reads statistics with the whole of protobuf, as a reference.
func slowStatistics(m *metricsv3.StreamMetricsMessage, as *statsReport) *statsReport {
	r := statsReport{scale: &scale{version: originOf(m.GetIdentifier().GetNode()).version}}
	watched := *as.watching.Load()
	for _, f := range m.GetEnvoyMetrics() {
		what, known := familyOf([]byte(f.GetName()))
		for _, metric := range f.GetMetric() {
			var of *watch
			labelled := what.label == ""
			for _, label := range metric.GetLabel() {
				if label.GetName() == labelCluster {
					of = watched[label.GetValue()]
				} else if label.GetName() == what.label && !labelled {
					labelled = label.GetValue() == what.value
				}
			}
			if !known || of == nil || !labelled {
				continue
			}
			if h := metric.GetHistogram(); what.times && h != nil {
				r.slowHistogram(of, what.canary, h)
			}
			if c := metric.GetCounter(); !what.times && c != nil && c.GetValue() >= 0 && c.GetValue() < maxCount {
				r.counts = append(r.counts, countReport{of, what.counter, uint64(c.GetValue())})
			}
		}
	}
	return &r
}

func (r *statsReport) slowHistogram(of *watch, canary bool, h *prometheus.Histogram) {
	b := buckets{total: h.GetSampleCount()}
	for _, bucket := range h.GetBucket() {
		b.bounds, b.counts = append(b.bounds, bucket.GetUpperBound()), append(b.counts, bucket.GetCumulativeCount())
	}
	var times judge.Histogram
	if r.scale.convert(&b, &times) == nil {
		r.times = append(r.times, timesReport{of, canary, times})
	}
}

func TestARealEnvoysStatisticsAreReadToTheLast(t *testing.T) {
	for name, minor := range map[string]uint64{"statistics-1.38.bin": 38, "statistics-1.40.bin": 40} {
		r := reader()
		r.scale.version = version{1, minor}
		data := recording(t, name)
		if err := r.decode(data); err != nil || r.flawed != nil {
			t.Fatal(err, r.flawed)
		}
		var m metricsv3.StreamMetricsMessage
		if err := proto.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		same(t, name, gist(r), gist(slowStatistics(&m, r)))
		if len(r.times) != 2 || !r.scale.exact || r.times[0].times.Total()+r.times[1].times.Total() == 0 {
			t.Errorf("%s: %d histograms, exact %t", name, len(r.times), r.scale.exact)
		}
	}
}

func TestTheNodeOfStatisticsIsReadOnce(t *testing.T) {
	data := serialised(t, &metricsv3.StreamMetricsMessage{Identifier: &metricsv3.StreamMetricsMessage_Identifier{Node: bigNode()}})
	r := reader()
	if err := r.decode(data); err != nil {
		t.Fatal(err)
	}
	same(t, "node", r.node, origin{id: "edge-1", gateway: "edge", version: version{1, 40}})
	same(t, "version", r.scale.version, version{1, 40})
	r.wantNode = false
	if err := r.decode(data); err != nil {
		t.Fatal(err)
	}
	same(t, "another time", r.node, origin{})
}

func FuzzStatistics(f *testing.F) {
	f.Add(recording(f, "statistics-1.38.bin"))
	f.Add(recording(f, "statistics-1.40.bin"))
	f.Add(serialised(f, &metricsv3.StreamMetricsMessage{
		Identifier:   &metricsv3.StreamMetricsMessage_Identifier{Node: nodeOf("edge-1", 37)},
		EnvoyMetrics: both(live(12, 3, 5, 60, 700), candidate(1<<63, -1, 5)),
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := reader()
		err := r.decode(data)
		var m metricsv3.StreamMetricsMessage
		if proto.Unmarshal(data, &m) != nil {
			return // what protobuf refuses may be read here, as long as it is read without harm
		}
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		for i := range r.times {
			if r.times[i].times.Total() >= maxCount {
				t.Fatalf("beyond reason: %v", r.times[i].times)
			}
		}
		if canonical(t, data, &m) {
			same(t, "read", gist(r), gist(slowStatistics(&m, r)))
		}
	})
}

// canonical reports whether a message has its fields once and in order, as Envoy writes them: of others protobuf merges what is read one by one here.
func canonical(t *testing.T, data []byte, m *metricsv3.StreamMetricsMessage) bool {
	again := serialised(t, m)
	return string(again) == string(data)
}

// BenchmarkDecodeStatistics reads a flush of a real Envoy with one running release, and reports how much longer protobuf takes for all of it.
func BenchmarkDecodeStatistics(b *testing.B) {
	data := recording(b, "statistics-1.40.bin")
	reference := meanTime(2000, func() error { return proto.Unmarshal(data, &metricsv3.StreamMetricsMessage{}) })
	b.ReportAllocs()
	r := reader()
	for b.Loop() {
		if r.read(mem.BufferSlice{mem.SliceBuffer(data)}); r.problem != nil {
			b.Fatal(r.problem)
		}
	}
	ours := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(reference/ours, "times-faster")
	b.ReportMetric(float64(len(data)), "message-bytes")
}
