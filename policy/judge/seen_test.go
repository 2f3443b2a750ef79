package judge_test

import (
	"math"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// flow is one turn of 250 ms of proxies that held a share of a quarter throughout.
type flow struct{ live, candidate uint64 }

func (f flow) into(s *judge.Seen) bool {
	return s.Turn(quarter, 0.25, true, judge.Issued{Live: f.live, Candidate: f.candidate})
}

// until feeds turns and returns the number of the one that convicted, 0 for none.
func until(s *judge.Seen, turns int, f flow) int {
	for i := range turns {
		if f.into(s) {
			return i + 1
		}
	}
	return 0
}

// running has seen ten seconds of 300 requests per second, split as configured.
func running(t *testing.T) *judge.Seen {
	s := &judge.Seen{}
	if turn := until(s, 41, flow{56, 19}); turn != 0 {
		t.Fatalf("the configured split convicted at turn %d", turn)
	}
	return s
}

func TestSeenConvictsWithinASecondWhenTheCandidateGetsNothing(t *testing.T) {
	if turn := until(running(t), 40, flow{75, 0}); turn == 0 || turn > 4 {
		t.Errorf("convicted at turn %d", turn)
	}
}

func TestSeenConvictsBelowAQuarterOnly(t *testing.T) {
	// A quarter of 75 requests a turn should be 18.75; a quarter of that is 4.7.
	if turn := until(running(t), 40, flow{71, 4}); turn == 0 {
		t.Error("a fifth of the candidate's share does not convict")
	}
	if turn := until(running(t), 40, flow{70, 5}); turn != 0 {
		t.Errorf("more than a quarter convicts at turn %d", turn)
	}
}

func TestSeenWantsTwentyRequestsThatShouldHaveBeen(t *testing.T) {
	if turn := until(&judge.Seen{}, 400, flow{1, 0}); turn != 0 { // a quarter of 40 in ten seconds is 10
		t.Errorf("convicted at turn %d", turn)
	}
	if turn := until(&judge.Seen{}, 40, flow{19, 0}); turn != 6 { // a quarter of 76 in a second is 19: five turns make enough
		t.Errorf("convicted at turn %d, not 6", turn)
	}
	if turn := until(&judge.Seen{}, 400, flow{4, 0}); turn != 21 { // a quarter of 80 in five seconds
		t.Errorf("convicted at turn %d, not 21", turn)
	}
	if turn := until(&judge.Seen{}, 40, flow{20, 0}); turn != 5 { // the first turn only tells the share
		t.Errorf("convicted at turn %d, not 5", turn)
	}
}

func TestSeenConvictsNobodyWhenTheWholeFleetsTrafficFalls(t *testing.T) {
	s := running(t)
	for i := range 12 {
		if (flow{22, 0}).into(s) {
			t.Fatalf("convicted at turn %d although live fell to a third too", i+1)
		}
	}
}

func TestSeenBeginsAnewAfterAChange(t *testing.T) {
	for name, change := range map[string]func(s *judge.Seen) bool{
		"share":     func(s *judge.Seen) bool { return s.Turn(quarter, 0.5, true, judge.Issued{Live: 75, Candidate: 0}) },
		"unsteady":  func(s *judge.Seen) bool { return s.Turn(quarter, 0.25, false, judge.Issued{Live: 75, Candidate: 0}) },
		"no length": func(s *judge.Seen) bool { return s.Turn(0, 0.25, true, judge.Issued{Live: 75, Candidate: 0}) },
		"no share": func(s *judge.Seen) bool {
			return s.Turn(quarter, math.NaN(), true, judge.Issued{Live: 75, Candidate: 0})
		},
		"huge counts": func(s *judge.Seen) bool {
			return s.Turn(quarter, 0.25, true, judge.Issued{Live: 1 << 63, Candidate: 0})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t)
			// Never a whole second of the same share: never a conviction.
			for range 40 {
				if until(s, 2, flow{75, 0}) != 0 || change(s) {
					t.Fatal("convicted")
				}
			}
			if until(s, 6, flow{75, 0}) == 0 {
				t.Error("a whole second after the last change does not convict")
			}
		})
	}
}

func TestSeenTakesTurnsOfAnyLength(t *testing.T) {
	for _, length := range []time.Duration{100 * time.Millisecond, 700 * time.Millisecond, time.Second, 5 * time.Second} {
		var s judge.Seen
		convicted := time.Duration(0)
		for at := length; at <= 20*time.Second && convicted == 0; at += length {
			if s.Turn(length, 0.25, true, judge.Issued{Live: uint64(300 * length.Seconds())}) {
				convicted = at
			}
		}
		// One turn tells the share, then a full second is needed.
		if convicted < length+time.Second || convicted > 2*length+time.Second {
			t.Errorf("turns of %s: convicted after %s", length, convicted)
		}
	}
}

// beating is a fleet of few proxies whose reports beat against the turns: after each turn that brings the reports of several come as many that bring none.
func beating(s *judge.Seen, empty, turns int, f flow) int {
	for i := range turns {
		f := f
		if i%(empty+1) != 0 {
			f = flow{}
		}
		if f.into(s) {
			return i + 1
		}
	}
	return 0
}

func TestSeenIsNotHeldUpByTurnsWithoutReports(t *testing.T) {
	for empty, most := range map[int]int{1: 6, 2: 7} {
		s := &judge.Seen{}
		many := uint64(empty + 1)
		if turn := beating(s, empty, 60, flow{56 * many, 19 * many}); turn != 0 {
			t.Fatalf("%d empty turns: the configured split convicted at turn %d", empty, turn)
		}
		if turn := beating(s, empty, 40, flow{75 * many, 0}); turn == 0 || turn > most {
			t.Errorf("%d empty turns: convicted at turn %d, not within %d", empty, turn, most)
		}
	}
}

// The time of a turn without reports is not lost: what comes next counts as the traffic of both, so that a fall of the whole fleet's traffic is still seen.
func TestSeenCountsTheTimeOfTurnsWithoutReports(t *testing.T) {
	if turn := beating(running(t), 2, 12, flow{50, 0}); turn != 0 {
		t.Errorf("convicted at turn %d although live fell to a quarter, too", turn)
	}
	if turn := beating(running(t), 1, 40, flow{75, 0}); turn == 0 {
		t.Error("half of all traffic is still there, and it does not convict")
	}
}

func TestSeenBeginsAnewAfterThreeTurnsWithoutReports(t *testing.T) {
	s := running(t)
	for range 20 {
		if until(s, 2, flow{75, 0}) != 0 || until(s, 3, flow{}) != 0 {
			t.Fatal("convicted")
		}
	}
	if until(s, 6, flow{75, 0}) == 0 {
		t.Error("a whole second after the last gap does not convict")
	}
}

func TestSeenWantsLessThanATenthWhereTrafficIsLow(t *testing.T) {
	s := &judge.Seen{}
	for i := range 400 {
		f := flow{4, 0}
		if i%8 == 0 {
			f = flow{3, 1} // of 80 requests in five seconds three, of twenty that should have been
		}
		if f.into(s) {
			t.Fatalf("convicted at turn %d", i)
		}
	}
}
