package judge_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// observed is a judge that saw a minute of a live arm with one error in a thousand, 400 requests per second.
func observed(s judge.Settings) *judge.Errors {
	e := judge.NewErrors(s)
	for i := range 240 {
		bad := uint64(0)
		if i%10 == 0 {
			bad = 1
		}
		e.Observe(judge.Counts{Good: 100 - bad, Bad: bad}, quarter)
	}
	return e
}

// at is a turn of 250 ms at half the traffic, 50 requests for each arm.
func at(liveBad, candidateBad uint64) judge.Turn {
	return judge.Turn{
		Length: quarter, Share: 0.5,
		Live: judge.Counts{Good: 50 - liveBad, Bad: liveBad}, Candidate: judge.Counts{Good: 50 - candidateBad, Bad: candidateBad},
	}
}

// untilConvicted repeats a turn and returns how many it took, 0 for none of many.
func untilConvicted(e *judge.Errors, t judge.Turn) int {
	for i := range 400 {
		e.Turn(t)
		if e.Evidence().Convicted {
			return i + 1
		}
	}
	return 0
}

func TestHalfFailingConvictsWithinAFewTurns(t *testing.T) {
	e := observed(defaults())
	if turns := untilConvicted(e, at(0, 25)); turns < 2 || turns > 4 {
		t.Errorf("convicted after %d turns", turns)
	}
	found := e.Evidence()
	if found.By != "errors" || found.LogMax < found.Limit || math.Abs(found.Limit-math.Log(100)) > 1e-12 {
		t.Errorf("%+v", found)
	}
	for range 100 {
		e.Turn(at(0, 0))
	}
	if found := e.Evidence(); !found.Convicted || found.Log > found.LogMax {
		t.Errorf("a conviction is for good, but then: %+v", found)
	}
}

func TestErrorsOfBothArmsConvictNobody(t *testing.T) {
	e := observed(defaults())
	if turns := untilConvicted(e, at(10, 10)); turns != 0 {
		t.Errorf("convicted after %d turns", turns)
	}
}

func TestIncidentOfLiveHoldsTheEvidence(t *testing.T) {
	e := observed(defaults())
	e.Turn(at(0, 0))
	if e.Evidence().Incident {
		t.Fatal("an incident without errors")
	}
	for range 8 {
		e.Turn(at(20, 20))
	}
	held := e.Evidence()
	if !held.Incident {
		t.Fatalf("no incident at 40 %% errors: %+v", held)
	}
	// Whatever the candidate does now, the evidence does not move.
	for range 8 {
		e.Turn(at(20, 50))
	}
	if found := e.Evidence(); found.Log != held.Log || found.Convicted || found.Phi != held.Phi || found.Level != held.Level {
		t.Errorf("the evidence moved from %+v to %+v", held, found)
	}
	if turns := untilConvicted(e, at(0, 50)); turns == 0 {
		t.Error("the hold never ends")
	}
}

// A service without a past is observed for 10 s only, and its first incident may come soon after. It must not pass for usual.
func TestIncidentIsNoticedAfterTenSecondsOfHistory(t *testing.T) {
	e := judge.NewErrors(defaults())
	for range 40 {
		e.Observe(judge.Counts{Good: 100}, quarter)
	}
	for range 20 {
		e.Turn(at(0, 0))
	}
	turns := 0
	for ; !e.Evidence().Incident && turns < 40; turns++ {
		e.Turn(at(10, 10))
	}
	if turns > 12 {
		t.Errorf("noticed after %d turns of 20 %% errors", turns)
	}
	level := e.Evidence().Level
	for range 400 {
		e.Turn(at(10, 10))
	}
	if found := e.Evidence(); !found.Incident || found.Level > level {
		t.Errorf("it became usual: %+v", found)
	}
}

func TestIncidentHoldLastsFifteenSecondsLonger(t *testing.T) {
	e := observed(defaults())
	for range 8 {
		e.Turn(at(20, 20))
	}
	turns := 0
	for ; e.Evidence().Incident && turns < 1000; turns++ {
		e.Turn(at(0, 0))
	}
	// The incident lasts until its turns have left the last 10 s or are too few in it, the hold 15 s more.
	if held := time.Duration(turns) * quarter; held < 15*time.Second || held > 26*time.Second {
		t.Errorf("held for %s after live was well again", held)
	}
}

func TestWarmUpMovesNoEvidence(t *testing.T) {
	e := observed(defaults())
	before := e.Evidence()
	for range 40 {
		turn := at(0, 40)
		turn.Warming = true
		e.Turn(turn)
	}
	found := e.Evidence()
	if found.Log != before.Log || found.LogMax != before.LogMax || found.Convicted {
		t.Errorf("evidence in the warm-up: %+v", found)
	}
	if found.Candidate.Bad != 40*40 || found.RecentCandidate.Bad != 40*40 {
		t.Errorf("the counts are not shown: %+v", found)
	}
}

func TestSumsAreOfTheReleaseTheStepAndTheLastTenSeconds(t *testing.T) {
	e := observed(defaults())
	for range 100 {
		e.Turn(at(1, 2))
	}
	turn := at(1, 2)
	turn.NewStep = true
	e.Turn(turn)
	e.Turn(at(1, 2))
	f := e.Evidence()
	for name, pair := range map[string][2]judge.Counts{
		"release": {f.Live, f.Candidate}, "step": {f.StepLive, f.StepCandidate}, "recent": {f.RecentLive, f.RecentCandidate},
	} {
		turns := map[string]uint64{"release": 102, "step": 2, "recent": 40}[name]
		want := [2]judge.Counts{{Good: 49 * turns, Bad: turns}, {Good: 48 * turns, Bad: 2 * turns}}
		if pair != want {
			t.Errorf("%s: %v, not %v", name, pair, want)
		}
	}
}

func TestOperatorsLimitConvictsWhateverLiveDoes(t *testing.T) {
	s := defaults()
	s.Limit = 0.05
	e := observed(s)
	if limit := e.Evidence().Limit; math.Abs(limit-math.Log(200)) > 1e-12 {
		t.Errorf("with two processes each is held against ln 200, not %v", limit)
	}
	// Both fail alike, so the comparison finds nothing; live is in an incident, and even that does not excuse the candidate.
	if turns := untilConvicted(e, at(20, 20)); turns == 0 {
		t.Fatal("40 % errors with a limit of 5 % are not convicted")
	}
	if found := e.Evidence(); found.By != "limit" || found.LogLimit < found.Limit || found.LogMax >= found.Limit {
		t.Errorf("%+v", found)
	}
}

func TestErrorsBelowTheOperatorsLimitConvictNobody(t *testing.T) {
	s := defaults()
	s.Limit = 0.05
	e := observed(s)
	for range 400 {
		e.Turn(at(2, 2)) // 4 % of both
	}
	if found := e.Evidence(); found.Convicted {
		t.Errorf("%+v", found)
	}
}

// From 0.999 on there is no control: only what is far above live's past convicts, and it does (judge.md 2a, p = 1).
func TestWithoutControlLivesPastIsTheMeasure(t *testing.T) {
	full := func(bad uint64) judge.Turn {
		return judge.Turn{Length: quarter, Share: 0.9999, Candidate: judge.Counts{Good: 100 - bad, Bad: bad}}
	}
	if turns := untilConvicted(observed(defaults()), full(30)); turns == 0 {
		t.Error("30 % errors at full weight are not convicted")
	}
	e := observed(defaults())
	for i := range 400 {
		bad := uint64(0)
		if i%10 == 0 {
			bad = 1
		}
		e.Turn(full(bad))
	}
	if e.Evidence().Convicted {
		t.Error("live's own rate is convicted at full weight")
	}
}

// Sticky sessions or a stale proxy may give the candidate another share than configured.
func TestRealShareMayDifferFromTheConfigured(t *testing.T) {
	e := observed(defaults())
	for i := range 2000 {
		turn := judge.Turn{Length: quarter, Share: 0.1, Live: judge.Counts{Good: 70}, Candidate: judge.Counts{Good: 30}}
		switch i % 10 { // 1 % errors of both arms
		case 0, 2, 4, 5, 6, 8, 9:
			turn.Live.Bad = 1
		default:
			turn.Candidate.Bad = 1
		}
		e.Turn(turn)
	}
	if found := e.Evidence(); found.Convicted || found.Log > 1 {
		t.Errorf("%+v", found)
	}
}

func TestBurstyLiveRaisesPhi(t *testing.T) {
	calm, bursty := judge.NewErrors(defaults()), judge.NewErrors(defaults())
	for i := range 4 * 600 {
		calm.Observe(judge.Counts{Good: 99, Bad: 1}, quarter)
		turn := judge.Counts{Good: 100}
		if i%80 == 0 {
			turn = judge.Counts{Good: 60, Bad: 40}
		}
		bursty.Observe(turn, quarter)
	}
	if phi := calm.Evidence().Phi; phi > 1.1 {
		t.Errorf("φ of an even trickle of errors is %v", phi)
	}
	if phi := bursty.Evidence().Phi; phi < 4 {
		t.Errorf("φ of bursts of 40 errors is %v", phi)
	}
}

// The rate itself may change; only its unrest is dispersion.
func TestOneJumpOfTheRateIsNoDispersion(t *testing.T) {
	e := judge.NewErrors(defaults())
	for i := range 4 * 1200 {
		bad := uint64(1)
		if i >= 4*600 {
			bad = 5
		}
		e.Observe(judge.Counts{Good: 100 - bad, Bad: bad}, quarter)
	}
	if phi := e.Evidence().Phi; phi > 1.2 {
		t.Errorf("φ is %v", phi)
	}
}

func TestIncidentsOfAReleaseTeachNoDispersion(t *testing.T) {
	e := judge.NewErrors(defaults())
	for range 4 * 600 {
		e.Observe(judge.Counts{Good: 99, Bad: 1}, quarter)
	}
	turn := judge.Turn{Length: quarter, Share: 0.01, Live: judge.Counts{Good: 20, Bad: 80}}
	for i := 0; !e.Evidence().Incident; i++ {
		if e.Turn(turn); i > 40 {
			t.Fatal("no incident")
		}
	}
	// A wild one, but none of it is learned.
	before := e.Evidence().Phi
	for i := range 400 {
		turn.Live = judge.Counts{Good: 20, Bad: uint64(i % 7 * 100)}
		e.Turn(turn)
	}
	if found := e.Evidence(); !found.Incident || found.Phi != before {
		t.Errorf("φ went from %v to %v: %+v", before, found.Phi, found)
	}
}

// Counters that went backwards, clocks that stood still and shares that are no numbers are no readings.
func TestWhatIsNoReadingMovesNothing(t *testing.T) {
	huge := judge.Counts{Good: 1 << 63, Bad: math.MaxUint64}
	for name, turn := range map[string]judge.Turn{
		"huge candidate":  {Length: quarter, Share: 0.5, Live: judge.Counts{Good: 100}, Candidate: huge},
		"huge live":       {Length: quarter, Share: 0.5, Live: huge, Candidate: judge.Counts{Bad: 100}},
		"no length":       {Share: 0.5, Live: judge.Counts{Good: 100}, Candidate: judge.Counts{Bad: 100}},
		"negative length": {Length: -time.Hour, Share: 0.5, Live: judge.Counts{Good: 100}, Candidate: judge.Counts{Bad: 100}},
		"no share":        {Length: quarter, Share: math.NaN(), Live: judge.Counts{Good: 100}, Candidate: judge.Counts{Bad: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			e, g := observed(defaults()), &judge.Guard{}
			before := e.Evidence()
			for range 50 {
				e.Turn(turn)
				if _, tripped := g.Turn(turn, 1, 0.02); tripped {
					t.Fatal("the guard rail tripped")
				}
			}
			if e.Evidence() != before {
				t.Errorf("the evidence moved from %+v to %+v", before, e.Evidence())
			}
		})
	}
}

func TestStepBeginsEvenWithATurnThatIsNoReading(t *testing.T) {
	e := observed(defaults())
	e.Turn(at(0, 0))
	e.Turn(judge.Turn{NewStep: true, Share: 0.5})
	if found := e.Evidence(); found.StepCandidate != (judge.Counts{}) || found.Candidate.Good != 50 {
		t.Errorf("%+v", found)
	}
}

// drawTurn draws any turn at all, sensible or not.
func drawTurn(t *rapid.T) judge.Turn {
	count := rapid.OneOf(rapid.Uint64Range(0, 200), rapid.Uint64Range(0, 1<<32), rapid.Uint64())
	counts := rapid.Custom(func(t *rapid.T) judge.Counts {
		return judge.Counts{Good: count.Draw(t, "good"), Bad: count.Draw(t, "bad")}
	})
	return judge.Turn{
		Length:  time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(6*time.Second)), rapid.Int64()).Draw(t, "length")),
		Share:   rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 2})).Draw(t, "share"),
		NewStep: rapid.Bool().Draw(t, "new step"), Warming: rapid.Bool().Draw(t, "warming"),
		Live: counts.Draw(t, "live"), Candidate: counts.Draw(t, "candidate"),
	}
}

func TestAnyTurnsLeaveNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		any64 := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1)}))
		e := judge.NewErrors(judge.Settings{
			Alpha: any64.Draw(t, "alpha"), Ratio: any64.Draw(t, "ratio"), Points: any64.Draw(t, "points"), Limit: any64.Draw(t, "limit"),
		})
		g := judge.Guard{}
		for range rapid.IntRange(0, 30).Draw(t, "turns") {
			turn := drawTurn(t)
			e.Observe(turn.Live, turn.Length)
			e.Turn(turn)
			f := e.Evidence()
			g.Turn(turn, f.Phi, f.Level)
			if sum := f.Log + f.LogMax + f.Limit + f.LogLimit + f.Phi + f.Level; math.IsNaN(sum) || math.IsInf(sum, 0) {
				t.Fatalf("%+v after %+v", f, turn)
			}
			if f.Phi < 1 || f.Log > f.LogMax || f.Convicted != (f.By != "") {
				t.Fatalf("%+v after %+v", f, turn)
			}
		}
	})
}

func TestZeroValueJudgesWithTheDefaults(t *testing.T) {
	var e judge.Errors
	if found := e.Evidence(); found.Convicted || math.Abs(found.Limit-math.Log(100)) > 1e-12 {
		t.Errorf("%+v", found)
	}
	e.Turn(at(0, 0))
	if e.Evidence().Convicted {
		t.Error("a healthy turn convicts")
	}
	if turns := untilConvicted(&e, at(0, 25)); turns < 2 {
		t.Errorf("half failing convicts after %d turns", turns)
	}
}
