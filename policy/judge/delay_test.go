package judge_test

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

var reps = flag.Int("reps", 30, "rollouts per cell of the simulations")

// TestDelaysAreThoseOfTheReference compares the bad requests that are served before the conviction with judge.md 2g, table "Turns", rows "new 0.25s" (baseline
// 0.1 %). The tolerance is four standard errors of both means, with the reference's spread taken to be ours.
func TestDelaysAreThoseOfTheReference(t *testing.T) {
	t.Parallel()
	for _, cell := range []struct {
		rate, bad float64
		mid       bool
		want      float64
	}{
		{100, 0.005, false, 15.7}, {100, 0.011, false, 6.5}, {100, 0.051, false, 3.5}, {100, 0.5, false, 3.1},
		{100, 0.005, true, 34.5}, {100, 0.011, true, 13.2}, {100, 0.051, true, 8.6}, {100, 0.5, true, 9.2},
		{10000, 0.005, false, 11.3}, {10000, 0.011, false, 6.5}, {10000, 0.051, false, 5.4}, {10000, 0.5, false, 25},
		{10000, 0.005, true, 32.3}, {10000, 0.011, true, 24.1}, {10000, 0.051, true, 59.3}, {10000, 0.5, true, 402},
	} {
		name := fmt.Sprintf("%.0f rps %.3g mid %t", cell.rate, cell.bad, cell.mid)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var served, delay []float64
			detected := 0
			for rep := range *reps {
				o, onset := fault(uint64(rep), cell.rate, cell.bad, cell.mid)
				served = append(served, float64(o.served))
				delay = append(delay, (o.at - onset).Seconds())
				if o.convicted {
					detected++
				}
			}
			mean, sem := moments(served)
			slices.Sort(delay)
			t.Logf("bad %.1f ± %.1f (reference %.1f), median delay %.2f s, detected %d of %d", mean, sem, cell.want, delay[len(delay)/2], detected, *reps)
			tolerance := 4 * sem * math.Sqrt(1+float64(*reps)/300)
			if math.Abs(mean-cell.want) > tolerance {
				t.Errorf("%.1f bad requests, the reference has %.1f ± %.1f", mean, cell.want, tolerance)
			}
		})
	}
}

// fault runs one rollout whose candidate turns bad at the start, or at a random phase of second 270.
func fault(seed uint64, rate, bad float64, mid bool) (outcome, time.Duration) {
	w := newWorld(seed, usual(rate, 0.001))
	f := fate{live: always(0.001), candidate: always(0.001), bad: bad}
	if mid {
		f.onset = 270*time.Second + time.Duration(w.random.Float64()*float64(time.Second))
	}
	return w.roll(0, 10*time.Minute, f), f.onset
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
