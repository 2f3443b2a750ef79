package simulation_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/simulation"
)

// peer is a rule of judge.md's tables. tuned rules know the baseline.
type peer struct {
	name string
	rule func(baseline float64) simulation.Rule
}

func peers() []peer {
	flagger := func(interval time.Duration, threshold int, tuned bool) func(float64) simulation.Rule {
		return func(baseline float64) simulation.Rule {
			return &simulation.Flagger{Interval: interval, Threshold: threshold, Success: success(baseline, tuned)}
		}
	}
	argo := func(limit int, tuned bool) func(float64) simulation.Rule {
		return func(baseline float64) simulation.Rule {
			return &simulation.Argo{Interval: time.Minute, FailureLimit: limit, Success: success(baseline, tuned)}
		}
	}
	return []peer{
		{"Flagger 60s/5", flagger(time.Minute, 5, false)},
		{"Flagger 10s/1", flagger(10*time.Second, 1, false)},
		{"Argo 60s/fl0", argo(0, false)},
		{"Argo 60s/fl3", argo(3, false)},
		{"Flagger 60s/5 tuned", flagger(time.Minute, 5, true)},
		{"Flagger 10s/1 tuned", flagger(10*time.Second, 1, true)},
		{"Flagger 10s/3 tuned", flagger(10*time.Second, 3, true)},
		{"Argo 60s/fl0 tuned", argo(0, true)},
		{"Argo 60s/fl1 tuned", argo(1, true)},
		{"Argo 60s/fl3 tuned", argo(3, true)},
		{"JUDGE", func(float64) simulation.Rule { return newOld() }},
	}
}

// success is the tutorials' threshold, or the true baseline and half a point.
func success(baseline float64, tuned bool) float64 {
	if tuned {
		return 1 - baseline - 0.005
	}
	return 0.99
}

func peerNamed(t *testing.T, name string) peer {
	t.Helper()
	for _, p := range peers() {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("no rule is called %q", name)
	return peer{}
}

// playRule plays a rule of the tables. Those that know the candidate only need no history.
func playRule(t *testing.T, p peer, s simulation.Scenario, n int) simulation.Summary {
	t.Helper()
	if p.name != "JUDGE" {
		s.History = 0
	}
	return play(t, s, n, func() simulation.Rule { return p.rule(s.Baseline) })
}

// TestFalseRollbacksAreThoseOfTheReference is judge.md 3.1, A/A, in per cent of 1,000 releases.
func TestFalseRollbacksAreThoseOfTheReference(t *testing.T) {
	b := newTable(t, "False rollbacks on A/A, % (judge.md 3.1)", "1 rps 0.01%", "0.1%", "1%", "100 rps 0.01%", "0.1%", "1%", "10k rps 0.01%", "0.1%", "1%")
	for _, line := range []string{
		"Flagger 60s/5 | 0.0 | 0.0 | 1.8 | 0.0 | 0.0 | 52.5 | 0.0 | 0.0 | 60.8",
		"Flagger 10s/1 | 1.7 | 21.1 | 91.9 | 1.7 | 13.3 | 100.0 | 0.0 | 0.0 | 100.0",
		"Argo 60s/fl0 | 1.7 | 21.1 | 91.9 | 0.6 | 7.4 | 99.8 | 0.0 | 0.0 | 100.0",
		"Argo 60s/fl3 | 0.0 | 0.0 | 8.9 | 0.0 | 0.0 | 75.6 | 0.0 | 0.0 | 82.0",
		"Flagger 60s/5 tuned | 0.0 | 0.0 | 1.7 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0",
		"Flagger 10s/1 tuned | 1.7 | 21.1 | 91.6 | 3.3 | 24.3 | 84.6 | 0.0 | 0.0 | 6.4",
		"Flagger 10s/3 tuned | 1.5 | 19.4 | 88.1 | 2.6 | 17.6 | 74.3 | 0.0 | 0.0 | 0.3",
		"Argo 60s/fl0 tuned | 1.7 | 21.1 | 90.4 | 2.4 | 19.9 | 70.6 | 0.0 | 0.0 | 0.0",
		"Argo 60s/fl1 tuned | 0.1 | 2.5 | 58.8 | 0.0 | 0.9 | 27.6 | 0.0 | 0.0 | 0.0",
		"Argo 60s/fl3 tuned | 0.0 | 0.0 | 8.1 | 0.0 | 0.0 | 0.3 | 0.0 | 0.0 | 0.0",
		"JUDGE | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0",
	} {
		name, rest, _ := strings.Cut(line, " | ")
		var row []string
		for i, text := range strings.Split(rest, " | ") {
			s := usual([]float64{1, 100, 10000}[i/3], []float64{1e-4, 1e-3, 1e-2}[i%3])
			row = append(row, b.falsely(playRule(t, peerNamed(t, name), s, *reps), parse(t, text).bad, 1000))
		}
		b.row(name, row...)
	}
	b.end()
}

// falsely compares how often a release was convicted with the reference's per cent of as many releases.
func (b *table) falsely(s simulation.Summary, percent float64, of int) string {
	got, want := share(s.Convicted, s.Releases), share(int(math.Round(percent/100*float64(of))), of)
	return b.near(figure{100 * got.value, 100 * got.err}, figure{percent, 100 * want.err}, "%.1f")
}

// detects compares bad requests and the share detected.
func (b *table) detects(s simulation.Summary, want cell, of int) string {
	// The reference's spread is taken to be ours, which few releases tell badly.
	n := float64(s.Releases - s.Early)
	spread := max(s.BadError*math.Sqrt(n), 0.25) * (1 + 6/n)
	bad := b.near(figure{s.Bad, spread / math.Sqrt(n)}, figure{want.bad, spread / math.Sqrt(float64(of))}, "%.4g")
	got, reference := share(s.Convicted-s.Early, s.Releases-s.Early), share(int(math.Round(want.detected*float64(of))), of)
	if want.detected > 0.995 && got.value > 0.995 {
		return bad
	}
	return bad + "  " + b.near(figure{100 * got.value, 100 * got.err}, figure{100 * want.detected, 100 * reference.err}, "%.0f%%")
}

// noWorse compares bad requests with what the reference could do.
func (b *table) noWorse(s simulation.Summary, want cell, of int) string {
	n := float64(s.Releases - s.Early)
	spread := max(s.BadError*math.Sqrt(n), 0.25) * (1 + 6/n)
	text := b.below(figure{s.Bad, spread / math.Sqrt(n)}, figure{want.bad, spread / math.Sqrt(float64(of))}, "%.4g")
	return text + fmt.Sprintf("  %.0f%% | %.0f%%", 100*s.Detected(), 100*want.detected)
}

// TestDetectionIsThatOfTheReference is judge.md 3.2.
func TestDetectionIsThatOfTheReference(t *testing.T) {
	for _, test := range []struct {
		rate, baseline float64
		rows           []string
	}{
		{100, 0.001, []string{
			"Flagger 60s/5 | 45.9 / ∞ (0%) | 42.9 / ∞ (0%) | 114 / ∞ (0%) | 106 / ∞ (0%) | 151 / 480 (87%) | 232 / ∞ (25%) | 122 / 300 | 753 / 270 | 1138 / 300 | 7395 / 270",
			"Flagger 10s/1 tuned | 25.3 / ∞ (45%) | 42.7 / ∞ (0%) | 3.5 / 100 (99%) | 35.6 / 110 (87%) | 1.2 / 60 | 8.7 / 40 | 1.3 / 20 | 11.3 / 10 | 4.9 / 10 | 101 / 10",
			"Flagger 10s/3 tuned | 30.0 / ∞ (35%) | 43.0 / ∞ (0%) | 7.2 / 120 (98%) | 54.5 / 200 (70%) | 1.7 / 80 | 14.9 / 50 | 2.5 / 40 | 30.7 / 30 | 15.0 / 30 | 291 / 30",
			"Argo 60s/fl1 tuned | 43.4 / ∞ (5%) | 42.8 / ∞ (0%) | 39.0 / 300 (78%) | 89.3 / ∞ (33%) | 5.8 / 180 | 40.1 / 90 | 10.3 / 120 | 107 / 90 | 90.2 / 120 | 1050 / 90",
			"JUDGE | 44.5 / ∞ (4%) | 42.5 / ∞ (1%) | 17.7 / 309 (99%) | 40.1 / 149 (86%) | 6.4 / 182 | 13.1 / 47 | 3.5 / 56 | 8.9 / 8 | 3.5 / 6 | 20.1 / 2",
		}},
		{100, 0.01, []string{
			"Flagger 60s/5 tuned | 113 / 360 | 280 / 270 (99%) | 122 / 300 | 534 / 210 | 113 / 360 | 280 / 270 (99%) | 142 / 300 | 640 / 210 | 1141 / 300 | 5335 / 210",
			"Argo 60s/fl3 tuned | 63.4 / 300 | 181 / 210 | 59.1 / 240 | 312 / 150 | 63.4 / 300 | 181 / 210 | 68.2 / 240 | 374 / 150 | 538 / 240 | 3123 / 150",
			"JUDGE | 68.8 / 314 (99%) | 181 / 150 (76%) | 11.0 / 125 | 24.0 / 22 | 68.8 / 314 (99%) | 181 / 150 (76%) | 9.2 / 97 | 21.0 / 16 | 4.1 / 7 | 24.2 / 2",
		}},
		{10000, 0.001, []string{
			"Flagger 60s/5 | 4599 / ∞ (0%) | 4261 / ∞ (0%) | 11488 / ∞ (0%) | 10651 / ∞ (0%) | 3433 / 300 | 23442 / 330 | 11625 / 300 | 78036 / 270 | 114k / 300 | 765k / 270",
			"Flagger 10s/1 tuned | 4522 / ∞ (2%) | 4261 / ∞ (0%) | 4913 / 80 (57%) | 10651 / ∞ (0%) | 11.6 / 10 | 838 / 40 | 50.4 / 10 | 1021 / 10 | 501 / 10 | 9998 / 10",
			"Argo 60s/fl1 tuned | 4599 / ∞ (0%) | 4261 / ∞ (0%) | 11259 / ∞ (2%) | 10651 / ∞ (0%) | 198 / 120 | 4408 / 150 | 917 / 120 | 12241 / 90 | 9002 / 120 | 120k / 90",
			"JUDGE | 68.8 / 144 | 151 / 34 | 12.0 / 22 | 40.8 / 4 | 7.7 / 6 | 63.4 / 3 | 11.0 / 2 | 261 / 3 | 71.9 / 1 | 2550 / 3",
		}},
		{10000, 0.0001, []string{
			"JUDGE | 457 / ∞ (0%) | 424 / ∞ (0%) | 26.4 / 178 | 53.1 / 45 | 4.8 / 4 | 47.5 / 2 | 10.5 / 2 | 199 / 2 | 73.3 / 1 | 1996 / 2",
		}},
		{1, 0.01, []string{
			"Flagger 60s/5 | 4.5 / ∞ (12%) | 4.2 / ∞ (10%) | 10.2 / 600 (68%) | 10.3 / 330 (54%) | 4.5 / ∞ (12%) | 4.2 / ∞ (10%) | 11.5 / 600 (81%) | 12.0 / 330 (62%) | 31.0 / 420 | 75.2 / 270",
			"Argo 60s/fl1 tuned | 2.6 / 480 (87%) | 2.4 / 270 (86%) | 3.2 / 420 | 3.5 / 150 | 2.6 / 480 (87%) | 2.4 / 270 (86%) | 3.3 / 360 | 3.7 / 150 | 4.4 / 240 | 11.9 / 90",
			"JUDGE | 4.5 / ∞ (0%) | 4.2 / ∞ (0%) | 11.3 / ∞ (3%) | 10.8 / ∞ (0%) | 4.5 / ∞ (0%) | 4.2 / ∞ (0%) | 13.4 / ∞ (5%) | 12.7 / ∞ (1%) | 5.0 / 218 | 8.6 / 60",
		}},
	} {
		name := fmt.Sprintf("%.0f requests/s, baseline %g%%", test.rate, 100*test.baseline)
		t.Run(name, func(t *testing.T) {
			columns := regressions("2× 5× +1pp +5pp 50%")
			b := newTable(t, "Bad requests, and detected (judge.md 3.2), "+name, names(columns)...)
			for _, line := range test.rows {
				rule, rest, _ := strings.Cut(line, " | ")
				var row []string
				for i, text := range strings.Split(rest, " | ") {
					s := with(usual(test.rate, test.baseline), columns[i].fault(test.baseline, 0))
					row = append(row, b.detects(playRule(t, peerNamed(t, rule), s, *reps), parse(t, text), 300))
				}
				b.row(rule, row...)
			}
			b.end()
		})
	}
}

func names(columns []regression) []string {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// TestQuarterSecondTurnsCostNoMoreThanInTheReference is judge.md 2g's table "Turns", rows "new 0.25s".
func TestQuarterSecondTurnsCostNoMoreThanInTheReference(t *testing.T) {
	columns := regressions("5× +1pp +5pp 50%")
	b := newTable(t, "Bad requests with turns of 250 ms (judge.md 2g, new 0.25s, baseline 0.1 %)", names(columns)...)
	for _, test := range []struct {
		rate float64
		row  string
	}{
		{100, "15.7 | 34.5 (90%) | 6.5 | 13.2 | 3.5 | 8.6 | 3.1 | 9.2"},
		{10000, "11.3 | 32.3 | 6.5 | 24.1 | 5.4 | 59.3 | 25.0 | 402"},
	} {
		var row []string
		for i, text := range strings.Split(test.row, " | ") {
			s := with(usual(test.rate, 0.001), columns[i].fault(0.001, time.Second))
			row = append(row, b.noWorse(play(t, s, 2**reps, ours), parse(t, text), 300))
		}
		b.row(fmt.Sprintf("%.0f rps", test.rate), row...)
	}
	b.end()
}
