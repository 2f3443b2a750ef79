package judge_test

import "time"

// fixedRule is what share seen was before it became a test with a known error rate: 20 tries that should have gone to the candidate in at least a second, fewer than
// a quarter that did (a tenth where it took longer). It is kept to compare with.
type fixedRule struct{ turns []fixedTurn }

type fixedTurn struct{ live, candidate float64 }

func (f *fixedRule) turn(share float64, live, candidate uint64) bool {
	f.turns = append(f.turns, fixedTurn{float64(live), float64(candidate)})
	f.turns = f.turns[max(0, len(f.turns)-int(10*time.Second/quarter)):]
	var sum fixedTurn
	part, least := 0.25, int(time.Second/quarter)
	for n := 1; n <= len(f.turns); n++ {
		turn := f.turns[len(f.turns)-n]
		sum.live += turn.live
		sum.candidate += turn.candidate
		should := share * (sum.live + sum.candidate)
		if n > least {
			part = 0.1
		}
		if n >= least && should >= 20 {
			return sum.candidate < part*should
		}
	}
	return false
}
