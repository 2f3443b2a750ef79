package simulation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/simulation"
)

// climbing is a service whose release climbs by evidence from 1 %.
func climbing(rate, baseline float64) simulation.Scenario {
	s := usual(rate, baseline)
	s.Steps, s.Climb = nil, &policy.Climb{From: 100}
	return s
}

// TestClimbsAreAsFastAsTheReference is judge.md 2g's table "Evidence-driven ramp", rows D, and 3.7 for low traffic. The healthy bake 5 s at the top and 5 s beyond it.
func TestClimbsAreAsFastAsTheReference(t *testing.T) {
	b := newTable(t, "Climbs by evidence: seconds to promotion and bad requests; bad requests of regressions", "healthy: s", "promoted", "bad", "50%", "50% from 20 % on", "+5pp", "+1pp")
	for _, test := range []struct {
		rate, baseline float64
		within         time.Duration // a healthy release is promoted, in the median
		want           string        // 50%, late 50%, +5pp, +1pp
	}{
		{1, 1e-4, 0, ""}, {1, 1e-2, 0, ""}, {10, 1e-4, 0, ""}, {10, 1e-2, 0, ""},
		{100, 1e-4, 40 * time.Second, "33.5 s; 3.4, 10, 4.6, 10.4"},
		{100, 1e-3, 40 * time.Second, "35 s; 3.2, 11, 5.8, 15.0"},
		{100, 1e-2, 0, "99 s; 3.6, 14, 16.6, 112"},
		{10000, 1e-4, 20 * time.Second, "19 s; 25, 619, 4.4, 4.0"},
		{10000, 1e-3, 20 * time.Second, ""},
		{10000, 1e-2, 20 * time.Second, "19 s; 24, 731, 12, 64"},
	} {
		if !whole() && test.within == 0 {
			continue
		}
		many := *reps
		if test.within > 0 {
			many *= 5
		}
		healthy := play(t, climbing(test.rate, test.baseline), many, ours)
		row := []string{
			fmt.Sprintf("%.1f", healthy.End.Seconds()), fmt.Sprintf("%d of %d", healthy.Promoted, healthy.Releases),
			fmt.Sprintf("%.2f ±%.2f", healthy.Bad, 2*healthy.BadError),
		}
		if test.within > 0 && (healthy.End > test.within || healthy.Promoted < healthy.Releases-binomialLimit(healthy.Releases, 0.001)) {
			t.Errorf("%g requests/s, %g: %d of %d promoted, in the median after %s", test.rate, test.baseline, healthy.Promoted, healthy.Releases, healthy.End)
		}
		for _, fault := range []simulation.Fault{{Share: 0.5}, {Share: 0.5, Weight: 2000, Phase: simulation.Tick}, {Share: test.baseline + 0.05}, {Share: test.baseline + 0.01}} {
			sum := play(t, with(climbing(test.rate, test.baseline), fault), *reps, ours)
			row = append(row, fmt.Sprintf("%.3g ±%.2g (%.0f%%)", sum.Bad, 2*sum.BadError, 100*sum.Detected()))
		}
		b.row(fmt.Sprintf("%g rps, %g%%", test.rate, 100*test.baseline), append(row, test.want)...)
	}
	b.end()
}

func TestClimbNeedsEvidence(t *testing.T) {
	batch := simulation.Batch{Scenario: climbing(1, 0.01), Releases: 1, Rule: func() simulation.Rule { return &simulation.Flagger{Interval: time.Minute, Threshold: 1} }}
	if _, err := batch.Run(t.Context()); err == nil {
		t.Error("a rule without evidence climbs")
	}
}
