package judge_test

import (
	"math"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// rail feeds a guard turns of 250 ms and returns the number of the turn that tripped it, 0 for none.
func rail(turns int, phi float64, turn func(i int) judge.Turn) (int, judge.Trip) {
	var g judge.Guard
	for i := range turns {
		if trip, tripped := g.Turn(turn(i), phi, 0.02); tripped {
			return i + 1, trip
		}
	}
	return 0, judge.Trip{}
}

// same repeats one turn at a share of a tenth.
func same(live, candidate judge.Counts) func(int) judge.Turn {
	return func(int) judge.Turn {
		return judge.Turn{Length: quarter, Share: 0.1, Live: live, Candidate: candidate}
	}
}

func TestGuardTripsOnTwoTurnsOfHeavyTraffic(t *testing.T) {
	turns, trip := rail(100, 2, same(judge.Counts{Good: 900}, judge.Counts{Good: 60, Bad: 60}))
	if want := (judge.Trip{Bad: 120, Finished: 240, Window: 2 * quarter}); turns != 2 || trip != want {
		t.Errorf("tripped at turn %d with %+v", turns, trip)
	}
}

// Where live has bursts, one burst of 3 s that hits the candidate alone must not trip it, however large.
func TestGuardWantsMoreThanABurstWhereLiveHasThem(t *testing.T) {
	burst := func(seconds int) func(int) judge.Turn {
		return func(i int) judge.Turn {
			turn := same(judge.Counts{Good: 900}, judge.Counts{Good: 100})(i)
			if i >= 30 && i < 30+4*seconds {
				turn.Candidate = judge.Counts{Good: 20, Bad: 200}
			}
			return turn
		}
	}
	if turns, trip := rail(100, 5, burst(4)); turns != 0 {
		t.Errorf("4 s tripped it at turn %d: %+v", turns, trip)
	}
	if turns, _ := rail(100, 5, burst(5)); turns != 47 {
		t.Errorf("errors in five different seconds trip it at turn %d, not 47", turns)
	}
}

func TestGuardForgivesABlip(t *testing.T) {
	for _, test := range []struct {
		blip    time.Duration
		failing int
		trips   bool
	}{{0, 2, true}, {quarter, 2, false}, {quarter, 3, true}, {2 * quarter, 3, false}, {2 * quarter, 4, true}, {2*quarter + 1, 4, false}} {
		g := judge.Guard{Blip: test.blip}
		tripped := false
		for i := range 100 {
			turn := same(judge.Counts{Good: 900}, judge.Counts{Good: 100})(i)
			if i >= 30 && i < 30+test.failing {
				turn.Candidate = judge.Counts{Bad: 200}
			}
			_, now := g.Turn(turn, 2, 0.02)
			tripped = tripped || now
		}
		if tripped != test.trips {
			t.Errorf("blip %s, %d failing turns: %t", test.blip, test.failing, tripped)
		}
	}
}

func TestGuardNeedsTwoFailingTurns(t *testing.T) {
	turns, trip := rail(100, 1, func(i int) judge.Turn {
		candidate := judge.Counts{Good: 10}
		if i == 30 {
			candidate = judge.Counts{Bad: 100000}
		}
		return judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 900}, Candidate: candidate}
	})
	if turns != 0 {
		t.Errorf("one turn tripped it: %+v", trip)
	}
}

// The 10 s rule works with few requests: 20, a third of them bad, in at least five different seconds.
func TestGuardTripsOnFewRequestsOverTenSeconds(t *testing.T) {
	slow := func(i int) judge.Turn {
		turn := judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 20}}
		if i%2 == 0 {
			turn.Candidate = judge.Counts{Good: uint64(i / 2 % 2), Bad: uint64(1 - i/2%2)}
		}
		return turn
	}
	// 20 requests are complete with the 39th turn.
	turns, trip := rail(100, 1.5, slow)
	if turns != 39 || trip.Finished != 20 || trip.Bad != 10 {
		t.Errorf("tripped at turn %d with %+v", turns, trip)
	}
	if turns, trip := rail(400, 1.7, slow); turns != 0 {
		t.Errorf("10 errors tripped it although bursts of 1.7 need 10.2: turn %d, %+v", turns, trip)
	}
}

func TestGuardWantsErrorsInFiveDifferentSeconds(t *testing.T) {
	burst := func(seconds int) func(int) judge.Turn {
		return func(i int) judge.Turn {
			turn := judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 20}, Candidate: judge.Counts{Good: 1}}
			if i < 4*seconds {
				turn.Candidate = judge.Counts{Bad: 2}
			}
			return turn
		}
	}
	if turns, trip := rail(200, 1, burst(4)); turns != 0 {
		t.Errorf("errors in four seconds tripped it at turn %d: %+v", turns, trip)
	}
	if turns, _ := rail(200, 1, burst(6)); turns == 0 {
		t.Error("errors in six seconds did not trip it")
	}
}

func TestGuardAcquitsWhenLiveIsNotHealthy(t *testing.T) {
	for name, live := range map[string]judge.Counts{
		"live above its level":       {Good: 900, Bad: 60}, // 6.25 %, above 5 % + 2 %/5
		"live fails half as often":   {Good: 700, Bad: 250},
		"too little of live to tell": {},
	} {
		if turns, trip := rail(100, 1, same(live, judge.Counts{Good: 60, Bad: 40})); turns != 0 {
			t.Errorf("%s: tripped at turn %d, %+v", name, turns, trip)
		}
	}
}

// 20 requests of live without an error are no proof that it is well where 30 % fail: in a shared outage that is luck, which some window has.
func TestGuardAcquitsWhenLiveMayHaveBeenLucky(t *testing.T) {
	few := func(every int) func(i int) judge.Turn {
		return func(i int) judge.Turn {
			turn := judge.Turn{Length: quarter, Share: 0.75, Candidate: judge.Counts{Good: 2, Bad: 1}}
			if i%every == 0 {
				turn.Live.Good = 1
			}
			return turn
		}
	}
	if turns, trip := rail(400, 1, few(2)); turns != 0 {
		t.Errorf("tripped at turn %d, %+v", turns, trip)
	}
	if turns, _ := rail(400, 1, few(1)); turns == 0 {
		t.Error("with twice as many it does not trip")
	}
}

func TestGuardAcquitsWhenLiveFailedInTheLastThreeSeconds(t *testing.T) {
	// Over 10 s live is below 5.4 %, over the last 3 s it is not: the shared fault has just begun. The candidate is too small for the short rule.
	late := func(liveBad uint64) func(i int) judge.Turn {
		return func(i int) judge.Turn {
			turn := judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 40}, Candidate: judge.Counts{Good: 1}}
			if i >= 100 {
				turn.Candidate = judge.Counts{Bad: 3}
			}
			if i >= 106 {
				turn.Live.Bad = liveBad
			}
			return turn
		}
	}
	if turns, trip := rail(119, 1, late(4)); turns != 0 {
		t.Errorf("tripped at turn %d, %+v", turns, trip)
	}
	if turns, _ := rail(119, 1, late(0)); turns == 0 {
		t.Error("the same without live's errors does not trip")
	}
}

func TestGuardAcquitsWhenLiveFailedInTheTenSecondsBefore(t *testing.T) {
	early := func(liveBad uint64) func(i int) judge.Turn {
		return func(i int) judge.Turn {
			turn := judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 900}, Candidate: judge.Counts{Good: 120}}
			if i < 20 {
				turn.Live.Bad = liveBad
			}
			if i >= 30 {
				turn.Candidate = judge.Counts{Bad: 120}
			}
			return turn
		}
	}
	if turns, trip := rail(34, 1, early(300)); turns != 0 {
		t.Errorf("tripped at turn %d, %+v", turns, trip)
	}
	if turns, _ := rail(34, 1, early(0)); turns != 32 {
		t.Errorf("the same without live's errors trips at turn %d, not 32", turns)
	}
}

func TestGuardWantsHalfOfAShortStretchToFail(t *testing.T) {
	// Two failing turns with calm ones between, after enough health that the 10 s rule does not apply.
	apart := func(calm int) func(i int) judge.Turn {
		return func(i int) judge.Turn {
			turn := judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 900}, Candidate: judge.Counts{Good: 100}}
			switch {
			case i == 20 || i == 21+calm:
				turn.Candidate = judge.Counts{Bad: 100}
			case i > 20 && i < 21+calm:
				turn.Candidate = judge.Counts{Good: 5}
			}
			return turn
		}
	}
	if turns, trip := rail(40, 1, apart(3)); turns != 0 {
		t.Errorf("two of five trip it: %+v", trip)
	}
	if turns, _ := rail(40, 1, apart(2)); turns != 24 {
		t.Errorf("two of four trip it at turn %d, not 24", turns)
	}
}

func TestGuardWorksAtFullWeightWithoutLive(t *testing.T) {
	turns, _ := rail(100, 2, func(int) judge.Turn {
		return judge.Turn{Length: quarter, Share: 0.9999, Candidate: judge.Counts{Good: 10, Bad: 10}}
	})
	if turns == 0 || turns > 40 {
		t.Errorf("half failing at full weight trips at turn %d", turns)
	}
}

func TestGuardCountsInTheWarmUpToo(t *testing.T) {
	turns, _ := rail(100, 2, func(int) judge.Turn {
		return judge.Turn{Length: quarter, Share: 0.1, Warming: true, Live: judge.Counts{Good: 900}, Candidate: judge.Counts{Good: 60, Bad: 60}}
	})
	if turns == 0 {
		t.Error("it does not trip in the warm-up")
	}
}

func TestGuardSaysNothingWithoutNumbers(t *testing.T) {
	var g judge.Guard
	for range 100 {
		turn := judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 900}, Candidate: judge.Counts{Bad: 100}}
		if trip, tripped := g.Turn(turn, math.NaN(), math.NaN()); tripped {
			t.Fatalf("tripped: %+v", trip)
		}
	}
}

func TestGuardForgetsAfterTenSeconds(t *testing.T) {
	for _, length := range []time.Duration{100 * time.Millisecond, quarter, time.Second, 5 * time.Second} {
		var g judge.Guard
		// Errors that are too few to trip, then health for 10 s, then as many again: together they would trip.
		few := judge.Turn{Length: length, Share: 0.1, Live: judge.Counts{Good: 900}, Candidate: judge.Counts{Good: 2, Bad: 5}}
		well := judge.Turn{Length: length, Share: 0.1, Live: judge.Counts{Good: 900}, Candidate: judge.Counts{}}
		for round := range 3 {
			for i := time.Duration(0); i <= 10*time.Second/length; i++ {
				turn := well
				if i == 0 {
					turn = few
				}
				if trip, tripped := g.Turn(turn, 1, 0.02); tripped {
					t.Errorf("turns of %s, round %d: %+v", length, round, trip)
				}
			}
		}
	}
}
