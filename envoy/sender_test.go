package envoy

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	prometheus "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

const (
	blueArm  = "shop/blue|none"
	greenArm = "shop/green|blue"
)

// nodeOf is an Envoy's node.
func nodeOf(id string, minor uint32) *corev3.Node {
	return &corev3.Node{Id: id, Cluster: "edge", UserAgentName: "envoy", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
		UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: minor}},
	}}
}

// sender is one scripted Envoy's stream of statistics.
type sender struct {
	d      *desk
	node   string
	stream grpc.ClientStreamingClient[metricsv3.StreamMetricsMessage, metricsv3.StreamMetricsResponse]
	stamp  int64 // of the next message, by the Envoy's clock
	last   *metricsv3.StreamMetricsMessage
}

// sends opens a stream with a first message.
func (d *desk) sends(node string, minor uint32, stats ...*prometheus.MetricFamily) *sender {
	d.t.Helper()
	return d.sendsFrom(nodeOf(node, minor), stats...)
}

func (d *desk) sendsFrom(node *corev3.Node, stats ...*prometheus.MetricFamily) *sender {
	d.t.Helper()
	stream, err := metricsv3.NewMetricsServiceClient(d.conn).StreamMetrics(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	s := &sender{d: d, node: node.GetId(), stream: stream, stamp: 1}
	s.send(500*time.Millisecond, &metricsv3.StreamMetricsMessage{Identifier: &metricsv3.StreamMetricsMessage_Identifier{Node: node}, EnvoyMetrics: stats})
	return s
}

// flush sends a message half a second after the one before.
func (s *sender) flush(stats ...*prometheus.MetricFamily) {
	s.d.t.Helper()
	s.send(500*time.Millisecond, &metricsv3.StreamMetricsMessage{EnvoyMetrics: stats})
}

func (s *sender) send(after time.Duration, m *metricsv3.StreamMetricsMessage) {
	s.d.t.Helper()
	s.stamp++
	for _, f := range m.GetEnvoyMetrics() {
		for _, metric := range f.GetMetric() {
			metric.TimestampMs = proto.Int64(s.stamp)
		}
	}
	s.again(after, m)
}

// again sends a message as it is, and waits until it was read.
func (s *sender) again(after time.Duration, m *metricsv3.StreamMetricsMessage) {
	s.d.t.Helper()
	s.last = m
	s.d.pass(after)
	now := s.d.clock()
	if err := s.stream.Send(m); err != nil {
		s.d.t.Fatal(err)
	}
	s.d.until("the statistics to be read", func() bool {
		s.d.c.mu.Lock()
		defer s.d.c.mu.Unlock()
		for _, other := range s.d.c.station(s.node).statistics {
			if other.heard.Equal(now) {
				return true
			}
		}
		return false
	})
}

// counted is a counter as Envoy writes it; labels are name and value in turn.
func counted(name, cluster string, value float64, labels ...string) *prometheus.MetricFamily {
	f := &prometheus.MetricFamily{Name: &name, Type: prometheus.MetricType_COUNTER.Enum(), Metric: []*prometheus.Metric{{Counter: &prometheus.Counter{Value: &value}}}}
	for i := 0; i+1 < len(labels); i += 2 {
		f.Metric[0].Label = append(f.Metric[0].Label, &prometheus.LabelPair{Name: &labels[i], Value: &labels[i+1]})
	}
	f.Metric[0].Label = append(f.Metric[0].Label, &prometheus.LabelPair{Name: proto.String(labelCluster), Value: &cluster})
	return f
}

// timed is a histogram as an Envoy of our bootstrap writes it.
func timed(name, cluster string, minor uint64, times ...int) *prometheus.MetricFamily {
	b := reported(version{1, minor}, asked(), times)
	h := &prometheus.Histogram{SampleCount: &b.total, SampleSum: proto.Float64(1)}
	for i := range b.bounds {
		h.Bucket = append(h.Bucket, &prometheus.Bucket{UpperBound: &b.bounds[i], CumulativeCount: &b.counts[i]})
	}
	f := counted(name, cluster, 0)
	f.Type, f.Metric[0].Counter, f.Metric[0].Histogram = prometheus.MetricType_HISTOGRAM.Enum(), nil, h
	return f
}

// live and candidate are what an Envoy sends of an arm: how many were completed, how many with a 5xx, and the times of this flush.
func live(done, bad float64, times ...int) []*prometheus.MetricFamily {
	return []*prometheus.MetricFamily{
		counted("cluster.upstream_rq_completed", blueArm, done), timed("cluster.upstream_rq_time", blueArm, 40, times...),
		counted("cluster.upstream_rq_xx", blueArm, bad, labelClass, "5"), counted("cluster.upstream_rq_xx", blueArm, done-bad, labelClass, "2"),
	}
}

func candidate(done, bad float64, times ...int) []*prometheus.MetricFamily {
	return []*prometheus.MetricFamily{
		counted("cluster.canary.upstream_rq_completed", greenArm, done), timed("cluster.canary.upstream_rq_time", greenArm, 40, times...),
		counted("cluster.canary.upstream_rq_xx", greenArm, bad, labelClass, "5"), counted("cluster.upstream_rq_completed", greenArm, done+100),
	}
}

func both(a, b []*prometheus.MetricFamily) []*prometheus.MetricFamily { return append(a, b...) }

// steadySender is a proxy whose statistics have come once.
func (d *desk) steadySender(node string, minor uint32) *sender {
	d.t.Helper()
	d.c.Want(wantShop())
	s := d.sends(node, minor, both(live(1000, 10, 5, 5, 5), candidate(100, 1, 5))...)
	d.take()
	return s
}
