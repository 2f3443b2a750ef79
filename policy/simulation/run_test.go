package simulation_test

import (
	"context"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/policy/simulation"
)

func TestEqualSeedsGiveEqualOutcomesOnAnyNumberOfProcessors(t *testing.T) {
	s := with(usual(100, 0.01), simulation.Fault{Share: 0.3, From: time.Minute, Phase: time.Minute})
	s.Burst, s.History = 10, time.Minute
	batch := simulation.Batch{Scenario: s, Releases: 20, Rule: ours}
	var all [][]simulation.Outcome
	for _, processors := range []int{1, 2, 5} {
		before := runtime.GOMAXPROCS(processors)
		outcomes, err := batch.Run(t.Context())
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, outcomes)
	}
	if !reflect.DeepEqual(all[0], all[1]) || !reflect.DeepEqual(all[0], all[2]) {
		t.Error("the outcomes differ")
	}
	batch.Seed++
	if outcomes, _ := batch.Run(t.Context()); reflect.DeepEqual(all[0], outcomes) {
		t.Error("another seed gives the same outcomes")
	}
}

func TestRunTellsItsProgressAndStopsWhenItsContextEnds(t *testing.T) {
	var done atomic.Int64
	batch := simulation.Batch{Scenario: usual(1, 0.01), Releases: 8, Rule: ours, Progress: func() { done.Add(1) }}
	batch.History = 0
	if _, err := batch.Run(t.Context()); err != nil || done.Load() != 8 {
		t.Errorf("told of %d releases, %v", done.Load(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done.Store(0)
	if _, err := batch.Run(ctx); err == nil || done.Load() != 0 {
		t.Errorf("%d releases played after the end, %v", done.Load(), err)
	}
}

// seen notes what a rule is fed.
type seen struct {
	observed        time.Duration
	turns           []judge.Turn
	convictAfter    int
	live, candidate float64
}

func (s *seen) Observe(_ judge.Counts, length time.Duration) { s.observed += length }

func (s *seen) Turn(t judge.Turn) string {
	s.turns = append(s.turns, t)
	s.live += float64(t.Live.Good + t.Live.Bad)
	s.candidate += float64(t.Candidate.Good + t.Candidate.Bad)
	if len(s.turns) == s.convictAfter {
		return "enough"
	}
	return ""
}

func TestTurnsFollowThePlan(t *testing.T) {
	rule := &seen{}
	s := simulation.Scenario{
		Rate: 1000, Baseline: 0.01, History: time.Minute, Turn: 500 * time.Millisecond, Warmup: 2 * time.Second,
		Steps: []policy.Rung{{Weight: 1000, Dwell: 5 * time.Second}, {Weight: 5000, Dwell: 10 * time.Second}}, Skew: 1.5,
	}
	outcomes, err := simulation.Batch{Scenario: s, Releases: 1, Rule: func() simulation.Rule { return rule }}.Run(t.Context())
	if err != nil || outcomes[0].At != 15*time.Second || outcomes[0].Convicted() || rule.observed != time.Minute || len(rule.turns) != 30 {
		t.Fatalf("%+v, %v after %s of history and %d turns", outcomes, err, rule.observed, len(rule.turns))
	}
	for i, turn := range rule.turns {
		want := judge.Turn{Length: 500 * time.Millisecond, Share: 0.1, NewStep: i == 0 || i == 10, Warming: i < 4, Live: turn.Live, Candidate: turn.Candidate}
		if i >= 10 {
			want.Share = 0.5
		}
		if turn != want {
			t.Errorf("turn %d: %+v", i, turn)
		}
	}
	// 15 % of 5,000 requests and 75 % of 10,000.
	if want := 750 + 7500.0; rule.candidate < 0.95*want || rule.candidate > 1.05*want || rule.live+rule.candidate < 14500 || rule.live+rule.candidate > 15500 {
		t.Errorf("%v requests of the candidate, %v of live", rule.candidate, rule.live)
	}
}

func TestFaultsBeginAndEndWhenTheyShould(t *testing.T) {
	s := usual(10000, 0.01)
	s.History = 0
	s.Faults = []simulation.Fault{
		{Share: 0.5, From: 10 * time.Second, For: 5 * time.Second, Shared: true},
		{Share: 0.9, From: 120*time.Second + 125*time.Millisecond},
	}
	rule := &seen{convictAfter: 4 * 130}
	outcomes, err := simulation.Batch{Scenario: s, Releases: 1, Rule: func() simulation.Rule { return rule }}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	share := func(c judge.Counts) float64 { return float64(c.Bad) / float64(c.Good+c.Bad) }
	served := uint64(0)
	for i, turn := range rule.turns {
		at := time.Duration(i) * simulation.Tick
		live, candidate := 0.01, 0.01
		if at >= 10*time.Second && at < 15*time.Second {
			live, candidate = 0.5, 0.5
		}
		switch {
		case at == 120*time.Second:
			candidate = 0.455
		case at > 120*time.Second:
			candidate = 0.9
		}
		if at >= 120*time.Second {
			served += turn.Candidate.Bad
		}
		if got := share(turn.Live); got < live-0.04 || got > live+0.04 {
			t.Errorf("at %s live fails %.3f, not %.3f", at, got, live)
		}
		if got := share(turn.Candidate); got < candidate-0.35 || got > candidate+0.35 {
			t.Errorf("at %s the candidate fails %.3f, not %.3f", at, got, candidate)
		}
	}
	if o := outcomes[0]; o.By != "enough" || o.At != 130*time.Second || o.Early() || o.Onset != 120*time.Second+125*time.Millisecond || o.Bad != served {
		t.Errorf("%+v, %d bad", o, served)
	}
}

func TestBurstsAreAsLargeAsTheyAreMeantToBe(t *testing.T) {
	variance := func(burst float64) float64 {
		rule := &seen{}
		s := simulation.Scenario{Rate: 1000, Baseline: 0.05, Burst: burst, Steps: []policy.Rung{{Weight: 5000, Dwell: time.Hour}}}
		if _, err := (simulation.Batch{Scenario: s, Releases: 1, Rule: func() simulation.Rule { return rule }}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Over 30 s windows, in which the bursts' 3 s hardly matter: the variance of the count over its mean.
		sum, squares, n := 0.0, 0.0, 0.0
		for i := 0; i+120 <= len(rule.turns); i += 120 {
			errors := 0.0
			for _, turn := range rule.turns[i : i+120] {
				errors += float64(turn.Candidate.Bad)
			}
			sum, squares, n = sum+errors, squares+errors*errors, n+1
		}
		return (squares/n - sum*sum/n/n) / (sum / n)
	}
	if got := variance(0); got < 0.6 || got > 1.5 {
		t.Errorf("%v without bursts", got)
	}
	// 80 % in bursts of geometric size and mean 10, whose mean square is 190: 0.8·19 + 0.2.
	if got := variance(10); got < 10 || got > 21 {
		t.Errorf("%v with bursts of 10, not about 15.4", got)
	}
}

func TestPeersCountAsTheirDocumentsSay(t *testing.T) {
	feed := func(r simulation.Rule, bad func(second int) uint64) int {
		for i := range 4 * 600 {
			if r.Turn(judge.Turn{Length: simulation.Tick, Candidate: judge.Counts{Good: 10 - bad(i/4), Bad: bad(i / 4)}}) != "" {
				return (i + 1) / 4
			}
		}
		return 0
	}
	always := func(int) uint64 { return 5 }
	late := func(second int) uint64 { return 5 * uint64(min(1, second/90)) }
	healed := func(second int) uint64 { return 5 * uint64(max(0, min(1, 1-second/60))) }
	for name, test := range map[string]struct {
		rule simulation.Rule
		bad  func(int) uint64
		want int
	}{
		"Flagger checks the minute behind it":   {&simulation.Flagger{Interval: time.Minute, Threshold: 5, Success: 0.99}, always, 300},
		"every ten seconds":                     {&simulation.Flagger{Interval: 10 * time.Second, Threshold: 3, Success: 0.99}, always, 30},
		"and sees a fault at the next check":    {&simulation.Flagger{Interval: time.Minute, Threshold: 1, Success: 0.99}, late, 120},
		"Argo forgives its limit":               {&simulation.Argo{Interval: time.Minute, FailureLimit: 1, Success: 0.99}, always, 120},
		"Argo with no limit does not":           {&simulation.Argo{Interval: time.Minute, Success: 0.99}, late, 120},
		"what healed in time is forgotten":      {&simulation.Argo{Interval: time.Minute, FailureLimit: 1, Success: 0.99}, healed, 0},
		"but failed checks are not forgiven":    {&simulation.Flagger{Interval: 10 * time.Second, Threshold: 7, Success: 0.99}, healed, 70},
		"half failing is enough for 40 percent": {&simulation.Argo{Interval: time.Minute, Success: 0.4}, always, 0},
	} {
		if got := feed(test.rule, test.bad); got != test.want {
			t.Errorf("%s: after %d s, not %d", name, got, test.want)
		}
	}
	if r := (&simulation.Flagger{Interval: time.Minute, Threshold: 1, Success: 0.99}); feed(r, func(int) uint64 { return 0 }) != 0 {
		t.Error("health fails a check")
	}
}

// A release costs memory once, not per turn.
func TestTurnsOfTheSimulationAllocateNothing(t *testing.T) {
	allocations := func(length time.Duration) float64 {
		s := usual(100, 0.01)
		s.History, s.Steps, s.Burst = length, []policy.Rung{{Weight: 5000, Dwell: length}}, 10
		batch := simulation.Batch{Scenario: s, Releases: 1, Rule: ours}
		return testing.AllocsPerRun(3, func() {
			if _, err := batch.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
		})
	}
	if short, long := allocations(10*time.Second), allocations(10*time.Minute); long > short+5 {
		t.Errorf("%v allocations in 10 s, %v in 10 min", short, long)
	}
}
