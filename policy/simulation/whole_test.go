package simulation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/policy/simulation"
)

// shop is a document of which green is released over blue, with a plan.
func shop(plan policy.Plan) policy.Service {
	return policy.Service{
		Name: "shop", Hosts: []string{"shop.example.com"}, Serve: "green", Plan: plan,
		Backends: map[string]policy.Backend{"blue": {Revision: "v41"}, "green": {Revision: "v42"}},
	}.WithDefaults()
}

// wholly is releases of shop in judge.md's usual traffic.
func wholly(rate float64, plan policy.Plan) simulation.Whole {
	return simulation.Whole{
		Scenario: simulation.Scenario{Rate: rate, Baseline: 1e-3, Seed: *seed}, Times: simulation.Times{P50: 50 * time.Millisecond, P99: 250 * time.Millisecond},
		Service: shop(plan), Live: "blue", Releases: 12,
	}
}

func endings(t *testing.T, w simulation.Whole) []simulation.Ending {
	t.Helper()
	all, err := w.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// count is how many releases ended in one way.
func count(all []simulation.Ending, how simulation.How) (n int) {
	for _, e := range all {
		if e.How == how {
			n++
		}
	}
	return n
}

// warm is a climb by evidence without a warm-up.
func warm() policy.Plan { return policy.Plan{Warmup: new(policy.Duration)} }

func TestAWholeReleaseThatIsAsGoodIsCommitted(t *testing.T) {
	for name, plan := range map[string]policy.Plan{
		"by evidence": warm(),
		"by steps":    {Steps: []policy.Weight{1000, 5000}, Warmup: new(policy.Duration), Soak: new(policy.Duration(20 * time.Second)), Bake: new(policy.Duration(20 * time.Second))},
		"at once":     {Cutover: &policy.Cutover{}},
	} {
		all := endings(t, wholly(1000, plan))
		if n := count(all, simulation.Committed); n < len(all)-1 {
			t.Errorf("%s: %d of %d, the first: %+v", name, n, len(all), all[0])
		}
		for _, e := range all {
			if e.At < 5*time.Second || e.At > 3*time.Minute || e.Bad != 0 {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

// The steps of a plan with a clock are known beforehand: 10 s of observing live, three steps and a turn for each confirmation.
func TestAWholeReleaseKeepsTheClockOfItsPlan(t *testing.T) {
	plan := policy.Plan{
		Steps: []policy.Weight{1000, 5000}, Warmup: new(policy.Duration(30 * time.Second)),
		Soak: new(policy.Duration(time.Minute)), Bake: new(policy.Duration(2 * time.Minute)),
	}
	w := wholly(1000, plan)
	want := simulation.Length(w.Service.Plan)
	if want != 4*time.Minute+40*time.Second {
		t.Fatalf("%s", want)
	}
	for _, e := range endings(t, w) {
		if late := e.At - want; e.How != simulation.Committed || late < 0 || late > 2*time.Second {
			t.Errorf("%+v, not after %s", e, want)
		}
	}
}

func TestAWholeReleaseThatIsWorseIsRolledBackByWhatIsWorse(t *testing.T) {
	for name, c := range map[string]struct {
		regression simulation.Regression
		by         []string
		within     time.Duration
	}{
		"half fails":       {simulation.Regression{Errors: 0.5}, []string{"errors", "guard rail"}, 10 * time.Second},
		"in mid-ramp":      {simulation.Regression{Errors: 0.5, From: 2000}, []string{"errors", "guard rail"}, 3 * time.Second},
		"twice as slow":    {simulation.Regression{Slower: 2, From: 2000}, []string{"latency"}, 10 * time.Second},
		"a slow tail":      {simulation.Regression{Slower: 20, Tail: 0.1, From: 2000}, []string{"latency"}, 10 * time.Second},
		"it hangs":         {simulation.Regression{Hangs: true, From: 2000}, []string{"latency"}, 10 * time.Second},
		"it hangs at once": {simulation.Regression{Hangs: true}, []string{"latency", "errors", "guard rail"}, 20 * time.Second},
	} {
		w := wholly(1000, warm())
		w.Regression = c.regression
		for _, e := range endings(t, w) {
			after := e.At - e.Onset
			if e.How != simulation.RolledBack || !slices.Contains(c.by, e.By) || after <= 0 || after > c.within || e.Bad == 0 || !strings.Contains(e.Reason, "green") {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

// Without times to judge only the timeouts tell: they are errors, and come as late as the routes allow.
func TestAHangIsFoundByItsTimeoutsWhereTimesAreNotJudged(t *testing.T) {
	w := wholly(1000, warm())
	w.Service.Analysis.Latency = &policy.Latency{Off: true}
	w.Regression = simulation.Regression{Hangs: true, From: 2000}
	for _, e := range endings(t, w) {
		if after := e.At - e.Onset; e.How != simulation.RolledBack || e.By == "latency" || after < 15*time.Second || after > 25*time.Second {
			t.Errorf("%+v after %s", e, after)
		}
	}
	w.Service.Routes[0].Timeout = new(policy.Duration)
	w.Limit = 2 * time.Minute
	if all := endings(t, w); count(all, simulation.RolledBack) > 0 {
		t.Errorf("what never times out was found: %+v", all[0])
	}
}

func TestAWholeReleaseWithTooLittleTrafficRunsOutOfPatience(t *testing.T) {
	plan := warm()
	plan.Patience = &policy.Patience{For: policy.Duration(2 * time.Minute), Then: policy.ThenPause}
	w := wholly(0.05, plan)
	for _, e := range endings(t, w) {
		if e.How != simulation.Paused || !strings.Contains(e.Reason, "too little evidence for 2m") || e.At < 2*time.Minute {
			t.Errorf("%+v", e)
		}
	}
	w.Service.Plan.Patience.Then = policy.ThenRollback
	for _, e := range endings(t, w) {
		if e.How != simulation.RolledBack || e.By != "patience" {
			t.Errorf("%+v", e)
		}
	}
	w.Limit = time.Minute
	for _, e := range endings(t, w) {
		if e.How != simulation.Unfinished || e.At != time.Minute || e.Reason == "" {
			t.Errorf("%+v", e)
		}
	}
}

func TestWholeReleasesDependOnTheirSeedAlone(t *testing.T) {
	w := wholly(100, warm())
	w.Regression = simulation.Regression{Errors: 0.05}
	w.Releases = 6
	first := endings(t, w)
	w.Releases = 3
	if again := endings(t, w); !slices.Equal(again, first[:3]) {
		t.Errorf("%+v, then %+v", first[:3], again)
	}
	w.Seed++
	if other := endings(t, w); slices.Equal(other, first[:3]) {
		t.Errorf("another seed has the same releases: %+v", other)
	}
}

// What a document judges besides errors and times is the same on both sides, so it never decides, and is not missed.
func TestAWholeReleaseHasWhateverItsDocumentJudges(t *testing.T) {
	w := wholly(1000, warm())
	w.Service.Analysis.Quality = []policy.Quality{{ORCA: "named_metrics.accuracy", Better: policy.Higher, Margin: 0.01}}
	w.Service.Analysis.Queries = []policy.Query{{Name: "gpu", Prometheus: "up", Better: policy.Lower, Every: policy.Duration(time.Second)}}
	w.Service.Analysis.Errors.GRPC = []string{"RESOURCE_EXHAUSTED"}
	if all := endings(t, w); count(all, simulation.Committed) < len(all)-1 {
		t.Errorf("%+v", all)
	}
}

func TestWholeReleasesEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := wholly(1, policy.Plan{Steps: []policy.Weight{100}, Soak: new(policy.Duration(1000 * time.Hour))})
	cancel()
	if _, err := w.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := w.Beside(ctx, simulation.Peers(0.001, w.Times, true)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := (simulation.Question{Whole: w}).Ask(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// judge.md 3.2 and 3.5: a peer that looks at the p99, too, finds what is slow, and pays with false alarms where it is quick.
func TestPeersFindWhatTheirValuesAllow(t *testing.T) {
	w := wholly(100, policy.Plan{})
	peers := simulation.Peers(w.Baseline, w.Times, true)
	for name, c := range map[string]struct {
		regression simulation.Regression
		least      []int // rolled back, by peer
		most       []int
	}{
		"nothing":          {simulation.Regression{}, []int{0, 2, 0}, []int{0, 11, 4}},
		"half fails":       {simulation.Regression{Errors: 0.5}, []int{12, 12, 12}, []int{12, 12, 12}},
		"twice as slow":    {simulation.Regression{Slower: 2}, []int{1, 12, 12}, []int{11, 12, 12}},
		"five times 0.1 %": {simulation.Regression{Errors: 0.005}, []int{0, 11, 4}, []int{0, 12, 12}},
	} {
		w.Regression = c.regression
		all, err := w.Beside(context.Background(), peers)
		if err != nil {
			t.Fatal(err)
		}
		for i, endings := range all {
			if n := count(endings, simulation.RolledBack); n < c.least[i] || n > c.most[i] {
				t.Errorf("%s: %s rolls back %d of %d", name, peers[i].Name, n, len(endings))
			}
			for _, e := range endings {
				if e.How == simulation.Committed && e.At != 10*time.Minute {
					t.Errorf("%s: %+v", name, e)
				}
			}
		}
	}
}

// They climb by the plan's own clock where it has one.
func TestPeersClimbByTheClockOfThePlan(t *testing.T) {
	w := wholly(100, policy.Plan{Steps: []policy.Weight{500, 5000}, Soak: new(policy.Duration(time.Minute)), Bake: new(policy.Duration(3 * time.Minute))})
	w.Regression = simulation.Regression{Errors: 0.5, From: 5000}
	all, err := w.Beside(context.Background(), simulation.Peers(w.Baseline, w.Times, false)[1:2])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all[0] {
		if e.How == simulation.RolledBack && e.At > time.Minute && (e.At != 70*time.Second || e.Onset < time.Minute || e.Onset > 61*time.Second) {
			t.Errorf("%+v", e)
		}
	}
}

func TestTimesAreDrawnAsTheyAreMeant(t *testing.T) {
	w := wholly(1000, policy.Plan{Steps: []policy.Weight{5000}})
	peers := []simulation.Peer{{Name: "watch"}}
	for _, w.Rate = range []float64{50, 1000} {
		for _, regression := range []simulation.Regression{{}, {Slower: 2}, {Slower: 8, Tail: 0.02}} {
			w.Regression, w.Releases = regression, 1
			seen := &watch{}
			peers[0].Rule = func() simulation.Rule { return seen }
			if _, err := w.Beside(context.Background(), peers); err != nil {
				t.Fatal(err)
			}
			p50, p99 := 50.0, 250.0
			switch {
			case regression.Tail > 0:
				p99 = 430 // 1 % beyond: hardly any of the usual, and half of the tail, whose median is 400 ms
			case regression.Slower > 0:
				p50, p99 = 100, 500
			}
			if got := seen.sum.Quantile(0.5); math.Abs(got/p50-1) > 0.1 {
				t.Errorf("%+v at %g/s: p50 %v, not %v", regression, w.Rate, got, p50)
			}
			if got := seen.sum.Quantile(0.99); math.Abs(got/p99-1) > 0.2 {
				t.Errorf("%+v at %g/s: p99 %v, not %v", regression, w.Rate, got, p99)
			}
			if got := float64(seen.sum.Total()) / float64(seen.requests); got < 0.95 || got > 1.01 {
				t.Errorf("%+v at %g/s: %v times per request", regression, w.Rate, got)
			}
		}
	}
}

// watch is a rule that only watches the candidate.
type watch struct {
	sum      judge.Histogram
	requests uint64
}

func (w *watch) Observe(judge.Counts, time.Duration) {}

func (w *watch) Turn(t judge.Turn) string {
	w.requests += t.Candidate.Good + t.Candidate.Bad
	return ""
}

func (w *watch) Times(candidate *judge.Histogram) { w.sum.Add(candidate) }

func TestAForecastCountsEveryKindOnce(t *testing.T) {
	w := wholly(1000, warm())
	w.Releases = 2
	var told atomic.Int64
	q := simulation.Question{Whole: w, Tell: func(done, all int) { told.Add(1) }}
	f, err := q.Ask(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range f.Regressions {
		names[r.Name+r.From.String()] = true
		if r.Ours.Turned != 2 || len(r.Peers) != 3 || r.Ours.Found+r.Ours.Held > 2 {
			t.Errorf("%+v", r)
		}
	}
	if len(names) != 18 || len(f.Regressions) != 18 || told.Load() != 2*19*2 || f.Healthy.Committed+f.Healthy.RolledBack+f.Healthy.Paused+f.Healthy.Unfinished != 2 {
		t.Errorf("%d kinds, told %d times: %+v", len(f.Regressions), told.Load(), f)
	}
	data, err := json.Marshal(f)
	if err != nil || !strings.Contains(string(data), `"delaySeconds":null`) {
		t.Errorf("%s, %v", data, err)
	}
}

// What is no worse than the baseline is no regression, and nothing fails more often than always.
func TestOnlyWhatIsWorseIsARegression(t *testing.T) {
	for _, c := range []struct {
		plan     policy.Plan
		baseline float64
		want     int
	}{
		{policy.Plan{}, 0.001, 18}, {policy.Plan{}, 0, 14}, {policy.Plan{}, 0.6, 12},
		{policy.Plan{Cutover: &policy.Cutover{}}, 0.001, 9}, {policy.Plan{Steps: []policy.Weight{5000}}, 0.001, 18},
		{policy.Plan{Steps: []policy.Weight{10000}}, 0.001, 9}, {policy.Plan{Evidence: &policy.Climb{From: 3000}}, 0.001, 18},
	} {
		if got := simulation.Kinds(shop(c.plan).Plan, c.baseline); len(got) != c.want {
			t.Errorf("%+v at %v: %d kinds, not %d: %v", c.plan, c.baseline, len(got), c.want, got)
		}
	}
}

// BenchmarkWholeSecond is what a second of a whole release costs: four turns, drawn, judged and decided.
func BenchmarkWholeSecond(b *testing.B) {
	for _, rate := range []float64{1, 100, 10000} {
		b.Run(fmt.Sprintf("%g per second", rate), func(b *testing.B) {
			w := wholly(rate, policy.Plan{Steps: []policy.Weight{5000}, Soak: new(policy.Duration(1000 * time.Hour))})
			w.Releases, w.Limit = 1, time.Duration(b.N)*time.Second
			b.ReportAllocs()
			if _, err := w.Run(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
