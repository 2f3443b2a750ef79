package judge

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// gaugeExpectation is E[e^gain] of one bet of a gauge without margin, where differences have values with probabilities, in units of their standard deviation.
func gaugeExpectation(i int, values, probabilities []float64) float64 {
	s := newScatter()
	s.variance = 0.5 // of one arm, so that their difference has 1
	sum := 0.0
	for k, value := range values {
		both := samples{live: Sample{Count: 1}, candidate: Sample{Sum: value, Count: 1}}
		c := s.compare(both, GaugeSettings{Margin: 1e-12})
		sum += probabilities[k] * math.Exp(c.gain(i))
	}
	return sum
}

// lattice is a symmetric law on a fine lattice with a standard deviation of 1.
func lattice(most float64, density func(x float64) float64) (values, probabilities []float64) {
	const n = 4000
	total, variance := 0.0, 0.0
	for k := range n {
		x := most * (float64(2*k+1)/n - 1)
		values = append(values, x)
		probabilities = append(probabilities, density(x))
		total += density(x)
		variance += x * x * density(x)
	}
	deviation := math.Sqrt(variance / total)
	for k := range values {
		values[k] /= deviation
		probabilities[k] /= total
	}
	return values, probabilities
}

func TestGaugeBetsAreSupermartingalesForNormalAndBoundedSymmetricLaws(t *testing.T) {
	laws := map[string]func() ([]float64, []float64){
		"normal": func() ([]float64, []float64) {
			return lattice(8, func(x float64) float64 { return math.Exp(-x * x / 2) })
		},
		"uniform":    func() ([]float64, []float64) { return lattice(1, func(float64) float64 { return 1 }) },
		"triangular": func() ([]float64, []float64) { return lattice(1, func(x float64) float64 { return 1 - math.Abs(x) }) },
		"arcsine": func() ([]float64, []float64) {
			return lattice(1, func(x float64) float64 { return 1 / math.Sqrt(1-x*x) })
		},
		"two-valued": func() ([]float64, []float64) { return []float64{-1, 1}, []float64{0.5, 0.5} },
	}
	for name, law := range laws {
		values, probabilities := law()
		for i, lambda := range lambdasOf() {
			e := gaugeExpectation(i, values, probabilities)
			t.Logf("%s, λ %g: %.4f", name, lambda, e)
			if e > 1+rounding {
				t.Errorf("%s, λ %g: E = %.6f", name, lambda, e)
			}
		}
	}
}

// A third of a large tail is not normal. Where live shows it, ψ grows until the bets are fair on what live showed.
func TestPsiGrowsWithTheTailsOfLive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offs := make([]float64, rapid.IntRange(scatterLeast, scatterSlots-1).Draw(t, "samples"))
		for i := range offs {
			offs[i] = rapid.SampledFrom([]float64{0, 0.1, -0.1, 1, 30}).Draw(t, "difference")
		}
		s := newScatter()
		deviation, _ := spread(offs)
		s.calibrate(offs, deviation)
		for i, lambda := range lambdasOf() {
			sum := 0.0
			for _, off := range offs {
				z := 0.0
				if deviation > 0 {
					z = min(math.Abs(off)/deviation, clip)
				}
				sum += (math.Exp(lambda*z-s.psi[i]) + math.Exp(-lambda*z-s.psi[i])) / 2 / float64(len(offs))
			}
			if sum > 1+rounding || s.psi[i] < usualPsi()[i] {
				t.Fatalf("λ %g: E = %v on what live showed", lambda, sum)
			}
		}
	})
}

func TestSpreadIsTheStandardDeviationOfNormalDifferences(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	sum := 0.0
	for range 1000 {
		var offs [scatterSlots]float64
		for i := range offs {
			offs[i] = 3 * random.NormFloat64()
		}
		deviation, _ := spread(offs[:])
		sum += deviation / 1000
	}
	if math.Abs(sum-3) > 0.06 {
		t.Errorf("%v, not 3", sum)
	}
	// And hardly more with three that are far off.
	offs := []float64{1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, 6, -6, 6}
	if deviation, rare := spread(offs); deviation > 2 || rare {
		t.Errorf("%v, %t", deviation, rare)
	}
}

// taught is what 64 seconds of 1000 requests a second teach, whose values scatter by 2 each and all of a second's by some more.
func taught(seed uint64, together float64) scatter {
	random := rand.New(rand.NewPCG(seed, 2))
	s := newScatter()
	for range scatterSlots {
		var p pool
		mean := together * random.NormFloat64()
		for range 4 {
			p.add(GaugeTurn{Length: 250 * time.Millisecond, Live: Sample{Sum: 250*mean + 2*math.Sqrt(250)*random.NormFloat64(), Count: 250}})
		}
		s.add(&p)
	}
	return s
}

func TestWhatDoesNotAverageOutIsToldFromWhatDoes(t *testing.T) {
	for _, together := range []float64{0, 0.2, 1} {
		variance, floor := 0.0, 0.0
		for seed := range uint64(200) {
			s := taught(seed, together)
			variance += s.variance / 200
			floor += s.floor / 200
		}
		t.Logf("of %g together: %.3f for each request and %.3f together", together, math.Sqrt(variance), math.Sqrt(floor))
		if deviation := math.Sqrt(variance); deviation < 2 || deviation > 2.2 || floor < 0.9*together*together || math.Sqrt(floor) > 1.2*together+0.04 {
			t.Errorf("of 2 for each request, and one standard error, and %g together", together)
		}
	}
}

func TestMedianIsTheMiddle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-3, 3), 1, scatterSlots).Draw(t, "values")
		sorted := slices.Sorted(slices.Values(values))
		if got := median(values); got != sorted[len(sorted)/2] {
			t.Fatalf("%v of %v", got, sorted)
		}
	})
}

func TestPoolsWaitForEnoughButNotForLong(t *testing.T) {
	for _, cell := range []struct {
		live, candidate uint64 // a turn
		turns           int
	}{{100, 100, 4}, {100, 2, 4}, {100, 1, 8}, {1, 100, 8}, {1, 1, 8}} {
		var p pool
		turns := 0
		for ; !p.ready(false); turns++ {
			p.add(GaugeTurn{Length: 250 * time.Millisecond, Live: Sample{Count: cell.live}, Candidate: Sample{Count: cell.candidate}})
		}
		if turns != cell.turns {
			t.Errorf("%+v: %d", cell, turns)
		}
	}
	var p pool
	for range 100 {
		if p.add(GaugeTurn{Length: time.Second}); p.ready(false) {
			t.Fatal("nothing is a sample")
		}
	}
	if p.add(GaugeTurn{Length: time.Second, Live: Sample{Count: 1}, Candidate: Sample{Count: 1}}); !p.ready(false) {
		t.Error("what is read once waits")
	}
}
