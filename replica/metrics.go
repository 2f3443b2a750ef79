package replica

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/xds"
)

// metrics are this process's own figures. Names and meanings are listed in docs/metrics.md, which a test compares with the registry.
type metrics struct {
	leader     prometheus.Gauge
	revision   prometheus.Gauge
	lag        prometheus.Histogram
	beats      prometheus.Counter
	beatAt     prometheus.Gauge
	rollbacks  *prometheus.CounterVec
	decisions  *prometheus.CounterVec
	evidence   *prometheus.GaugeVec
	steps      prometheus.Histogram
	releases   *prometheus.HistogramVec
	pushes     *prometheus.CounterVec
	pushed     map[string]prometheus.Counter // of pushes, by type URL: a step counts one for each proxy
	pushToAck  prometheus.Histogram
	rejections *prometheus.CounterVec
	heartbeats prometheus.Counter
	queries    *prometheus.CounterVec
	routes     routeMetrics
	limits     *prometheus.CounterVec
}

// newMetrics registers everything with r. The gauges that are read when asked look at s.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		leader:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "rampart_leader", Help: "1 while this replica leads."}),
		revision:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "rampart_etcd_applied_revision", Help: "Newest etcd revision that this replica serves."}),
		lag:        prometheus.NewHistogram(prometheus.HistogramOpts{Name: "rampart_etcd_lag_seconds", Help: "From a save of this leader to its arrival through the watch.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}),
		beats:      prometheus.NewCounter(prometheus.CounterOpts{Name: "rampart_leader_beats_total", Help: "Proofs of life this replica wrote as leader."}),
		beatAt:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "rampart_leader_last_beat_timestamp_seconds", Help: "When this replica last wrote its proof of life."}),
		rollbacks:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rampart_rollbacks_total", Help: "Rollbacks, whoever began them, by service and cause."}, []string{"service", "cause"}),
		decisions:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rampart_decisions_total", Help: "Decisions saved, by service and event."}, []string{"service", "event"}),
		evidence:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rampart_evidence_log", Help: "Natural logarithm of the evidence against the candidate."}, []string{"service"}),
		steps:      prometheus.NewHistogram(prometheus.HistogramOpts{Name: "rampart_step_confirm_seconds", Help: "From the save of a weight to its confirmation by the proxies.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}),
		releases:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rampart_release_seconds", Help: "How long releases took, by result.", Buckets: prometheus.ExponentialBuckets(1, 2, 16)}, []string{"result"}),
		pushes:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rampart_xds_responses_total", Help: "xDS responses sent, by type."}, []string{"type"}),
		pushToAck:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "rampart_xds_ack_seconds", Help: "From a response to its ACK.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rampart_xds_rejections_total", Help: "xDS responses that proxies rejected, by type."}, []string{"type"}),
		heartbeats: prometheus.NewCounter(prometheus.CounterOpts{Name: "rampart_xds_heartbeats_total", Help: "Dead-man heartbeats sent to proxies."}),
		queries:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rampart_queries_total", Help: "Prometheus queries asked for both arms, by result."}, []string{"result"}),
		limits:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rampart_xds_limited_total", Help: "Streams that were ended because they asked for more than they may, or neither answered nor read for too long, by limit."}, []string{"limit"}),
	}
	m.pushed = map[string]prometheus.Counter{}
	for _, url := range []string{xds.ClusterType, xds.EndpointType, xds.ListenerType, xds.RouteType, xds.RuntimeType} {
		m.pushed[url] = m.pushes.WithLabelValues(typeLabel(url))
	}
	for limit := range limitFlags() { // an alert on a counter's increase needs it to be there before
		m.limits.WithLabelValues(limit)
	}
	m.routes.register(r)
	r.MustRegister(m.leader, m.revision, m.lag, m.beats, m.beatAt, m.rollbacks, m.decisions, m.evidence, m.steps, m.releases, m.pushes, m.pushToAck, m.rejections, m.heartbeats, m.queries, m.limits)
	return m
}

// watchProxies registers the gauges that are counted when they are read.
func (m *metrics) watchProxies(r prometheus.Registerer, s *Serving) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rampart_proxies_connected", Help: "Proxies connected to this replica."},
			func() float64 { return float64(s.xds.Connected()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rampart_proxies_waiting", Help: "Proxies that wait for their turn: to say what they have, or to be sent all clusters and endpoints."},
			func() float64 { return float64(s.xds.Waiting()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rampart_proxies_pending", Help: "Proxies that have not answered everything they were sent."},
			func() float64 { return float64(s.xds.Count().Pending) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rampart_proxies_rejecting", Help: "Proxies that hold a rejection."},
			func() float64 { return float64(s.xds.Count().Rejecting) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rampart_proxies_reporting", Help: "Proxies that are asked for load reports every turn, because a release runs."},
			func() float64 { return float64(s.collector.Pace().Fast) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rampart_proxies_reporting_slowly", Help: "Proxies that are asked for them seldom: a random part of a large fleet reports every turn."},
			func() float64 { return float64(s.collector.Pace().Slow) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rampart_alarms", Help: "Things someone must look at; `rampart why` names them."},
			func() float64 { return float64(len(s.alarms())) }),
	)
}

// xdsEvent counts what happens on streams.
func (m *metrics) xdsEvent(e xds.Event) {
	switch {
	case e.Kind == xds.ResponseSent && e.Heartbeat:
		m.heartbeats.Inc()
	case e.Kind == xds.ResponseSent && m.pushed[e.Type] != nil:
		m.pushed[e.Type].Inc()
	case e.Kind == xds.ResponseSent:
		m.pushes.WithLabelValues(typeLabel(e.Type)).Inc()
	case e.Kind == xds.ResponseAccepted:
		m.pushToAck.Observe(e.Took.Seconds())
	case e.Kind == xds.ResponseRejected:
		m.rejections.WithLabelValues(typeLabel(e.Type)).Inc()
	case e.Kind == xds.LimitExceeded:
		m.limits.WithLabelValues(e.Limit).Inc()
	}
}

// typeLabel is a type URL as a label. Clients may ask for types of any name, and must not make as many labels.
func typeLabel(url string) string {
	switch url {
	case xds.ClusterType, xds.EndpointType, xds.ListenerType, xds.RouteType, xds.RuntimeType:
		return url[strings.LastIndexByte(url, '.')+1:]
	}
	return "other"
}

func (m *metrics) followed(revision int64) { m.revision.Set(float64(revision)) }

func (m *metrics) leads(yes bool) {
	m.leader.Set(0)
	if yes {
		m.leader.Set(1)
	}
}

func (m *metrics) beat(at time.Time) {
	m.beats.Inc()
	m.beatAt.Set(float64(at.UnixMilli()) / 1000)
}

// cause is the kind of a rollback's reason: a label must not hold numbers or names.
func cause(reason string) string {
	for _, known := range []struct{ part, cause string }{
		{"(guard rail)", "guard rail"}, {"above its limit", "limit"}, {"too little evidence", "patience"},
		{"errors: ", "errors"}, {"gRPC statuses ", "errors"}, {"latency: ", "latency"}, {"share seen: ", "share seen"},
		{"; evidence ", "quality"}, // whatever the quantity is called
		{"the wish was changed", "wish"}, {"another replica", "latch"},
	} {
		if strings.Contains(reason, known.part) {
			return known.cause
		}
	}
	return "operator"
}

// unjudged takes a release that has ended out of the gauges.
func (m *metrics) unjudged(service string) { m.evidence.DeleteLabelValues(service) }

func (m *metrics) judged(service string, j policy.Judgement) {
	m.evidence.WithLabelValues(service).Set(j.Log)
}

// decided counts what the leader saved; served is nil when the service is no longer served.
func (m *metrics) decided(service string, h *store.Line, served *policy.Served) {
	m.decisions.WithLabelValues(service, h.Event).Inc()
	seconds, timed := h.Numbers["seconds"]
	switch {
	case timed && h.Event == "confirmed":
		m.steps.Observe(seconds)
	case timed && (h.Event == "committed" || h.Event == "rolled back"):
		m.releases.WithLabelValues(h.Event).Observe(seconds)
	case h.Event == "rolling back" && served != nil && served.Release != nil:
		m.rollbacks.WithLabelValues(service, cause(served.Release.Cause)).Inc()
	}
}

func (m *metrics) queried(result string) { m.queries.WithLabelValues(result).Inc() }

func (m *metrics) lagged(d time.Duration) { m.lag.Observe(d.Seconds()) }
