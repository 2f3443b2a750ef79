package judge_test

import (
	"testing"
	"time"
)

// slowConvictions runs reps rollouts of one cell and counts those that end in a conviction.
func slowConvictions(seed uint64, rate float64, history time.Duration, c course) (count int) {
	for past := range uint64(*reps / futures) {
		w := newSlowWorld(seed+past, rate, 0)
		w.observe(history, c.clusters)
		for future := range uint64(futures) {
			if w.fork((seed+past)*futures + future).roll(c).convicted {
				count++
			}
		}
	}
	return count
}

// TestReleasesAsFastAsLiveAreHardlyEverConvicted is judge.md 3.5's table of false rollbacks.
func TestReleasesAsFastAsLiveAreHardlyEverConvicted(t *testing.T) {
	t.Parallel()
	usual, slow := lognormal(1), lognormal(3)
	minute := func(at time.Duration) *shape {
		if at >= 200*time.Second && at < 260*time.Second {
			return &slow
		}
		return &usual
	}
	for name, cell := range map[string]struct {
		course
		history time.Duration
	}{
		"alike":                           {course{live: steady(usual), candidate: steady(usual)}, 30 * time.Minute},
		"alike, 10 s known":               {course{live: steady(usual), candidate: steady(usual)}, 10 * time.Second},
		"alike, none known":               {course{live: steady(usual), candidate: steady(usual)}, 0},
		"a shared slow spell":             {course{live: minute, candidate: minute}, 30 * time.Minute},
		"a cold start":                    {course{live: steady(usual), candidate: switched(20*time.Second, slow, usual), warm: 30 * time.Second}, 30 * time.Minute},
		"three times its share":           {course{live: steady(usual), candidate: steady(usual), skew: 3}, 30 * time.Minute},
		"a tenth of its share":            {course{live: steady(usual), candidate: steady(usual), skew: 0.1}, 30 * time.Minute},
		"a third, live faster than known": {course{live: steady(lognormal(0.7)), candidate: steady(lognormal(0.7)), skew: 0.3}, 30 * time.Minute},
		"within the margin":               {course{live: steady(usual), candidate: steady(lognormal(1.08))}, 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total, rates := 0, []float64{1, 100, 1000}
			for i, rate := range rates {
				count := slowConvictions(uint64(70000+1000*i), rate, cell.history, cell.course)
				t.Logf("%.0f rps: %d false of %d", rate, count, *reps)
				total += count
			}
			if limit := binomialLimit(len(rates)**reps, alpha); total > limit {
				t.Errorf("%d of %d convicted, at most %d are compatible with α", total, len(rates)**reps, limit)
			}
		})
	}
}

// TestPausesOfBothHardlyEverConvict: outside the proof, because φ is learned. Pauses hold up some requests in a row, now of one arm and now of the other.
func TestPausesOfBothHardlyEverConvict(t *testing.T) {
	t.Parallel()
	usual := lognormal(1)
	total, rates := 0, []float64{10, 100, 1000}
	for i, rate := range rates {
		count := slowConvictions(uint64(90000+1000*i), rate, 30*time.Minute, course{live: steady(usual), candidate: steady(usual), clusters: true})
		t.Logf("%.0f rps: %d false of %d", rate, count, *reps)
		total += count
	}
	if limit := binomialLimit(len(rates)**reps, alpha); total > limit {
		t.Errorf("%d of %d convicted, at most %d are compatible with α", total, len(rates)**reps, limit)
	}
}
