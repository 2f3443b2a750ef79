package envoy

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	prometheus "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/xds"
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

// A message of as many histograms as fit in would take 30 times its size.
func TestMoreHistogramsThanThereAreArmsAreRefused(t *testing.T) {
	r := reader()
	most := 2 * len(*r.watching.Load())
	for n, want := range map[int]error{most: nil, most + 1: errHistograms, 10_000: errHistograms} {
		var families []*prometheus.MetricFamily
		for range n {
			families = append(families, timed("cluster.upstream_rq_time", blueArm, 40, 5))
		}
		err := r.decode(serialised(t, &metricsv3.StreamMetricsMessage{EnvoyMetrics: families}))
		if !errors.Is(err, want) || len(r.times) > most {
			t.Errorf("%d histograms: %v, and %d were taken; want %v", n, err, len(r.times), want)
		}
	}
}

// What one large message took is given back before the next one comes, which may be long.
func TestAnUncommonlyLargeMessageIsNotRememberedForItsSize(t *testing.T) {
	r := reader()
	var families []*prometheus.MetricFamily
	for i := range 2 * mostKept {
		families = append(families, counted("cluster.upstream_rq_completed", blueArm, float64(i)))
	}
	if err := r.decode(serialised(t, &metricsv3.StreamMetricsMessage{EnvoyMetrics: families})); err != nil || len(r.counts) != len(families) {
		t.Fatalf("%d counts, %v", len(r.counts), err)
	}
	for range int(counters) {
		r.counts = append(r.counts, r.counts[:2*mostKept]...)
	}
	if r.trim(); cap(r.counts) > 0 {
		t.Errorf("room for %d counts is kept", cap(r.counts))
	}
	var load loadReport
	var stats []*endpointv3.ClusterStats
	for i := range 2 * mostKept {
		stats = append(stats, statsOf(fmt.Sprint(i), policy.Counts{OK: 1}, time.Second))
	}
	if err := load.decode(serialised(t, &loadstatsv3.LoadStatsRequest{ClusterStats: stats})); err != nil || len(load.clusters) != len(stats) {
		t.Fatalf("%d clusters, %v", len(load.clusters), err)
	}
	if load.trim(); cap(load.clusters) > 0 || len(load.told) > 0 || len(load.words) > mostKept {
		t.Errorf("room for %d clusters is kept, and %d names", cap(load.clusters), len(load.words))
	}
}

func TestALongNodeIsRefused(t *testing.T) {
	long := strings.Repeat("x", xds.MaxName+1)
	for what, node := range map[string]*corev3.Node{"id": {Id: long}, "cluster": {Id: "edge-1", Cluster: long}} {
		if err := reader().decode(serialised(t, &metricsv3.StreamMetricsMessage{Identifier: &metricsv3.StreamMetricsMessage_Identifier{Node: node}})); !errors.Is(err, errLongNode) {
			t.Errorf("statistics of a node with a long %s: %v", what, err)
		}
		load := loadReport{wantNode: true}
		if err := load.decode(serialised(t, &loadstatsv3.LoadStatsRequest{Node: node})); !errors.Is(err, errLongNode) {
			t.Errorf("a load report of a node with a long %s: %v", what, err)
		}
	}
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
		if errors.Is(err, errHistograms) || errors.Is(err, errLongNode) {
			return
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
