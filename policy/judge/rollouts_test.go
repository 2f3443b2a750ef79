package judge_test

import (
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	alpha   = 0.01  // what the judge promises
	futures = 5     // rollouts per history
	slack   = 0.001 // how often a test that should pass may fail, had its seed not been fixed
)

var reps = flag.Int("reps", 30, "rollouts per cell of the simulations")

// outcome is how a rollout ended.
type outcome struct {
	convicted bool
	by        string
	at        time.Duration // since the ramp began
	served    uint64        // bad candidate requests since the onset
}

// ramp is the share at a time of judge.md's ramp.
func ramp(at time.Duration) float64 {
	steps := [...]float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1}
	return steps[min(int(at/time.Minute), len(steps)-1)]
}

// binomialLimit is the number of events of probability p in n trials that is exceeded with probability slack at most.
func binomialLimit(n int, p float64) int {
	below, term := 0.0, math.Pow(1-p, float64(n))
	for k := 0; ; k++ {
		below += term
		if 1-below < slack {
			return k
		}
		term *= float64(n-k) / float64(k+1) * p / (1 - p)
	}
}

func moments(x []float64) (mean, sem float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		sem += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(sem / float64(len(x)-1) / float64(len(x)))
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// poisson draws by Knuth's product, and far from zero from the normal distribution that it then is.
func poisson(random *rand.Rand, mean float64) uint64 {
	if mean > 40 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	limit, product := math.Exp(-mean), random.Float64()
	n := uint64(0)
	for product > limit {
		product *= random.Float64()
		n++
	}
	return n
}
