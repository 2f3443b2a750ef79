package envoy

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
)

func TestALargeFleetIsPartedAndDoesNotFlap(t *testing.T) {
	p := newPace(0)
	for _, step := range []struct {
		proxies int
		fast    time.Duration
		parted  bool
		slow    time.Duration
	}{
		{3, fastest, false, quickRest}, {81, fastest, false, quickRest}, {82, slowestFast, false, quickRest}, {80, slowestFast, false, quickRest},
		{60, fastest, false, quickRest}, {163, slowestFast, false, quickRest}, {164, slowestFast, true, quickRest}, {132, slowestFast, true, quickRest},
		{131, slowestFast, false, quickRest}, {1000, slowestFast, true, 2 * quickRest}, {10000, slowestFast, true, 16 * quickRest}, {1000, slowestFast, true, 2 * quickRest},
	} {
		p.set(step.proxies)
		if p.fast != step.fast || p.parted != step.parted || p.slow != step.slow {
			t.Errorf("%d proxies: %+v, want %+v", step.proxies, p, step)
		}
	}
}

func TestWhatIsReadStaysWithinTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPace(rapid.IntRange(20*nodeBytes, 1e9).Draw(t, "budget"))
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 20000), 1, 10).Draw(t, "proxies") {
			p.set(n)
			fast := min(n, p.sample())
			if read := load(fast, p.fast) + load(n-fast, p.slow); read > 1.01*p.budget {
				t.Fatalf("%d proxies, %d of them fast: %.0f bytes a second, %+v", n, fast, read, p)
			}
			p.set(max(0, n-1))
			p.set(n)
			settled := p
			if p.set(max(0, n-1)); p != settled {
				t.Fatalf("%d proxies, and one less again and again: %+v and %+v", n, settled, p)
			}
		}
	})
}

func TestSmallGatewaysAreNotLostInTheSampleOfLargeOnes(t *testing.T) {
	size := func(n int) *roster { return &roster{streams: make([]*reportStream, n)} }
	same(t, "shares", shares(131, []*roster{size(5000), size(3), size(60), size(0), size(400)}), []int{43, 3, 42, 0, 43})
	same(t, "more gateways than the sample is large", shares(1, []*roster{size(9), size(9)}), []int{1, 1})
	same(t, "no gateway", shares(5, nil), []int{})
}

// small is a desk whose budget is for ten proxies at 500 ms, or a sample of eight.
func small(t *testing.T) *desk {
	d := newDesk(t)
	d.c.pace = newPace(10 * 2 * nodeBytes)
	return d
}

// fleet connects proxies while a release runs, and returns each with the last order it got.
func (d *desk) fleet(n int) (proxies []*proxy, asked func() map[string]time.Duration) {
	d.t.Helper()
	for i := range n {
		p, _ := d.connect(fmt.Sprintf("edge-%02d", i))
		proxies = append(proxies, p)
	}
	return proxies, d.asked
}

// asked are the orders that were sent, by node.
func (d *desk) asked() map[string]time.Duration {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	orders := map[string]time.Duration{}
	for s := range d.c.streams {
		orders[s.node] = s.asked
	}
	return orders
}

// quick are the nodes that were asked to report fast, sorted.
func quick(orders map[string]time.Duration) (nodes []string) {
	for node, interval := range orders {
		if interval == slowestFast {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// parted is met when eight were asked to report fast and all others seldom.
func parted(asked func() map[string]time.Duration) func() bool {
	return func() bool {
		fast, slow := 0, 0
		orders := asked()
		for _, interval := range orders {
			switch {
			case interval == slowestFast:
				fast++
			case interval >= quickRest/2 && interval < atRest:
				slow++
			}
		}
		return fast == 8 && fast+slow == len(orders)
	}
}

func TestOfALargeFleetARandomPartReportsFastAndTheRestSpreadOverTime(t *testing.T) {
	d := small(t)
	d.c.Want(wantShop())
	_, asked := d.fleet(24)
	d.until("all to be told", parted(asked))
	rest := map[time.Duration]bool{}
	for node, interval := range asked() {
		if interval == slowestFast {
			continue
		}
		rest[interval] = true
		if interval < quickRest*3/4 || interval > quickRest*5/4 {
			t.Errorf("%s is asked every %s", node, interval)
		}
	}
	if len(rest) < 12 {
		t.Errorf("16 proxies report at %d intervals", len(rest))
	}
	same(t, "pace", d.c.Pace(), Pace{Fast: 8, Slow: 16, Interval: slowestFast, Rest: quickRest})
	first := quick(asked())
	d.c.Want(nil)
	d.until("rest", func() bool {
		for _, interval := range asked() {
			if interval != atRest {
				return false
			}
		}
		return true
	})
	same(t, "pace at rest", d.c.Pace(), Pace{Interval: fastest})
	d.c.Want(wantShop())
	d.until("the next release", parted(asked))
	if second := quick(asked()); slices.Equal(first, second) {
		t.Errorf("two releases have the same sample: %v", second) // of 735,471 possible ones
	}
}

func TestASampleKeepsItsProxiesAndReplacesThoseThatLeave(t *testing.T) {
	d := small(t)
	d.c.Want(wantShop())
	proxies, asked := d.fleet(24)
	d.until("all to be told", parted(asked))
	first := quick(asked())
	more := wantShop()
	more = append(more, Wanted{Service: "other", Release: "b-1", LivePool: "other/a", CandidatePool: "other/b", Gateways: []string{"edge"}})
	d.c.Want(more)
	same(t, "another release begins", quick(asked()), first)
	var leaver *proxy
	for _, p := range proxies {
		if p.node == first[3] {
			leaver = p
		}
	}
	if err := leaver.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	d.until("it to be replaced", func() bool {
		return parted(asked)() && !slices.Contains(quick(asked()), leaver.node)
	})
	kept := 0
	for _, node := range quick(asked()) {
		if slices.Contains(first, node) {
			kept++
		}
	}
	same(t, "kept", kept, 7)
	d.connect(leaver.node)
	d.until("it to have its place again", func() bool { return slices.Equal(quick(asked()), first) })
}

func TestAReadingIsOfTheSampleAndShareSeenOfAll(t *testing.T) {
	d := small(t)
	d.c.Want(wantShop())
	proxies, asked := d.fleet(24)
	d.until("all to be told", parted(asked))
	orders, chosen := asked(), quick(asked())
	slices.SortFunc(proxies, func(a, b *proxy) int { return cmp.Compare(orders[b.node], orders[a.node]) })
	for i, p := range proxies { // each one interval before the next readings
		if i > 0 {
			d.pass(orders[proxies[i-1].node] - orders[p.node])
		}
		p.report(policy.Counts{}, policy.Counts{}, 100*time.Millisecond) // the first one is odd
		d.take()                                                         // it is steady from here on
	}
	d.pass(orders[proxies[len(proxies)-1].node])
	for _, p := range proxies {
		p.report(policy.Counts{OK: 2, Issued: 2}, policy.Counts{OK: 1, Issued: 1}, orders[p.node])
	}
	got := d.take()
	same(t, "the sample's", got.Live, policy.Counts{OK: 16, Issued: 16})
	same(t, "and the candidate's", got.Candidate, policy.Counts{OK: 8, Issued: 8})
	same(t, "tries in progress", got.LiveActive, 24)
	same(t, "reporting", got.Reporting, 8)
	same(t, "slow", got.Slow, 16)
	same(t, "all have a share", got.SteadyLive.Issued, 48)
	same(t, "each by name", len(got.Proxies), 24)
	same(t, "none is missing", len(d.c.Reporting("shop", d.clock())), 24)
	d.pass(2 * time.Second)
	same(t, "who must report fast is missed soon", len(d.c.Reporting("shop", d.clock())), 16)
	d.pass(40 * time.Second)
	same(t, "and the others later", len(d.c.Reporting("shop", d.clock())), 0)
	same(t, "the sample is none of these", len(chosen), 8)
}

func TestTheFirstReportOfWhoComesIntoTheSampleDoesNotCount(t *testing.T) {
	d := small(t)
	d.c.Want(wantShop())
	proxies, asked := d.fleet(24)
	d.until("all to be told", parted(asked))
	for _, p := range proxies {
		p.report(policy.Counts{}, policy.Counts{}, 100*time.Millisecond)
	}
	d.take()
	slow := proxies[slices.IndexFunc(proxies, func(p *proxy) bool { return asked()[p.node] != slowestFast })]
	d.c.mu.Lock()
	d.c.roster("edge").limit(24, d.c.move)
	d.c.mu.Unlock()
	d.pass(5 * time.Second)
	slow.report(policy.Counts{OK: 500, Issued: 503}, policy.Counts{Errors: 500, Issued: 503}, 5*time.Second)
	got := d.take()
	same(t, "of the time before", got.Candidate, policy.Counts{Issued: 3}) // those in progress
	d.pass(500 * time.Millisecond)
	slow.report(policy.Counts{OK: 5, Issued: 5}, policy.Counts{OK: 3, Issued: 3}, 500*time.Millisecond)
	same(t, "from then on", d.take().Candidate, policy.Counts{OK: 3, Issued: 3})
}

// flow is what a proxy does with tries that all end well, sooner or later.
type flow struct {
	stream   *reportStream
	issued   uint64 // since the last report
	finished uint64
	active   uint64
}

func (f *flow) report(c *Collector, now time.Time, interval time.Duration) {
	r := clusterReport{cluster: "shop/blue", counts: policy.Counts{OK: f.finished, Issued: f.issued}, active: f.active, interval: interval}
	f.issued, f.finished = 0, 0
	c.count(f.stream, &loadReport{clusters: []clusterReport{r}}, now)
}

// However proxies come into the sample and leave it: what was issued and has not finished is what is in progress, as judge.Pending needs it.
func TestASampleThatChangesLosesNoTry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		c := NewCollector(CollectorConfig{Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
		c.Want(wantShop())
		var flows []*flow
		for i := range 6 {
			s := &reportStream{number: uint64(i), node: fmt.Sprint(i), gateway: "edge", told: true, lot: uint64(i)}
			c.streams[s] = struct{}{}
			r := c.roster("edge")
			r.streams, r.fast = append(r.streams, s), r.fast+1
			s.ask([]string{"shop/blue", "shop/green"}, time.Hour, now)
			flows = append(flows, &flow{stream: s})
		}
		open := int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			now = now.Add(time.Second)
			if rapid.Bool().Draw(t, "change the sample") {
				c.roster("edge").limit(rapid.IntRange(0, 6).Draw(t, "fast"), c.move)
			}
			for i, f := range flows {
				n := rapid.Uint64Range(0, 5).Draw(t, "issued")
				ended := rapid.Uint64Range(0, f.active+n).Draw(t, "ended")
				f.issued, f.finished, f.active = f.issued+n, f.finished+ended, f.active+n-ended
				if rapid.Bool().Draw(t, "report") {
					f.report(c, now, time.Second+time.Duration(i))
				}
			}
			r := c.Take(now, func(string, string) bool { return true })["shop"]
			open += int64(r.Live.Issued) - int64(r.Live.Finished())
			left := int64(0)
			if rest := c.tallies["shop"]; rest != nil {
				left = int64(rest.live.left)
			}
			if open-left != int64(r.LiveActive) {
				t.Fatalf("%d are open and %d in progress", open-left, r.LiveActive)
			}
		}
	})
}
