package judge_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// slowTurns returns a latency judge in mid-release and one more turn of it, with its evidence and the pending requests of both arms.
func slowTurns(s judge.LatencySettings, rate float64) func() {
	w := slowWorldOf(1, 100, time.Minute, s)
	usual := lognormal(1)
	var live, candidate [64]*judge.Histogram
	for i := range live {
		live[i], candidate[i] = usual.draw(w.random, rate/2), usual.draw(w.random, rate/2)
	}
	var pending [2]judge.Pending
	i := 0
	return func() {
		i++
		t := judge.LatencyTurn{Length: quarter, Share: 0.5, Live: live[i%64], Candidate: candidate[i%64]}
		for arm, h := range []*judge.Histogram{t.Live, t.Candidate} {
			pending[arm].After(w.latency.HungAfter())
			pending[arm].Turn(quarter, 50, 50, 5)
			pending[arm].Settle(h)
		}
		w.latency.Turn(t)
		w.latency.Evidence()
	}
}

func limited() judge.LatencySettings {
	return judge.LatencySettings{Alpha: 0.01, Ratio: 1.1, Limit: 800 * time.Millisecond}
}

func TestSlowTurnsAllocateNothing(t *testing.T) {
	for name, rate := range map[string]float64{"requests": 100, "none": 0} {
		if n := testing.AllocsPerRun(1000, slowTurns(limited(), rate)); n != 0 {
			t.Errorf("%s: %v allocations per turn", name, n)
		}
	}
	w := newSlowWorld(1, 100, time.Minute)
	h := lognormal(1).draw(rand.New(rand.NewPCG(1, 1)), 100)
	if n := testing.AllocsPerRun(1000, func() {
		w.latency.Observe(h, time.Second)
		w.latency.Turn(judge.LatencyTurn{Length: time.Second, Share: 0.1})
	}); n != 0 {
		t.Errorf("%v allocations per observation and turn without histograms", n)
	}
}

// BenchmarkSlowTurn is everything that one turn of latency costs: pending requests of both arms, bets and evidence.
func BenchmarkSlowTurn(b *testing.B) {
	for name, c := range map[string]struct {
		settings judge.LatencySettings
		rate     float64
	}{"comparison": {slowDefaults(), 100}, "comparison and limit": {limited(), 100}, "empty": {limited(), 0}} {
		b.Run(name, func(b *testing.B) {
			turn := slowTurns(c.settings, c.rate)
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
		})
	}
}
