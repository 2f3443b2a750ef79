package judge_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// law is a quantity as judge.md 3.8 simulated it: autoregressive, with normal innovations or those of Student's t with three degrees of freedom.
type law struct {
	name   string
	alike  float64
	tailed bool
}

func (l law) draw(random *rand.Rand) float64 {
	x := random.NormFloat64()
	if !l.tailed {
		return x
	}
	squares := 0.0
	for range 3 {
		y := random.NormFloat64()
		squares += y * y
	}
	return x / math.Sqrt(squares/3)
}

// deviation is the standard deviation of the quantity.
func (l law) deviation() float64 {
	variance := 1.0
	if l.tailed {
		variance = 3
	}
	return math.Sqrt(variance / (1 - l.alike*l.alike))
}

// arm is one arm's quantity, in time.
type arm struct {
	law
	value float64
}

func (a *arm) next(random *rand.Rand) float64 {
	a.value = a.alike*a.value + a.draw(random)
	return a.value
}

// readings runs 60 samples of one per 10 s after half an hour of live alone, with the candidate worse by a number of standard deviations, and returns how many samples
// it took to convict, 0 for none.
func readings(seed uint64, l law, shift float64) int {
	random := rand.New(rand.NewPCG(seed, 3))
	live, candidate := &arm{law: l}, &arm{law: l}
	g := judge.NewGauge(judge.GaugeSettings{Alpha: 0.01, Margin: 1e-9})
	for range 50 {
		live.next(random)
		candidate.next(random)
	}
	once := func(x float64) judge.Sample { return judge.Sample{Sum: x, Count: 1} }
	for range 180 {
		g.Observe(once(live.next(random)), 5*time.Second)
		g.Observe(judge.Sample{}, 5*time.Second)
	}
	for i := range 60 {
		g.Turn(judge.GaugeTurn{Length: 5 * time.Second})
		g.Turn(judge.GaugeTurn{Length: 5 * time.Second, Live: once(live.next(random)), Candidate: once(candidate.next(random) + shift*l.deviation())})
		if g.Evidence().Convicted {
			return i + 1
		}
	}
	return 0
}

// TestGaugesReproduceTheReferencesTable compares with judge.md 3.8, row "clipped-normal, AR-tempered", whose figures are those of no margin. The reference convicts
// 2 % of the healthy with the heavy tails of t3, twice of what α allows; here ψ forbids that, and bad ones are found later instead.
func TestGaugesReproduceTheReferencesTable(t *testing.T) {
	t.Parallel()
	n := *reps * 5
	for _, row := range []struct {
		law
		shift    float64
		detected float64 // %
		samples  float64 // median; 0 is more than 60
	}{
		{law{"normal", 0, false}, 0, 0.2, 0}, {law{"normal", 0, false}, 1, 95, 28}, {law{"normal", 0, false}, 2, 100, 8}, {law{"normal", 0, false}, 4, 100, 3},
		{law{"t3", 0, true}, 0, 2.0, 0}, {law{"t3", 0, true}, 1, 100, 13}, {law{"t3", 0, true}, 2, 100, 4}, {law{"t3", 0, true}, 4, 100, 2},
		{law{"AR.5", 0.5, false}, 0, 0.1, 0}, {law{"AR.5", 0.5, false}, 1, 37, 0}, {law{"AR.5", 0.5, false}, 2, 100, 20}, {law{"AR.5", 0.5, false}, 4, 100, 7},
		{law{"AR.8 t3", 0.8, true}, 0, 1.3, 0}, {law{"AR.8 t3", 0.8, true}, 1, 21, 0}, {law{"AR.8 t3", 0.8, true}, 2, 73, 41}, {law{"AR.8 t3", 0.8, true}, 4, 100, 17},
	} {
		var took []float64
		detected := 0
		for seed := range uint64(n) {
			at := float64(readings(seed, row.law, row.shift))
			if at > 0 {
				detected++
			} else {
				at = 61
			}
			took = append(took, at)
		}
		share, middle := 100*float64(detected)/float64(n), median(took)
		t.Logf("%-8s %g sd: %5.1f %% / %2.0f samples, the reference %5.1f %% / %2.0f", row.name, row.shift, share, middle, row.detected, row.samples)
		if row.samples == 0 {
			row.samples = 61
		}
		spread := 4*math.Sqrt(row.detected*(100-row.detected)/float64(n)) + 1
		switch {
		case row.shift == 0:
			if detected > binomialLimit(n, alpha) {
				t.Errorf("%d of %d healthy ones convicted", detected, n)
			}
		case row.name == "t3":
			if share < 95 || middle > 2*row.samples {
				t.Error("that is much less")
			}
		case math.Abs(share-row.detected) > spread || math.Abs(middle-row.samples) > max(1, 0.15*row.samples):
			t.Errorf("that is not within %.1f %%", spread)
		}
	}
}
