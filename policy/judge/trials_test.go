package judge

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// trialsExpectation is E[e^gain] of one effect, exactly, for independent requests.
func trialsExpectation(b trials, n [2]int, q [2]float64) (sums [slowness]float64) {
	candidates, lives := binomial(n[0], q[0]), binomial(n[1], q[1])
	for x, px := range candidates {
		for y, py := range lives {
			a := arms{candidate: Counts{Good: uint64(n[0] - x), Bad: uint64(x)}, live: Counts{Good: uint64(n[1] - y), Bad: uint64(y)}}
			for i, gain := range b.gains(a) {
				sums[i] += px * py * math.Exp(gain)
			}
		}
	}
	return sums
}

func TestTrialsFactorsAreSupermartingales(t *testing.T) {
	worst := 0.0
	for _, n := range [][2]int{{1, 1}, {1, 9}, {3, 3}, {2, 18}, {8, 2}, {12, 6}, {19, 1}} {
		for _, usual := range []float64{1e-4, 0.01, 0.1, 0.5, 0.9, 0.999} {
			for _, phi := range []float64{1, 1.5, 3.9, 4, 20} {
				b := trials{usual: usual, phi: phi}
				for _, q := range []float64{0, 1e-4, 0.01, 0.1, 0.5, 0.9, 1} {
					for i, e := range trialsExpectation(b, n, [2]float64{q, q}) {
						worst = max(worst, e)
						if e > 1+rounding {
							t.Fatalf("E = %.12f for n %v, usual %v, φ %v, live %v, effect %d", e, n, usual, phi, q, i)
						}
					}
				}
			}
		}
	}
	t.Logf("largest expectation 1%+.1e", worst-1)
}

func TestRandomTrialsFactorsAreSupermartingales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := [2]int{rapid.IntRange(1, 25).Draw(t, "candidate"), rapid.IntRange(1, 25).Draw(t, "live")}
		b := trials{usual: rapid.Float64Range(1e-6, 1-1e-6).Draw(t, "usual"), phi: rapid.Float64Range(1, 100).Draw(t, "φ")}
		live := rapid.Float64Range(0, 1).Draw(t, "q live")
		candidate := live * rapid.Float64Range(0, 1).Draw(t, "part of it")
		for _, e := range trialsExpectation(b, n, [2]float64{candidate, live}) {
			if e > 1+rounding {
				t.Fatalf("E = %.12f", e)
			}
		}
	})
}

// The limit's kernel is that of the errors; these are its effects.
func TestFactorsAgainstTheLimitAreSupermartingales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := boundary{rate: overLimit, phi: rapid.Float64Range(1, 100).Draw(t, "φ")}
		n := rapid.IntRange(1, 60).Draw(t, "candidate")
		q := overLimit * rapid.Float64Range(0, 1).Draw(t, "part of the limit")
		for i, p := range [slowness]float64{} {
			for x, px := range binomial(n, q) {
				p += px * math.Exp(b.slower(arms{candidate: Counts{Good: uint64(n - x), Bad: uint64(x)}})[i])
			}
			if p > 1+rounding {
				t.Fatalf("E = %.12f", p)
			}
		}
	})
}

// What the other kernel gives away: for medians half of what requests say.
func TestTrialsGainMoreThanRareEvents(t *testing.T) {
	for _, c := range []struct{ live, candidate, more float64 }{{0.5, 0.67, 1.8}, {0.1, 0.2, 1.1}, {0.001, 0.01, 0.99}} {
		const n = 1e6
		a := arms{candidate: Counts{Bad: uint64(n * c.candidate), Good: uint64(n * (1 - c.candidate))}, live: Counts{Bad: uint64(n * c.live), Good: uint64(n * (1 - c.live))}}
		all, few := trials{usual: c.live, phi: 1}.gains(a), boundary{share: 0.5, phi: 1}.slower(a)
		exact, rare := slices.Max(all[:]), slices.Max(few[:])
		t.Logf("%.3g against %.3g: %.2f times", c.candidate, c.live, exact/rare)
		if exact < c.more*rare {
			t.Errorf("%v against %v: %.0f nats, with the other kernel %.0f", c.candidate, c.live, exact, rare)
		}
	}
}

func TestEmptyTurnsMoveNoWealthOfLatency(t *testing.T) {
	m := newMixture()
	for range 10000 {
		m.turn([slowness]float64{}, pace{length: 250 * time.Millisecond, limit: 4.6})
	}
	if math.Abs(m.now) > 1e-9 || m.peak > 1e-9 {
		t.Errorf("the wealth became e^%v, at most e^%v", m.now, m.peak)
	}
}
