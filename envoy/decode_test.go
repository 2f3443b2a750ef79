package envoy

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

// statsOf is a report of one cluster as Envoy writes it.
func statsOf(cluster string, counts policy.Counts, interval time.Duration) *endpointv3.ClusterStats {
	return &endpointv3.ClusterStats{
		ClusterName: cluster, LoadReportInterval: durationpb.New(interval), TotalDroppedRequests: 7,
		UpstreamLocalityStats: []*endpointv3.UpstreamLocalityStats{{
			Locality:                &corev3.Locality{Zone: "default"},
			TotalSuccessfulRequests: counts.OK, TotalErrorRequests: counts.Errors, TotalIssuedRequests: counts.Issued, TotalRequestsInProgress: 3,
			LoadMetricStats: []*endpointv3.EndpointLoadMetricStats{{MetricName: "named_metrics.quality", NumRequestsFinishedWithMetric: 2, TotalMetricValue: 1.5}},
		}},
	}
}

// bigNode is a node as large as a real Envoy's: it lists its extensions.
func bigNode() *corev3.Node {
	node := &corev3.Node{Id: "edge-1", Cluster: "edge", UserAgentName: "envoy", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
		UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40, Patch: 3}},
	}}
	for i := range 700 {
		node.Extensions = append(node.Extensions, &corev3.Extension{
			Name: fmt.Sprintf("envoy.filters.extension_number_%d", i), Category: "envoy.filters.http", TypeUrls: []string{"envoy.extensions.filters.http.some.v3.Extension"},
		})
	}
	return node
}

func serialised(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAReportIsReadWithoutItsNode(t *testing.T) {
	counts := policy.Counts{OK: 10, Errors: 2, Issued: 13}
	other := statsOf("shop/green", counts, time.Second)
	other.UpstreamLocalityStats = append(other.UpstreamLocalityStats, other.UpstreamLocalityStats[0])
	data := serialised(t, &loadstatsv3.LoadStatsRequest{
		Node: bigNode(), ClusterStats: []*endpointv3.ClusterStats{statsOf("shop/blue", counts, 251*time.Millisecond), other},
	})
	var r loadReport
	if err := r.decode(data); err != nil {
		t.Fatal(err)
	}
	same(t, "clusters", r.clusters, []clusterReport{
		{cluster: "shop/blue", counts: counts, active: 3, interval: 251 * time.Millisecond},
		{cluster: "shop/green", counts: counts.Add(counts), active: 6, interval: time.Second},
	})
	sample := judge.Sample{Sum: 1.5, Count: 2}
	same(t, "samples", r.samples, []sampleReport{
		{metric: "named_metrics.quality", sample: sample}, {1, "named_metrics.quality", sample}, {1, "named_metrics.quality", sample},
	})
	same(t, "the node is not read", r.node, origin{})
	r.wantNode = true
	if err := r.decode(data); err != nil {
		t.Fatal(err)
	}
	same(t, "the node is read", r.node, origin{id: "edge-1", gateway: "edge", version: version{1, 40}})
}

func TestAReportBeyondReasonIsRefusedAsAWhole(t *testing.T) {
	good := statsOf("shop/blue", policy.Counts{OK: 1}, time.Second)
	for name, c := range map[string]struct {
		stats *endpointv3.ClusterStats
		want  error
	}{
		"a count below zero":      {statsOf("shop/green", policy.Counts{Errors: 1<<64 - 3}, time.Second), errCount},
		"a huge count":            {statsOf("shop/green", policy.Counts{Issued: 1 << 62}, time.Second), errCount},
		"an interval below zero":  {statsOf("shop/green", policy.Counts{OK: 1}, -time.Second), errInterval},
		"an interval of a year":   {statsOf("shop/green", policy.Counts{OK: 1}, 365*24*time.Hour), errInterval},
		"a cluster that is twice": {good, errTwice},
	} {
		t.Run(name, func(t *testing.T) {
			var r loadReport
			err := r.decode(serialised(t, &loadstatsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{good, c.stats}}))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	huge := statsOf("shop/blue", policy.Counts{OK: 1<<62 - 1}, time.Second)
	for range 4 {
		huge.UpstreamLocalityStats = append(huge.UpstreamLocalityStats, huge.UpstreamLocalityStats[0])
	}
	var r loadReport
	if err := r.decode(serialised(t, &loadstatsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{huge}})); !errors.Is(err, errCount) {
		t.Errorf("localities that sum up beyond reason: %v", err)
	}
}

// slowly reads a report with the whole of protobuf, as a reference.
func slowly(data []byte) (clusters []clusterReport, ok bool) {
	var request loadstatsv3.LoadStatsRequest
	if proto.Unmarshal(data, &request) != nil {
		return nil, false
	}
	seen := map[string]bool{}
	for _, stats := range request.GetClusterStats() {
		d := duration{seconds: stats.GetLoadReportInterval().GetSeconds(), nanos: int64(stats.GetLoadReportInterval().GetNanos())}
		interval, err := d.value()
		if err != nil || seen[stats.GetClusterName()] {
			return nil, false
		}
		seen[stats.GetClusterName()] = true
		r := clusterReport{cluster: stats.GetClusterName(), interval: interval}
		for _, l := range stats.GetUpstreamLocalityStats() {
			r.active += l.GetTotalRequestsInProgress()
			r.counts = r.counts.Add(policy.Counts{OK: l.GetTotalSuccessfulRequests(), Errors: l.GetTotalErrorRequests(), Issued: l.GetTotalIssuedRequests()})
			if max(l.GetTotalRequestsInProgress(), r.active, l.GetTotalSuccessfulRequests(), l.GetTotalErrorRequests(), l.GetTotalIssuedRequests(), r.counts.OK, r.counts.Errors, r.counts.Issued) >= maxCount {
				return nil, false
			}
		}
		clusters = append(clusters, r)
	}
	return clusters, true
}

func FuzzLoadReport(f *testing.F) {
	f.Add(serialised(f, &loadstatsv3.LoadStatsRequest{
		Node: &corev3.Node{Id: "edge-1"}, ClusterStats: []*endpointv3.ClusterStats{statsOf("shop/blue", policy.Counts{OK: 300, Errors: 2, Issued: 5}, time.Second)},
	}))
	f.Add(serialised(f, &loadstatsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{statsOf("a", policy.Counts{OK: 1 << 63}, -1), statsOf("a", policy.Counts{}, 0)}}))
	for _, recorded := range []string{"load-1.38.bin", "load-1.40.bin"} {
		f.Add(recording(f, recorded))
	}
	f.Add([]byte{0x12, 0x03, 0x0a, 0x01, 'a', 0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := loadReport{wantNode: true}
		err := r.decode(data)
		want, ok := slowly(data)
		if !ok {
			return // what protobuf refuses may be read here, as long as it is read without harm
		}
		if errors.Is(err, errLongNode) {
			return
		}
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		same(t, "clusters", r.clusters, want)
		var request loadstatsv3.LoadStatsRequest
		if err := proto.Unmarshal(data, &request); err != nil {
			t.Fatal(err)
		}
		same(t, "node", r.node, originOf(request.GetNode()))
		same(t, "samples", fmt.Sprint(r.samples), fmt.Sprint(samplesOf(&request)))
	})
}

// recording is a message of a real Envoy, without its node.
func recording(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func originOf(n *corev3.Node) origin {
	v := n.GetUserAgentBuildVersion().GetVersion()
	return origin{id: n.GetId(), gateway: n.GetCluster(), version: version{uint64(v.GetMajorNumber()), uint64(v.GetMinorNumber())}}
}

// samplesOf are those of a report's samples that make sense.
func samplesOf(request *loadstatsv3.LoadStatsRequest) []sampleReport {
	var samples []sampleReport
	for i, stats := range request.GetClusterStats() {
		for _, l := range stats.GetUpstreamLocalityStats() {
			for _, m := range l.GetLoadMetricStats() {
				s := judge.Sample{Sum: m.GetTotalMetricValue(), Count: m.GetNumRequestsFinishedWithMetric()}
				if s.Count > 0 && s.Count < maxCount && math.Abs(s.Sum) <= maxSum {
					samples = append(samples, sampleReport{i, m.GetMetricName(), s})
				}
			}
		}
	}
	return samples
}

// BenchmarkDecodeReport reads a report of a running release, and reports how much longer protobuf takes for all of it.
func BenchmarkDecodeReport(b *testing.B) {
	data := serialised(b, &loadstatsv3.LoadStatsRequest{Node: bigNode(), ClusterStats: []*endpointv3.ClusterStats{
		statsOf("shop/blue", policy.Counts{OK: 75}, 250*time.Millisecond), statsOf("shop/green", policy.Counts{OK: 25}, 250*time.Millisecond),
	}})
	reference := meanTime(500, func() error { return proto.Unmarshal(data, &loadstatsv3.LoadStatsRequest{}) })
	b.ReportAllocs()
	var r loadReport
	for b.Loop() {
		if err := r.decode(data); err != nil {
			b.Fatal(err)
		}
	}
	ours := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(reference/ours, "times-faster")
	b.ReportMetric(float64(len(data)), "report-bytes")
}

// meanTime is how many nanoseconds something takes. A benchmark within a benchmark would wait for itself.
func meanTime(rounds int, do func() error) float64 {
	began := time.Now()
	for range rounds {
		if err := do(); err != nil {
			panic(err)
		}
	}
	return float64(time.Since(began).Nanoseconds()) / float64(rounds)
}
