package judge_test

import (
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

const quarter = 250 * time.Millisecond

// defaults are the margins that judge.md's figures were measured with.
func defaults() judge.Settings { return judge.Settings{Alpha: 0.01, Ratio: 1.1, Points: 1e-4} }

// turns returns a judge, a guard and a share in mid-release with errors on both sides, and one more turn of theirs.
func turns(s judge.Settings) func() {
	e, g, seen := observed(s), &judge.Guard{}, judge.NewSeen(judge.SeenSettings{})
	for i := range 400 {
		e.Turn(at(uint64(i%3), uint64(i%2)))
	}
	i := 0
	return func() {
		i++
		turn := at(uint64(i%3), uint64(i%2))
		e.Turn(turn)
		found := e.Evidence()
		g.Turn(turn, found.Phi, found.Level)
		seen.Turn(judge.SeenTurn{Length: turn.Length, Share: turn.Share, Steady: true, Fleet: judge.Issued{Live: 50, Candidate: 50}})
	}
}

func TestTurnsAllocateNothing(t *testing.T) {
	s := defaults()
	s.Limit = 0.5
	if n := testing.AllocsPerRun(1000, turns(s)); n != 0 {
		t.Errorf("%v allocations per turn", n)
	}
}

// BenchmarkTurn is everything that one turn costs: evidence, guard rail and share seen.
func BenchmarkTurn(b *testing.B) {
	limited := defaults()
	limited.Limit = 0.5
	for name, s := range map[string]judge.Settings{"comparison": defaults(), "comparison and limit": limited} {
		b.Run(name, func(b *testing.B) {
			turn := turns(s)
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
		})
	}
}
