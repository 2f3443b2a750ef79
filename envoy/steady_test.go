package envoy

import (
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

func TestOnlySteadyProxiesCountTowardsTheShareSeen(t *testing.T) {
	d := newDesk(t)
	one, two := d.running("edge-1"), d.running("edge-2")
	steady := func(_, node string) bool { return node == "edge-1" }
	d.c.Take(d.clock(), steady)
	d.pass(250 * time.Millisecond)
	one.report(policy.Counts{OK: 5, Issued: 5}, policy.Counts{OK: 1, Issued: 1}, 251*time.Millisecond)
	two.report(policy.Counts{OK: 7, Issued: 7}, policy.Counts{}, 251*time.Millisecond)
	got := d.c.Take(d.clock(), steady)["shop"]
	same(t, "all", got.Live.Issued, 12)
	same(t, "steady", got.SteadyLive.Issued, 5)
	// After a reconnection the first report covers the whole gap.
	d.pass(5 * time.Second)
	one.report(policy.Counts{OK: 50, Issued: 50}, policy.Counts{}, 5*time.Second)
	got = d.c.Take(d.clock(), steady)["shop"]
	same(t, "a long report counts", got.Live.Issued, 50)
	same(t, "but not as steady", got.SteadyLive.Issued, 0)
}

// What was held up on its way tells of weights that its proxy may not have any more.
func TestReportsThatComeLateAreNotSteady(t *testing.T) {
	d := newDesk(t)
	p := d.running("edge-1")
	d.take()
	counted := time.Duration(0)
	steady := func(passed time.Duration, want uint64) {
		t.Helper()
		d.pass(passed)
		counted++
		p.report(policy.Counts{OK: 5, Issued: 5}, policy.Counts{}, 250*time.Millisecond+counted) // none is like another
		got := d.take()
		same(t, "counts", got.Live.Issued, 5)
		same(t, "steady", got.SteadyLive.Issued, want)
	}
	steady(250*time.Millisecond, 5)
	steady(450*time.Millisecond, 5) // a little is allowed for
	steady(50*time.Millisecond, 5)
	steady(2250*time.Millisecond, 0) // nothing was read for two seconds: eight reports wait
	for range 6 {
		steady(0, 0)
	}
	steady(0, 5)
	steady(0, 5)
	steady(250*time.Millisecond, 5)
	steady(2250*time.Millisecond, 0) // one is missing: that is forgotten in time
	for range 300 {
		d.pass(250 * time.Millisecond)
		p.report(policy.Counts{OK: 1}, policy.Counts{}, 250*time.Millisecond)
	}
	d.take()
	steady(250*time.Millisecond, 5)
}

func TestASlowReportIsSteadyOnlyIfItsProxyWasAllAlong(t *testing.T) {
	d := newDesk(t)
	tl := tally{nodes: map[uint64]*share{1: {node: "edge-1", interval: time.Second, live: policy.Counts{Issued: 5}}}}
	now := d.clock()
	for ago, want := range map[time.Duration]uint64{500 * time.Millisecond: 0, 800 * time.Millisecond: 5} {
		got := tl.reading(policy.Reading{}, now, map[string]time.Time{"edge-1": now.Add(-ago)}, nil)
		same(t, ago.String(), got.SteadyLive.Issued, want)
	}
	held := func(steady bool) map[string]time.Time {
		d.pass(250 * time.Millisecond)
		return d.c.hold("shop", []string{"edge-1"}, d.clock(), func(string) bool { return steady })
	}
	since := held(true)["edge-1"]
	same(t, "goes on", held(true)["edge-1"], since)
	same(t, "broken", len(held(false)), 0)
	same(t, "from then on", held(true)["edge-1"], d.clock())
}
