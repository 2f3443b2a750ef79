package envoy

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rampart-proxy/rampart/policy"
)

// desk is a collector behind a real gRPC server, with a clock that stands still unless moved.
type desk struct {
	t    *testing.T
	c    *Collector
	conn *grpc.ClientConn
	log  *strings.Builder // guarded by mu

	mu      sync.Mutex
	now     time.Time      // guarded by mu
	touched map[string]int // guarded by mu
	bomb    string         // guarded by mu: touching this node panics
}

func newDesk(t *testing.T) *desk {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	d := &desk{t: t, now: time.Unix(1000, 0), touched: map[string]int{}, log: &strings.Builder{}}
	d.c = NewCollector(CollectorConfig{Now: d.clock, Touch: d.touch, Log: slog.New(slog.NewTextHandler(d, nil))})
	server := grpc.NewServer(grpc.ForceServerCodecV2(Codec()))
	d.c.Register(server)
	listener := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:desk", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	d.conn = conn
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	return d
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *desk) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func (d *desk) touch(node string, _ time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touched[node]++
	if node == d.bomb {
		panic("bomb")
	}
}

// Write is the log's.
func (d *desk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(p)
}

func (d *desk) logged() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// until waits for a condition.
func (d *desk) until(what string, holds func() bool) {
	d.t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			d.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// proxy is one scripted Envoy's stream.
type proxy struct {
	d      *desk
	node   string
	stream grpc.BidiStreamingClient[loadstatsv3.LoadStatsRequest, loadstatsv3.LoadStatsResponse]
}

// connect opens a stream and returns it with the first order.
func (d *desk) connect(node string) (*proxy, *loadstatsv3.LoadStatsResponse) {
	d.t.Helper()
	stream, err := loadstatsv3.NewLoadReportingServiceClient(d.conn).StreamLoadStats(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	p := &proxy{d: d, node: node, stream: stream}
	p.send()
	return p, p.order()
}

func (p *proxy) order() *loadstatsv3.LoadStatsResponse {
	p.d.t.Helper()
	response, err := p.stream.Recv()
	if err != nil {
		p.d.t.Fatal(err)
	}
	return response
}

func (p *proxy) send(stats ...*endpointv3.ClusterStats) {
	p.d.t.Helper()
	if err := p.stream.Send(&loadstatsv3.LoadStatsRequest{Node: &corev3.Node{Id: p.node, Cluster: "edge"}, ClusterStats: stats}); err != nil {
		p.d.t.Fatal(err)
	}
}

// report sends a report of both pools of shop and waits until it has been read.
func (p *proxy) report(live, candidate policy.Counts, interval time.Duration) {
	p.d.t.Helper()
	p.say(statsOf("shop/blue", live, interval), statsOf("shop/green", candidate, interval))
}

func (p *proxy) say(stats ...*endpointv3.ClusterStats) {
	p.d.t.Helper()
	read := func() time.Time {
		p.d.c.mu.Lock()
		defer p.d.c.mu.Unlock()
		var last time.Time
		for s := range p.d.c.streams {
			if s.node == p.node && s.heard.After(last) {
				last = s.heard
			}
		}
		return last
	}
	p.d.pass(time.Microsecond) // so that it is seen to have been read
	p.send(stats...)
	now := p.d.clock()
	p.d.until("the report to be read", func() bool { return read().Equal(now) })
}

func wantShop() []Wanted {
	return []Wanted{{
		Service: "shop", Release: "green-7", Gateways: []string{"edge"}, Metrics: []string{"named_metrics.speed", "named_metrics.quality"},
		LivePool: "shop/blue", CandidatePool: "shop/green", LiveArm: "shop/blue|none", CandidateArm: "shop/green|blue",
	}}
}

func (d *desk) take() policy.Reading {
	return d.c.Take(d.clock(), func(string, string) bool { return true })["shop"]
}

func TestReportsAreAskedForOnlyWhileAReleaseRuns(t *testing.T) {
	d := newDesk(t)
	p, order := d.connect("edge-1")
	same(t, "at rest", len(order.GetClusters()), 0)
	same(t, "interval at rest", order.GetLoadReportingInterval().AsDuration(), time.Hour)
	d.c.Want(wantShop())
	d.c.Want(wantShop())
	order = p.order()
	same(t, "running", order.GetClusters(), []string{"shop/blue", "shop/green"})
	same(t, "interval running", order.GetLoadReportingInterval().AsDuration(), 250*time.Millisecond)
	other := append(wantShop(), Wanted{Service: "other", LivePool: "other/a", CandidatePool: "other/b", Gateways: []string{"far away"}})
	d.c.Want(other) // of another gateway: nothing to say here
	d.c.Want(nil)
	order = p.order()
	same(t, "at rest again", order.GetClusters(), []string{})
	same(t, "interval at rest again", order.GetLoadReportingInterval().AsDuration(), time.Hour)
	same(t, "readings at rest", len(d.c.Take(d.clock(), nil)), 0)
}

// running connects a proxy that is asked about shop and has sent its first report.
func (d *desk) running(node string) *proxy {
	d.t.Helper()
	d.c.Want(wantShop())
	p, order := d.connect(node)
	same(d.t, "order", order.GetClusters(), []string{"shop/blue", "shop/green"})
	p.report(policy.Counts{}, policy.Counts{}, 100*time.Millisecond)
	d.take()
	return p
}

func TestAReadingIsTheSumOfAllReports(t *testing.T) {
	d := newDesk(t)
	one, two := d.running("edge-1"), d.running("edge-2")
	live, candidate := policy.Counts{OK: 30, Errors: 1, Issued: 31}, policy.Counts{OK: 9, Errors: 3, Issued: 12}
	one.report(live, candidate, 251*time.Millisecond)
	two.report(live, candidate, 249*time.Millisecond)
	got := d.take()
	same(t, "live", got.Live, live.Add(live))
	same(t, "candidate", got.Candidate, candidate.Add(candidate))
	same(t, "reporting", got.Reporting, 2)
	if got.Unsettled {
		t.Error("unsettled")
	}
	same(t, "taken twice", d.take().Live, policy.Counts{})
	if d.touched["edge-1"] < 3 {
		t.Errorf("reports do not count as signs of life: %v", d.touched)
	}
}

func TestTheFirstReportOfAListedOrChangedClusterIsUnsettled(t *testing.T) {
	d := newDesk(t)
	d.c.Want(wantShop())
	p, _ := d.connect("edge-1")
	d.pass(250 * time.Millisecond)
	p.report(policy.Counts{OK: 5}, policy.Counts{Errors: 5}, 250*time.Millisecond)
	got := d.take()
	same(t, "counts for the guard rail", got.Candidate.Errors, 5)
	same(t, "unsettled", got.Unsettled, true)
	same(t, "not steady", got.SteadyLive, policy.Counts{})
	d.pass(250 * time.Millisecond)
	p.report(policy.Counts{OK: 5}, policy.Counts{}, 250*time.Millisecond)
	same(t, "settled", d.take().Unsettled, false)
	changed := wantShop()
	changed[0].Settled = 9
	d.c.Want(changed)
	d.pass(250 * time.Millisecond)
	p.report(policy.Counts{OK: 5}, policy.Counts{}, 250*time.Millisecond)
	same(t, "endpoints changed", d.take().Unsettled, true)
	d.pass(250 * time.Millisecond)
	p.report(policy.Counts{OK: 6}, policy.Counts{}, 250*time.Millisecond)
	same(t, "settled again", d.take().Unsettled, false)
}

func TestWhatCannotBeTrueIsNeverCounted(t *testing.T) {
	d := newDesk(t)
	p := d.running("edge-1")
	d.pass(250 * time.Millisecond)
	p.report(policy.Counts{OK: 5}, policy.Counts{}, 251*time.Millisecond)
	p.report(policy.Counts{OK: 5}, policy.Counts{}, 251*time.Millisecond) // doubled
	p.report(policy.Counts{OK: 1 << 62}, policy.Counts{}, 252*time.Millisecond)
	p.report(policy.Counts{OK: 1<<64 - 1}, policy.Counts{}, 252*time.Millisecond) // below zero
	p.report(policy.Counts{OK: 3}, policy.Counts{}, -time.Second)
	p.say(statsOf("shop/red", policy.Counts{OK: 100}, 252*time.Millisecond)) // not asked for
	same(t, "live", d.take().Live, policy.Counts{OK: 5})
	for _, reason := range []string{errCount.Error(), errInterval.Error(), errDoubled.Error()} {
		if n := strings.Count(d.logged(), reason); n != 1 {
			t.Errorf("%q is logged %d times", reason, n)
		}
	}
	// An even stream of requests gives equal counts, and is no repetition.
	for range 3 {
		d.pass(251 * time.Millisecond)
		p.report(policy.Counts{OK: 5}, policy.Counts{}, 251*time.Millisecond)
	}
	same(t, "even", d.take().Live, policy.Counts{OK: 15})
}

func TestWhatIsLeftOfAnEarlierReleaseIsNotCounted(t *testing.T) {
	d := newDesk(t)
	p := d.running("edge-1")
	p.report(policy.Counts{OK: 5}, policy.Counts{Errors: 50}, 251*time.Millisecond)
	next := wantShop()
	next[0].Release = "green-9"
	d.c.Want(next)
	same(t, "reading", d.take().Candidate, policy.Counts{})
}

func TestTwoProxiesWithOneIDAreTwo(t *testing.T) {
	d := newDesk(t)
	d.running("edge-1")
	d.running("edge-1")
	same(t, "reporting", len(d.c.Reporting("shop", d.clock())), 2)
	same(t, "reading", d.take().Reporting, 2)
}

func TestAProxyThatFallsSilentOrLeavesIsMissing(t *testing.T) {
	d := newDesk(t)
	one, _ := d.running("edge-1"), d.running("edge-2")
	d.pass(700 * time.Millisecond)
	one.report(policy.Counts{}, policy.Counts{}, 250*time.Millisecond)
	same(t, "both within three intervals", len(d.c.Reporting("shop", d.clock())), 2)
	d.pass(100 * time.Millisecond)
	heard := d.c.Reporting("shop", d.clock())
	if _, still := heard["edge-2"]; still || len(heard) != 1 {
		t.Errorf("reporting: %v", heard)
	}
	if err := one.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	d.until("it to be gone", func() bool { return len(d.c.Reporting("shop", d.clock())) == 0 })
}

func TestAStreamMustNameItsNode(t *testing.T) {
	d := newDesk(t)
	stream, err := loadstatsv3.NewLoadReportingServiceClient(d.conn).StreamLoadStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&loadstatsv3.LoadStatsRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestAPanicEndsOnlyItsStream(t *testing.T) {
	d := newDesk(t)
	one, two := d.running("edge-1"), d.running("edge-2")
	d.mu.Lock()
	d.bomb = "edge-1"
	d.mu.Unlock()
	one.send()
	if _, err := one.stream.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	two.report(policy.Counts{OK: 3}, policy.Counts{}, 250*time.Millisecond)
	same(t, "the other goes on", d.take().Live, policy.Counts{OK: 3})
}
