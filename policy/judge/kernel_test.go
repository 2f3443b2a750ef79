package judge

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// binomial returns the probabilities of 0 to n bad requests of n.
func binomial(n int, q float64) []float64 {
	p := make([]float64, n+1)
	for k := range p {
		top, _ := math.Lgamma(float64(n) + 1)
		left, _ := math.Lgamma(float64(k) + 1)
		right, _ := math.Lgamma(float64(n-k) + 1)
		p[k] = math.Exp(top - left - right + power(q, k) + power(1-q, n-k))
	}
	return p
}

// power is ln q^k with 0^0 = 1.
func power(q float64, k int) float64 {
	if k == 0 {
		return 0
	}
	return float64(k) * math.Log(q)
}

// expectation is E[e^gain] of one bet, exactly, for independent requests.
func expectation(b bet, n [2]int, q [2]float64) float64 {
	sum := 0.0
	candidates, lives := binomial(n[0], q[0]), binomial(n[1], q[1])
	for x, px := range candidates {
		for y, py := range lives {
			a := arms{candidate: Counts{Good: uint64(n[0] - x), Bad: uint64(x)}, live: Counts{Good: uint64(n[1] - y), Bad: uint64(y)}}
			sum += px * py * math.Exp(b.gain(a))
		}
	}
	return sum
}

// healthyBoundary is the boundary for a turn's own counts, as judge.md 1 proves it.
func healthyBoundary(n [2]int, ratio, points, phi float64) boundary {
	share := float64(n[0]) / float64(n[0]+n[1])
	return boundary{share: share * ratio / (share*ratio + 1 - share), rate: points, phi: phi}
}

// rounding is what exact sums of some thousand terms may be off.
const rounding = 1e-9

func TestOneTurnsFactorIsASupermartingale(t *testing.T) {
	worst := 0.0
	for _, n := range [][2]int{{1, 1}, {1, 9}, {3, 3}, {2, 18}, {8, 2}, {12, 6}, {19, 1}} {
		for _, phi := range []float64{1, 1.5, 2.04, 3.9, 4, 10, 100} {
			for _, margin := range [][2]float64{{1, 0}, {1.1, 0}, {1.1, 1e-4}, {1.5, 0.001}, {2, 0.05}} {
				b := healthyBoundary(n, margin[0], margin[1], phi)
				for _, live := range []float64{0, 1e-4, 0.01, 0.1, 0.5, 0.9, 1} {
					candidate := min(1, margin[0]*live+margin[1])
					for _, ratio := range ratios() {
						e := expectation(b.against(ratio), n, [2]float64{candidate, live})
						worst = max(worst, e)
						if e > 1+rounding {
							t.Fatalf("E = %.12f for n %v, φ %v, margin %v, live %v, ratio %v", e, n, phi, margin, live, ratio)
						}
					}
				}
			}
		}
	}
	t.Logf("largest expectation 1%+.1e", worst-1)
}

// What is a supermartingale for healthy candidates must grow for worse ones, or it would never convict.
func TestFactorsGrowWhenTheCandidateIsWorse(t *testing.T) {
	for _, phi := range []float64{1, 2.04, 4, 10} {
		for _, ratio := range ratios() {
			b := healthyBoundary([2]int{4, 16}, 1.1, 1e-4, phi)
			worse := min(1, ratio*(1.1*0.0005+1e-4)*2)
			if e := expectation(b.against(ratio), [2]int{4, 16}, [2]float64{worse, 0.0005}); e <= 1 {
				t.Errorf("E = %v at φ %v although the candidate is 2 × %v times the boundary", e, phi, ratio)
			}
		}
	}
}

func TestRandomTurnsFactorsAreSupermartingales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := [2]int{rapid.IntRange(1, 25).Draw(t, "candidate"), rapid.IntRange(1, 25).Draw(t, "live")}
		rho, delta := rapid.Float64Range(0.5, 3).Draw(t, "ρ"), rapid.Float64Range(0, 0.2).Draw(t, "δ")
		b := healthyBoundary(n, rho, delta, rapid.Float64Range(1, 100).Draw(t, "φ"))
		live := rapid.Float64Range(0, 1).Draw(t, "q live")
		// Any candidate that is no worse than the boundary is healthy, not only the worst of them.
		candidate := min(1, rho*live+delta) * rapid.Float64Range(0, 1).Draw(t, "part of the boundary")
		ratio := rapid.Float64Range(1, 2000).Draw(t, "effect")
		if e := expectation(b.against(ratio), n, [2]float64{candidate, live}); e > 1+rounding {
			t.Fatalf("E = %.12f", e)
		}
	})
}

func TestBetsAgainstALimitAreSupermartingales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Float64Range(1e-4, 0.99).Draw(t, "limit")
		b := boundary{rate: limit, phi: rapid.Float64Range(1, 100).Draw(t, "φ")}
		n := rapid.IntRange(1, 40).Draw(t, "candidate")
		q := limit * rapid.Float64Range(0, 1).Draw(t, "part of the limit")
		ratio := rapid.Float64Range(1, 1/limit).Draw(t, "effect")
		if e := expectation(b.against(ratio), [2]int{n, 3}, [2]float64{q, 0.5}); e > 1+rounding {
			t.Fatalf("E = %.12f", e)
		}
	})
}

// judge.md 2g: for clusters of geometric size the kernel is exact, so neither more nor less than the bound on the number of clusters is spent.
func TestClustersOfGeometricSizeGainWhatOneErrorWould(t *testing.T) {
	for _, m := range []float64{2.5, 5, 50} {
		for _, l := range []float64{-3, -0.1, 0, 0.1, 1, 4} {
			// Sizes are k with probability (1-1/m)^(k-1)/m.
			z := math.Exp(perCluster(l, m))
			sum := 0.0
			for term := z / m; term > 1e-15; term *= z * (1 - 1/m) {
				sum += term
			}
			if math.Abs(sum/math.Exp(l)-1) > 1e-6 {
				t.Errorf("mean size %v: E[z^S] = %v, not e^%v", m, sum, l)
			}
		}
	}
}

// Less than the whole would be valid too, but slow: a bet spends all that the boundary allows, in single errors below clustered (capped or not) and in clusters of
// variance ratio φ above.
func TestBetsSpendAllTheyMay(t *testing.T) {
	for _, phi := range []float64{1, 1.5, 2.04, 3.9, 4, 7, 50} {
		for _, share := range []float64{0.001, 0.1, 0.5, 0.95} {
			for _, ratio := range ratios() {
				b := boundary{share: share, phi: phi}
				bet := b.against(ratio)
				mean := func(l float64) float64 { return math.Exp(phi * l) }
				if phi >= clustered {
					mean = func(l float64) float64 { return 2 * math.Exp(l) / (phi + 1 - (phi-1)*math.Exp(l)) } // E[z^S], m = (1+φ)/2
				}
				if sum := share*mean(bet.candidate) + (1-share)*mean(bet.live); math.Abs(sum-1) > 1e-9 {
					t.Errorf("φ %v, share %v, ratio %v: %v is spent, not 1", phi, share, ratio, sum)
				}
			}
		}
	}
}

func TestShareIsTheTurnsShrunkTowardsTheStepsTowardsTheConfigured(t *testing.T) {
	e := NewErrors(Settings{})
	e.step = arms{live: Counts{Good: 70, Bad: 5}, candidate: Counts{Good: 20, Bad: 5}}
	turn := Turn{Length: time.Second, Share: 0.1, Live: Counts{Good: 50}, Candidate: Counts{Good: 40, Bad: 10}}
	usual := (25 + 20*0.1) / (100 + 20)
	if got, want := e.share(turn), (50+100*usual)/(100+100); math.Abs(got-want) > 1e-12 {
		t.Errorf("share %v, not %v", got, want)
	}
}

// The shrunken share is outside the proof. Averaged over the random split of a turn it must cost next to nothing (judge.md 2a: 0.01 nat per turn on its grid).
func TestShrunkenSharesCostLittle(t *testing.T) {
	worst := math.Inf(-1)
	for _, n := range []int{1, 2, 5, 10, 20} {
		for _, share := range []float64{0.01, 0.05, 0.25, 0.5, 0.9} {
			for _, live := range []float64{0.001, 0.01, 0.05} {
				for _, ratio := range ratios() {
					worst = max(worst, math.Log(shrunkenExpectation(n, share, live, ratio)))
				}
			}
		}
	}
	t.Logf("at most %+.5f nat per turn", worst)
	if worst > 0.01 {
		t.Errorf("a shrunken share costs %.4f nat per turn", worst)
	}
}

func shrunkenExpectation(n int, share, live, ratio float64) float64 {
	e := NewErrors(Settings{Ratio: 1.1})
	sum := 0.0
	for candidates, p := range binomial(n, share) {
		turn := Turn{Length: time.Second, Share: share, Candidate: Counts{Good: uint64(candidates)}, Live: Counts{Good: uint64(n - candidates)}}
		b := e.boundary(turn)
		b.phi = 1
		sum += p * expectation(b.against(ratio), [2]int{candidates, n - candidates}, [2]float64{1.1 * live, live})
	}
	return sum
}

func TestTurnsWithoutRequestsMoveNoWealth(t *testing.T) {
	p := newProcess()
	for range 10000 {
		p.turn([effects]float64{}, pace{length: 250 * time.Millisecond, limit: 4.6, relief: 1})
	}
	if math.Abs(p.now) > 1e-9 || p.peak > 1e-9 {
		t.Errorf("the wealth became e^%v, at most e^%v", p.now, p.peak)
	}
}

// A single turn must not decide whatever it holds, and two only when many effects agree (judge.md 2a, C0 and Cs).
func TestOneTurnNeverDecides(t *testing.T) {
	for _, length := range []time.Duration{shortest, 250 * time.Millisecond, time.Second, longest} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			e := NewErrors(Settings{Alpha: 0.01, Ratio: 1.1, Points: 1e-4, Limit: 0.05})
			for range 100 {
				e.Turn(Turn{Length: length, Share: 0.5, Live: Counts{Good: 1000}, Candidate: Counts{Good: 1000}})
			}
			e.Turn(Turn{Length: length, Share: 0.5, Live: Counts{Good: 1 << 30}, Candidate: Counts{Bad: 1 << 30}})
			if found := e.Evidence(); found.Convicted || found.Log < 0 {
				t.Errorf("after one hopeless turn: %+v", found)
			}
			for range 3 {
				e.Turn(Turn{Length: length, Share: 0.5, Live: Counts{Good: 1000}, Candidate: Counts{Bad: 1000}})
			}
			if !e.Evidence().Convicted {
				t.Error("three more do not convict")
			}
		})
	}
}

func TestCapsAreThoseOfTheReference(t *testing.T) {
	for length, want := range map[time.Duration]float64{time.Second: 5.6, 500 * time.Millisecond: 5.9, 250 * time.Millisecond: 6.15} {
		start, later := pace{length: length, limit: math.Log(100)}.caps()
		if math.Abs(start-3.04) > 0.005 || math.Abs(later-want) > 0.05 {
			t.Errorf("caps at %s are %.3f and %.3f, not 3.04 and %.2f", length, start, later, want)
		}
	}
}

// A bet gains at most 0.8 of one turn's cap in any 4 s while traffic is low and live's errors are few.
func TestBurstCapHoldsOverFourSeconds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newProcess()
		relief := rapid.Float64Range(1, 3).Draw(t, "relief")
		var gained [][bets]float64
		var lengths []time.Duration
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			at := pace{length: time.Duration(rapid.IntRange(100, 3000).Draw(t, "ms")) * time.Millisecond, limit: 4.6, relief: relief}
			var gains [effects]float64
			for i := range gains {
				gains[i] = rapid.Float64Range(-1, 8).Draw(t, "gain")
			}
			// What startLater adds is no gain.
			before := p
			before.startLater(at.hazard())
			p.turn(gains, at)
			var row [bets]float64
			for i := range row {
				row[i] = max(0, p.wealth[i]-before.wealth[i])
			}
			gained, lengths = append(gained, row), append(lengths, at.length)
			start, _ := at.caps()
			if sum := lastFour(gained, lengths)[0]; sum > burstShare*relief*start+1e-4 {
				t.Fatalf("gained %v in 4 s, the cap is %v", sum, burstShare*relief*start)
			}
		}
	})
}

func lastFour(gained [][bets]float64, lengths []time.Duration) [bets]float64 {
	var sum [bets]float64
	var length time.Duration
	for i := len(gained) - 1; i >= 0; i-- {
		if length += lengths[i]; length > burstSpan {
			break
		}
		for j, g := range gained[i] {
			sum[j] += g
		}
	}
	return sum
}
