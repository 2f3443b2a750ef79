package envoy

import (
	"math"
	"strings"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

func TestTriesInProgressAreTheNewestLevelsOfProxiesThatAreHeardOf(t *testing.T) {
	d := newDesk(t)
	one, two := d.running("edge-1"), d.running("edge-2")
	level := func(live, candidate uint64) []*endpointv3.ClusterStats {
		blue, green := statsOf("shop/blue", policy.Counts{}, 250*time.Millisecond), statsOf("shop/green", policy.Counts{}, 250*time.Millisecond)
		blue.UpstreamLocalityStats[0].TotalRequestsInProgress = live
		green.UpstreamLocalityStats[0].TotalRequestsInProgress = candidate
		return []*endpointv3.ClusterStats{blue, green}
	}
	one.say(level(100, 50)...)
	one.say(level(4, 7)...)
	two.say(level(1, 2)...)
	got := d.take()
	same(t, "live", got.LiveActive, 5)
	same(t, "candidate", got.CandidateActive, 9)
	same(t, "levels do not add up", d.take().CandidateActive, 9)
	d.pass(600 * time.Millisecond)
	two.say(statsOf("shop/blue", policy.Counts{}, 250*time.Millisecond)) // nothing is in progress on green
	got = d.take()
	same(t, "none left", got.CandidateActive, 7)
	d.pass(200 * time.Millisecond)
	same(t, "a proxy that is not heard of", d.take().CandidateActive, 0)
}

func TestSamplesOfMetricsAddUpAsTheyAreWanted(t *testing.T) {
	d := newDesk(t)
	one, two := d.running("edge-1"), d.running("edge-2")
	d.take()
	for _, p := range []*proxy{one, two} {
		p.report(policy.Counts{OK: 3}, policy.Counts{OK: 2}, 251*time.Millisecond)
	}
	got := d.take().Quality
	sum := judge.Sample{Sum: 3, Count: 4} // of two proxies, as statsOf has it
	same(t, "as wanted", got, []policy.ArmSamples{{}, {Live: sum, Candidate: sum}})
	if got := d.take().Quality; len(got) > 0 {
		t.Errorf("nothing came: %v", got)
	}
}

func TestWhatIsNoSampleIsLeftOutAndNotTakenForZero(t *testing.T) {
	d := newDesk(t)
	p := d.running("edge-1")
	d.take()
	green := statsOf("shop/green", policy.Counts{OK: 9}, 251*time.Millisecond)
	sample := func(name string, n uint64, sum float64) *endpointv3.EndpointLoadMetricStats {
		return &endpointv3.EndpointLoadMetricStats{MetricName: name, NumRequestsFinishedWithMetric: n, TotalMetricValue: sum}
	}
	green.UpstreamLocalityStats[0].LoadMetricStats = []*endpointv3.EndpointLoadMetricStats{
		sample("named_metrics.quality", 3, math.NaN()), sample("named_metrics.quality", 3, math.Inf(-1)), sample("named_metrics.quality", 3, 1e300),
		sample("named_metrics.quality", 1<<63, 1), sample("named_metrics.quality", 0, 0), sample("named_metrics.unasked", 1, 1), sample("named_metrics.speed", 2, -5),
	}
	p.say(statsOf("shop/blue", policy.Counts{OK: 1}, 251*time.Millisecond), green)
	got := d.take()
	same(t, "the counts", got.Candidate, policy.Counts{OK: 9})
	same(t, "speed", got.Quality[0].Candidate, judge.Sample{Sum: -5, Count: 2})
	same(t, "quality", got.Quality[1], policy.ArmSamples{Live: judge.Sample{Sum: 1.5, Count: 2}})
	if n := strings.Count(d.logged(), errSample.Error()); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestAReadingTellsWhatEachProxyIssued(t *testing.T) {
	d := newDesk(t)
	one, two, twin := d.running("edge-1"), d.running("edge-2"), d.running("edge-2")
	steady := func(_, node string) bool { return node == "edge-1" }
	d.c.Take(d.clock(), steady)
	d.pass(250 * time.Millisecond)
	for _, p := range []*proxy{one, two, twin} {
		p.report(policy.Counts{OK: 5, Issued: 6}, policy.Counts{OK: 1, Issued: 2}, 251*time.Millisecond)
	}
	got := d.c.Take(d.clock(), steady)["shop"].Proxies
	same(t, "proxies", got, []policy.ProxyReading{
		{Proxy: "edge-1", Live: 6, Candidate: 2, Steady: true}, {Proxy: "edge-2", Live: 6, Candidate: 2}, {Proxy: "edge-2#2", Live: 6, Candidate: 2},
	})
}

// blind connects an Envoy 1.38, whose load reports leave out refused connections while nothing else is tried.
func (d *desk) blind(node string, minor uint32) (*proxy, *sender) {
	d.t.Helper()
	d.c.Want(wantShop())
	stream, err := loadstatsv3.NewLoadReportingServiceClient(d.conn).StreamLoadStats(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	p := &proxy{d: d, node: node, stream: stream}
	if err := stream.Send(&loadstatsv3.LoadStatsRequest{Node: nodeOf(node, minor)}); err != nil {
		d.t.Fatal(err)
	}
	p.order()
	p.report(policy.Counts{}, policy.Counts{}, 100*time.Millisecond)
	d.take()
	return p, d.sends(node, minor)
}

func TestRefusedConnectionsThatNoReportHasAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		minor                 uint32
		before, after, later  uint64 // errors of the reports around the flush
		wantErrors, wantTries uint64
	}{
		"none reported":                       {38, 0, 0, 0, 5, 5},
		"all reported before":                 {38, 5, 0, 0, 5, 0},
		"all reported in the next report":     {38, 0, 5, 0, 5, 0},
		"some reported":                       {38, 2, 1, 0, 5, 2},
		"other errors, too":                   {38, 9, 0, 0, 9, 0},
		"errors of a later time do not count": {38, 0, 0, 7, 12, 5},
		"a newer Envoy reports them itself":   {40, 0, 0, 0, 0, 0},
		"an older one":                        {36, 0, 0, 0, 5, 5},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			p, s := d.blind("edge-1", c.minor)
			var sum policy.Reading
			tries := uint64(0)
			report := func(errors uint64) {
				d.pass(250 * time.Millisecond)
				p.report(policy.Counts{}, policy.Counts{Errors: errors}, 250*time.Millisecond)
				reading := d.take()
				sum.Candidate = sum.Candidate.Add(reading.Candidate)
				for _, one := range reading.Proxies {
					tries += one.Candidate
				}
			}
			s.flush()
			report(c.before)
			s.flush(counted("cluster.upstream_rq_pending_failure_eject", "shop/green", 5))
			report(c.after)
			report(c.later)
			s.flush(counted("cluster.upstream_rq_pending_failure_eject", "shop/green", 5))
			report(0)
			same(t, "errors", sum.Candidate.Errors, c.wantErrors)
			same(t, "tries", tries, c.wantTries)
		})
	}
}

func TestRefusedConnectionsOfBeforeOrOfNobodyInParticularDoNotCount(t *testing.T) {
	d := newDesk(t)
	p, _ := d.blind("edge-1", 38)
	again := d.sends("edge-1", 38, counted("cluster.upstream_rq_pending_failure_eject", "shop/green", 500)) // a stream's first
	again.send(time.Millisecond, again.last)                                                                // and more of it
	d.pass(250 * time.Millisecond)
	p.report(policy.Counts{}, policy.Counts{}, 250*time.Millisecond)
	same(t, "of before", d.take().Candidate.Errors, 0)

	one, s := d.blind("twin", 38)
	d.blind("twin", 38)
	s.flush(counted("cluster.upstream_rq_pending_failure_eject", "shop/green", 5))
	d.pass(250 * time.Millisecond)
	one.report(policy.Counts{}, policy.Counts{}, 250*time.Millisecond)
	same(t, "of one of two", d.take().Candidate.Errors, 0)
}
