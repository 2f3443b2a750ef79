package judge_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// hanging simulates a service whose requests may hang, at 100 requests per second, with turns of 250 ms and a tenth for the candidate. A request that finishes brings
// its time; one that hangs is only ever in progress.
type hanging struct {
	random  *rand.Rand
	latency *judge.Latency
	arms    [2]*hangingArm // live, candidate
}

type hangingArm struct {
	share   float64
	hangs   float64        // of its requests from now on
	active  map[int]uint64 // by the turn in which they finish; -1: never
	pending judge.Pending
}

func newHanging(seed uint64, settings judge.LatencySettings) *hanging {
	w := slowWorldOf(seed, 100, time.Minute, settings)
	return &hanging{random: w.random, latency: w.latency, arms: [2]*hangingArm{
		{share: 0.9, active: map[int]uint64{}}, {share: 0.1, active: map[int]uint64{}},
	}}
}

// turn is what an arm brings in one turn.
func (a *hangingArm) turn(random *rand.Rand, number int, after time.Duration) *judge.Histogram {
	usual := lognormal(1)
	h := &judge.Histogram{}
	issued := poisson(random, 25*a.share)
	for range issued {
		if random.Float64() < a.hangs {
			a.active[-1]++
		} else {
			a.active[number+random.IntN(2)]++
		}
	}
	finished := a.active[number]
	delete(a.active, number)
	for range finished {
		one := random.Float64()
		for i, p := range usual {
			if one -= p; one < 0 {
				h[i]++
				break
			}
		}
	}
	level := uint64(0)
	for _, n := range a.active {
		level += n
	}
	a.pending.After(after)
	a.pending.Turn(quarter, issued, finished, level)
	a.pending.Settle(h)
	return h
}

// run lets some turns pass and returns when the judge convicted, 0 if it did not.
func (w *hanging) run(turns int) time.Duration {
	for i := range turns {
		after := w.latency.HungAfter()
		live, candidate := w.arms[0].turn(w.random, i, after), w.arms[1].turn(w.random, i, after)
		w.latency.Turn(judge.LatencyTurn{Length: quarter, Share: 0.1, NewStep: i == 0, Live: live, Candidate: candidate})
		if w.latency.Evidence().Convicted {
			return time.Duration(i+1) * quarter
		}
	}
	return 0
}

func TestHangingCandidateIsConvictedInSeconds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hangs float64
		most  time.Duration
	}{"all of it": {1, 5 * time.Second}, "half of it": {0.5, 9 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			for _, settings := range []judge.LatencySettings{slowDefaults(), limited()} {
				sum := time.Duration(0)
				for rep := range *reps {
					w := newHanging(uint64(rep), settings)
					w.arms[1].hangs = c.hangs
					at := w.run(400)
					if at == 0 {
						t.Fatal("not convicted")
					}
					sum += at
				}
				mean := sum / time.Duration(*reps)
				t.Logf("after %s on average, limit %s", mean, settings.Limit)
				if mean > c.most {
					t.Errorf("convicted after %s on average, not within %s", mean, c.most)
				}
			}
		})
	}
}

func TestSharedHangsBlameNobody(t *testing.T) {
	t.Parallel()
	count := 0
	for rep := range *reps {
		w := newHanging(uint64(1000+rep), slowDefaults())
		for _, hangs := range []float64{0, 1, 0, 0.5, 0.1} {
			w.arms[0].hangs, w.arms[1].hangs = hangs, hangs
			if w.run(80) > 0 {
				count++
				break
			}
			// What hangs is given up at last.
			w.arms[0].active, w.arms[1].active = map[int]uint64{}, map[int]uint64{}
		}
	}
	t.Logf("%d of %d convicted", count, *reps)
	if limit := binomialLimit(*reps, alpha); count > limit {
		t.Errorf("%d of %d convicted, at most %d are compatible with α", count, *reps, limit)
	}
}
