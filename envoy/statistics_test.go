package envoy

import (
	"math"
	"strings"
	"testing"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	prometheus "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

func TestTheTimesOfBothArmsAreReadOncePerFlush(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	s.flush(both(live(1003, 10, 7, 100, 119), candidate(102, 1, 0, 110))...)
	got := d.take()
	same(t, "live", got.Times.Live, *exactly([]int{7, 100, 119}))
	same(t, "candidate", got.Times.Candidate, *exactly([]int{0, 110}))
	if d.take().Times != nil {
		t.Error("a turn without statistics has times")
	}
	s.flush(both(live(1003, 10), candidate(102, 1))...)
	same(t, "idle", *d.take().Times, policy.Times{})
	if d.touched["edge-1"] < 3 {
		t.Errorf("statistics are no signs of life: %v", d.touched)
	}
}

func TestAStreamsFirstStatisticsOnlyTellWhereToCountFrom(t *testing.T) {
	d := newDesk(t)
	d.steadySender("edge-1", 40)
	if got := d.take(); got.Times != nil || got.Statuses != nil {
		t.Errorf("the first message counts: %+v", got.Times)
	}
	// The stream breaks, and what was flushed meanwhile is lost; counters have gone on.
	again := d.sends("edge-1", 40, both(live(2000, 500, 9, 9), candidate(900, 800, 9))...)
	if got := d.take(); got.Times != nil {
		t.Errorf("the first message of the second stream counts: %+v", got.Times)
	}
	again.flush(both(live(2001, 500, 9), candidate(901, 800, 9))...)
	same(t, "candidate", d.take().Times.Candidate, *exactly([]int{9}))
}

func TestStatisticsThatComeTwiceCountOnce(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	s.flush(both(live(1001, 10, 7), candidate(101, 1, 8))...)
	for range 3 {
		s.again(time.Millisecond, s.last)
	}
	same(t, "candidate", d.take().Times.Candidate, *exactly([]int{8}))
	if n := strings.Count(d.logged(), errDoubled.Error()); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestStatisticsOutOfOrderCountForNeitherArm(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	early := both(live(1001, 10, 7), candidate(101, 1, 8))
	s.flush(both(live(1002, 10, 7), candidate(102, 1, 8))...)
	d.take()
	s.flush(early...)
	if got := d.take(); got.Times != nil {
		t.Errorf("a message from the past counts: %+v", got.Times)
	}
}

func TestARestartedEnvoyCountsFromAnew(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	s.flush(both(live(3, 1, 7, 7), candidate(2, 2, 7))...) // without a new stream
	if got := d.take(); got.Times != nil {
		t.Errorf("counters went back, and it counts: %+v", got.Times)
	}
	s.flush(both(live(4, 1, 7), candidate(4, 3, 7))...)
	got := d.take()
	same(t, "live", got.Times.Live, *exactly([]int{7}))
	same(t, "candidate, one without an answer", got.Times.Candidate.Total(), 2)
}

func TestStatisticsOfAnEarlierReleaseCountForNone(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	s.flush(both(live(1001, 10, 7), candidate(101, 1, 8))...)
	next := wantShop()
	next[0].Release = "green-9"
	d.c.Want(next)
	s.flush(both(live(1002, 10, 7), candidate(102, 1, 8))...)
	if got := d.take(); got.Times != nil {
		t.Errorf("the first message of a release counts: %+v", got.Times)
	}
	s.flush(both(live(1003, 10, 7), candidate(103, 1, 8))...)
	same(t, "from then on", d.take().Times.Candidate.Total(), 1)
	d.c.Want(nil)
	s.flush(both(live(1004, 10, 7), candidate(104, 1, 8))...)
	same(t, "after the release", len(d.c.Take(d.clock(), nil)), 0)
}

// The counters of timeouts come for the first time when something times out.
func TestRequestsThatTimeOutAreSlow(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	hung := append(both(live(1001, 10, 7), candidate(120, 21)),
		counted("cluster.upstream_rq_timeout", greenArm, 20), counted("cluster.upstream_rq", greenArm, 20, labelCode, "504"),
		counted("cluster.canary.upstream_rq", greenArm, 20, labelCode, "504"), counted("cluster.canary.upstream_rq", greenArm, 80, labelCode, "200"))
	s.flush(hung...)
	got := d.take().Times
	same(t, "candidate", got.Candidate[judge.Buckets-1], 20)
	same(t, "all of it", got.Candidate.Total(), 20)
	same(t, "live", got.Live, *exactly([]int{7}))
}

func TestRequestsWithoutAnAnswerAreSlowAndThoseUnderWayAreNot(t *testing.T) {
	for name, c := range map[string]struct {
		arm    armStats
		sample uint64
		want   uint64
	}{
		"reset before the headers":    {armStats{change: [counters]uint64{completed: 20, failed: 20}}, 0, 20},
		"errors of the application":   {armStats{change: [counters]uint64{completed: 20, failed: 20}}, 20, 0},
		"long answers begin":          {armStats{change: [counters]uint64{completed: 20}}, 0, 0},
		"long answers end":            {armStats{change: [counters]uint64{}}, 20, 0},
		"timed out, long answers end": {armStats{change: [counters]uint64{completed: 5, failed: 5, timedOut: 5, timeouts: 5}}, 20, 5},
		"timed out in a try":          {armStats{change: [counters]uint64{completed: 5, failed: 5, timedOut: 5, tryTimeouts: 9}}, 0, 5},
		"timed out amid the body":     {armStats{change: [counters]uint64{timeouts: 5}}, 0, 5},
		"504 of the application":      {armStats{change: [counters]uint64{completed: 5, failed: 5, timedOut: 5}}, 5, 0},
	} {
		same(t, name, c.arm.unfinished(false, c.sample), c.want)
	}
}

func TestStatusesAreReadFromTheFirstOn(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	s.flush(append(both(live(1001, 10, 7), candidate(101, 1, 8)),
		counted("cluster.grpc.0", blueArm, 1), counted("cluster.grpc.8", greenArm, 3), counted("cluster.grpc.16", greenArm, 1), counted("cluster.grpc.17", greenArm, 9),
		counted("cluster.grpc.total", greenArm, 9), counted("cluster.grpc.", greenArm, 9), counted("cluster.grpc.8", "shop/red|blue", 9))...)
	got := d.take().Statuses
	want := policy.Statuses{}
	want.Live[0], want.Candidate[8], want.Candidate[16] = 1, 3, 1
	same(t, "statuses", *got, want)
	s.flush(both(live(1002, 10, 7), candidate(102, 1, 8))...)
	if got := d.take().Statuses; got != nil {
		t.Errorf("nothing came: %+v", got)
	}
}

func TestOneFlushInPiecesIsOneFlush(t *testing.T) {
	d := newDesk(t)
	d.c.Want(wantShop())
	s := d.sends("edge-1", 40, live(1000, 10, 5)...)
	s.send(time.Millisecond, &metricsv3.StreamMetricsMessage{EnvoyMetrics: candidate(100, 90, 5)})
	s.send(time.Millisecond, &metricsv3.StreamMetricsMessage{EnvoyMetrics: []*prometheus.MetricFamily{counted("cluster.grpc.8", greenArm, 1000)}})
	if got := d.take(); got.Statuses != nil || got.Times != nil && got.Times.Candidate.Total() > 0 {
		t.Errorf("what was counted before the stream counts: %+v %+v", got.Times, got.Statuses)
	}
}

func TestWhatIsNoStatisticIsNeverCounted(t *testing.T) {
	for name, bad := range map[string]*prometheus.MetricFamily{
		"not a number":      counted("cluster.canary.upstream_rq_xx", greenArm, math.NaN(), labelClass, "5"),
		"below zero":        counted("cluster.canary.upstream_rq_xx", greenArm, -5, labelClass, "5"),
		"2^63":              counted("cluster.canary.upstream_rq_xx", greenArm, 1<<63, labelClass, "5"),
		"infinite":          counted("cluster.canary.upstream_rq_completed", greenArm, math.Inf(1)),
		"no histogram":      hugeHistogram(),
		"no name":           {},
		"a counter of none": {Name: proto.String("cluster.canary.upstream_rq_completed"), Metric: []*prometheus.Metric{{}}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			s := d.steadySender("edge-1", 40)
			s.flush(append(both(live(1001, 10, 7), candidate(101, 1, 8)), bad)...)
			if got := d.take().Times; got != nil && (got.Candidate.Total() > 1 || got.Candidate[judge.Buckets-1] > 0) {
				t.Errorf("it counts: %+v", got.Candidate)
			}
			s.flush(both(live(1002, 10, 7), candidate(102, 1, 8))...)
			same(t, "goes on", d.take().Times.Candidate, *exactly([]int{8}))
		})
	}
}

// hugeHistogram has more in it than there can be.
func hugeHistogram() *prometheus.MetricFamily {
	f := timed("cluster.canary.upstream_rq_time", greenArm, 40, 5)
	f.Metric[0].Histogram.SampleCount = proto.Uint64(1 << 63)
	return f
}

func TestAProxysClockDoesNotMatter(t *testing.T) {
	d := newDesk(t)
	s := d.steadySender("edge-1", 40)
	for i, stamp := range []int64{5 * 3600 * 1000, -7 * 3600 * 1000, 0, math.MaxInt64 - 1} {
		s.stamp = stamp
		s.flush(both(live(1001+float64(i), 10, 7), candidate(101+float64(i), 1, 8))...)
		same(t, "candidate", d.take().Times.Candidate, *exactly([]int{8}))
	}
}

func TestAnOldEnvoysTimesAreReadByItsOwnRule(t *testing.T) {
	d := newDesk(t)
	d.c.Want(wantShop())
	for _, minor := range []uint64{37, 40} {
		node := map[uint64]string{37: "old", 40: "new"}[minor]
		arms := func(done float64, times ...int) []*prometheus.MetricFamily {
			return []*prometheus.MetricFamily{
				counted("cluster.upstream_rq_completed", blueArm, done), timed("cluster.upstream_rq_time", blueArm, minor, times...),
			}
		}
		s := d.sends(node, uint32(minor), arms(10)...)
		d.take()
		s.flush(arms(13, 3, 40, 200)...)
		got := d.take().Times.Live
		// The bins' bounds are known to both; the old one means less by most of what it is asked for.
		same(t, node, [3]uint64{got[3], got[24] + got[25], got[39] + got[40]}, [3]uint64{1, 1, 1})
	}
	if logged := d.logged(); !strings.Contains(logged, "proxy=old") || strings.Contains(logged, "proxy=new") {
		t.Errorf("only the old one's times are interpolated: %s", logged)
	}
}

func TestProxiesThatSendOnlyOneSideAreNotCompared(t *testing.T) {
	d := newDesk(t)
	d.c.Want(wantShop())
	s := d.sends("plain-1", 40, candidate(100, 1, 5)...)
	s.flush(candidate(101, 1, 5)...)
	if got := d.take().Times; got != nil {
		t.Errorf("green alone counts: %+v", got)
	}
	other := d.sends("edge-1", 40, live(100, 1, 5)...)
	other.flush(live(101, 1, 5)...)
	got := d.take().Times
	same(t, "blue without green", got.Live.Total()+got.Candidate.Total(), 1)
}

func TestProxiesOfOtherGatewaysDoNotCount(t *testing.T) {
	d := newDesk(t)
	d.c.Want(wantShop())
	node := nodeOf("far-1", 40)
	node.Cluster = "elsewhere"
	s := d.sendsFrom(node, both(live(1000, 10, 5), candidate(100, 1, 5))...)
	s.flush(both(live(1001, 10, 7), candidate(101, 1, 8))...)
	if got := d.take().Times; got != nil {
		t.Errorf("it counts: %+v", got)
	}
}

func TestAProxyWithoutTimelyStatisticsIsTimeless(t *testing.T) {
	d := newDesk(t)
	p := d.running("edge-1")
	report := func() policy.Reading {
		d.pass(250 * time.Millisecond)
		p.report(policy.Counts{OK: 5}, policy.Counts{OK: 1}, 250*time.Millisecond)
		return d.take()
	}
	same(t, "none ever came", report().Timeless, 1)
	s := d.sends("edge-1", 40)
	same(t, "they come, and it had little traffic yet", report().Timeless, 0)
	for range 7 {
		s.flush()
		report()
	}
	same(t, "they come, but not those of the arms", report().Timeless, 1)
	s.flush(both(live(1001, 10, 7), candidate(101, 1, 8))...)
	same(t, "they come", report().Timeless, 0)
	for range 4 {
		report()
	}
	same(t, "a second of silence", report().Timeless, 0)
	for range 6 {
		report()
	}
	same(t, "more than three flushes of silence", report().Timeless, 1)
	if err := s.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	d.until("the stream to end", func() bool { return strings.Contains(d.logged(), "statistics have ended") })
	same(t, "gone", report().Timeless, 1)
}

func TestAStreamOfStatisticsMustNameItsNode(t *testing.T) {
	d := newDesk(t)
	stream, err := metricsv3.NewMetricsServiceClient(d.conn).StreamMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&metricsv3.StreamMetricsMessage{}); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&metricsv3.StreamMetricsResponse{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestAPanicOverStatisticsEndsOnlyItsStream(t *testing.T) {
	d := newDesk(t)
	one, two := d.steadySender("edge-1", 40), d.steadySender("edge-2", 40)
	d.mu.Lock()
	d.bomb = "edge-1"
	d.mu.Unlock()
	if err := one.stream.Send(&metricsv3.StreamMetricsMessage{}); err != nil {
		t.Fatal(err)
	}
	if err := one.stream.RecvMsg(&metricsv3.StreamMetricsResponse{}); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	two.flush(both(live(1001, 10, 7), candidate(101, 1, 8))...)
	same(t, "the other goes on", d.take().Times.Candidate.Total(), 1)
}
