package policy

import (
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// steadyTurns returns one more turn of a release in which nothing changes: of one that is judged by errors, or by times and two quantities besides.
func steadyTurns(more bool) func() Judgement {
	s := soakingAt(2500)
	r := quarterSecond(0, 0, 25)
	r.Proxies = []ProxyReading{{Proxy: "edge-1", Live: 75, Candidate: 25, Steady: true}}
	if more {
		s.Service.Analysis.Quality = []Quality{{ORCA: "named_metrics.accuracy", Better: Higher}, {ORCA: "named_metrics.tokens", Better: Higher}}
		r.Quality = make([]ArmSamples, 2)
	} else {
		s.Service.Analysis.Latency = &Latency{Off: true}
		r.Times = nil
	}
	e := NewEvidence(s.Release.ID, s.Service.Analysis)
	e.WordsEvery(time.Hour)
	at, turns := s.Release.Weight, 0
	turn := func() Judgement {
		turns++
		now := r
		if turns%4 != 0 {
			now.Times = nil // proxies flush their statistics once a second
		}
		for i := range now.Quality {
			count := uint64(25)
			now.Quality[i].Live = judge.Sample{Sum: 25 + float64(turns*7%5), Count: count}
			now.Quality[i].Candidate = judge.Sample{Sum: 25 + float64(turns*3%5), Count: count}
		}
		return e.Take(now, s)
	}
	s.Release.Weight = 0
	for range 400 {
		turn()
	}
	s.Release.Weight = at
	for range 400 {
		turn()
	}
	return turn
}

func TestSteadyTurnsAllocateNothing(t *testing.T) {
	for name, more := range map[string]bool{"errors": false, "errors, times and two quantities": true} {
		turn := steadyTurns(more)
		if n := testing.AllocsPerRun(1000, func() { turn() }); n != 0 {
			t.Errorf("%s: %v allocations per turn", name, n)
		}
		if j := turn(); j.Verdict != Healthy {
			t.Errorf("%s: %+v", name, j)
		}
	}
}

// BenchmarkTake is everything that one turn of a running release costs, but for its words.
func BenchmarkTake(b *testing.B) {
	for _, c := range []struct {
		name string
		more bool
	}{{"errors", false}, {"errors, times and two quantities", true}} {
		b.Run(c.name, func(b *testing.B) {
			turn := steadyTurns(c.more)
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
		})
	}
}

// BenchmarkWords is what choosing a judgement's words costs, once a second.
func BenchmarkWords(b *testing.B) {
	s := soakingAt(2500)
	e := settled(s)
	b.ReportAllocs()
	for b.Loop() {
		j := e.Latest
		e.worded = time.Hour
		e.word(&j, &e.turn)
	}
}
