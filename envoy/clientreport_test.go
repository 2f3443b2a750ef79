package envoy

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"

	"github.com/rampart-proxy/rampart/policy"
)

// client opens a stream as a gRPC client does, which names itself once.
func (d *desk) client(node string) *proxy {
	d.t.Helper()
	stream, err := loadstatsv3.NewLoadReportingServiceClient(d.conn).StreamLoadStats(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	first := &loadstatsv3.LoadStatsRequest{Node: &corev3.Node{Id: node, Cluster: "edge", UserAgentName: "gRPC Go"}}
	if err := stream.Send(first); err != nil {
		d.t.Fatal(err)
	}
	d.until("the stream is known", func() bool {
		d.c.mu.Lock()
		defer d.c.mu.Unlock()
		return d.c.stations[node] != nil
	})
	return &proxy{d: d, node: node, stream: stream}
}

// reporting is a client that was asked and has sent its first reports.
func (d *desk) reporting(node string) *proxy {
	d.t.Helper()
	d.c.Want(wantShop())
	p := d.client(node)
	p.order()
	p.report(policy.Counts{}, policy.Counts{}, 100*time.Millisecond)
	p.report(policy.Counts{OK: 1, Issued: 1}, policy.Counts{}, 250*time.Millisecond)
	d.take()
	return p
}

// grpc-go takes the first order of a stream and no other.
func TestAGRPCClientIsOrderedOncePerStreamAndOnlyWhileAReleaseRuns(t *testing.T) {
	d := newDesk(t)
	p := d.client("app-1")
	d.c.Want(wantShop())
	order := p.order()
	if !order.GetSendAllClusters() || order.GetLoadReportingInterval().AsDuration() != 250*time.Millisecond {
		t.Errorf("the first order: %v", order)
	}
	more := append(wantShop(), Wanted{Service: "other", Release: "b-9", LivePool: "other/a", CandidatePool: "other/b", Gateways: []string{"edge"}})
	d.c.Want(more)
	p.report(policy.Counts{}, policy.Counts{}, time.Hour)
	d.c.Want(wantShop())
	p.report(policy.Counts{OK: 3, Issued: 3}, policy.Counts{}, 250*time.Millisecond)
	same(t, "counted on", d.take().Live, policy.Counts{OK: 3, Issued: 3})
	d.c.Want(nil)
	p.send()
	if order, err := p.stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the release it was told %v, %v: want the end of the stream", order, err)
	}
	d.until("the stream is gone", func() bool {
		d.c.mu.Lock()
		defer d.c.mu.Unlock()
		return len(d.c.streams) == 0
	})
}

// What a client counted while it was not asked comes with the first report, however old.
func TestTheFirstReportOfAGRPCClientIsOfAnyTimeAndNotCounted(t *testing.T) {
	d := newDesk(t)
	d.c.Want(wantShop())
	p := d.client("app-1")
	p.order()
	p.report(policy.Counts{OK: 90, Issued: 100}, policy.Counts{Errors: 50, Issued: 50}, time.Hour)
	got := d.take()
	same(t, "first", got.Live.Add(got.Candidate), policy.Counts{})
	p.report(policy.Counts{OK: 9, Issued: 10}, policy.Counts{Errors: 1, Issued: 1}, 250*time.Millisecond)
	got = d.take()
	same(t, "live", got.Live, policy.Counts{OK: 9, Issued: 10})
	same(t, "candidate", got.Candidate, policy.Counts{Errors: 1, Issued: 1})
	same(t, "of them without times", []uint64{got.UntimedLive, got.UntimedCandidate}, []uint64{9, 1})
	same(t, "the next is steady", func() policy.Counts {
		p.report(policy.Counts{OK: 2, Issued: 2}, policy.Counts{}, 250*time.Millisecond)
		return d.take().SteadyLive
	}(), policy.Counts{OK: 2, Issued: 2})
}

// A client cannot send statistics, and tells only of what it has sent requests to.
func TestAGRPCClientIsNeitherTimelessNorAnEnvoyThatReports(t *testing.T) {
	d := newDesk(t)
	p := d.reporting("app-1")
	got := d.take()
	same(t, "reporting, timeless, untimed", []int{got.Reporting, got.Timeless, got.Untimed}, []int{0, 0, 1})
	same(t, "reporting Envoys", len(d.c.Reporting("shop", d.clock())), 0)
	same(t, "heard", d.c.Hears("app-1", d.clock()), true)
	same(t, "heard of another", d.c.Hears("app-2", d.clock()), false)
	d.pass(time.Second)
	same(t, "silent", d.c.Hears("app-1", d.clock()), false)
	p.say()
	same(t, "heard, with nothing to tell", d.c.Hears("app-1", d.clock()), true)
	idle := newDesk(t)
	idle.c.Want(wantShop())
	q := idle.client("app-1")
	q.order()
	q.say()
	q.say()
	same(t, "one that does not use the service", idle.take().Untimed, 0)
}

func TestGRPCClientsDoNotSlowTheFleetDown(t *testing.T) {
	d := newDesk(t)
	d.c.mu.Lock()
	d.c.pace = newPace(300_000) // one Envoy's reports
	d.c.mu.Unlock()
	d.c.Want(wantShop())
	for i := range 5 {
		same(t, "order", d.client(fmt.Sprintf("app-%d", i)).order().GetLoadReportingInterval().AsDuration(), fastest)
	}
	same(t, "interval", d.c.Interval(), fastest)
}
