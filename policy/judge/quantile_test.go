package judge_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rampart-proxy/rampart/policy/judge"
)

func TestQuantilesAreInterpolated(t *testing.T) {
	h := spread(map[int]uint64{42: 100})
	for q, want := range map[float64]float64{0: 41, 0.25: 42, 0.5: 43, 1: 45, -1: 41, 2: 45} {
		if got := h.Quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
	if got := (&judge.Histogram{}).Quantile(0.5); got != 0 {
		t.Errorf("no requests have a median of %v", got)
	}
	drawn := lognormal(1).draw(rand.New(rand.NewPCG(1, 1)), 1e6)
	if p50, p99 := drawn.Quantile(0.5), drawn.Quantile(0.99); math.Abs(p50-50) > 0.5 || math.Abs(p99-250) > 5 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}

// What was long ago must not be in the quantiles of the last seconds, and no step's in the next one's.
func TestSpansForget(t *testing.T) {
	l := learned(slowDefaults())
	for range 20 {
		l.Turn(half(bell(), spread(map[int]uint64{5: 100})))
	}
	turn := half(bell(), spread(map[int]uint64{7: 100}))
	turn.NewStep = true
	for i := range 10 {
		l.Turn(turn)
		turn.NewStep = false
		if found := l.Evidence(); found.Step.Candidate.P99 < 7 || found.Release.Candidate.P50 > 6.5 || i == 0 && found.Recent.Candidate.P50 > 7 {
			t.Errorf("after %d turns: %+v", i+1, found)
		}
	}
	if found := l.Evidence(); found.Recent.Candidate.P50 < 7 {
		t.Errorf("after 10 s: %+v", found.Recent)
	}
}
