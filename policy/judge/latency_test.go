package judge_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// spread is a histogram with so many requests at each of some times in milliseconds.
func spread(at map[int]uint64) *judge.Histogram {
	h := &judge.Histogram{}
	for ms, n := range at {
		bucket := 0
		for _, bound := range judge.Bounds() {
			if ms >= bound {
				bucket++
			}
		}
		h[bucket] += n
	}
	return h
}

// bell is 1,000 requests: half below 20 ms, three quarters below 40, 90 % below 80, 95 % below 160, 99 % below 320, 99.5 % below 640, the rest below 1,500.
func bell() *judge.Histogram {
	return spread(map[int]uint64{15: 500, 35: 250, 75: 150, 155: 50, 315: 40, 620: 5, 1400: 4, 1900: 1})
}

func learned(s judge.LatencySettings) *judge.Latency {
	l := judge.NewLatency(s)
	for range 20 {
		l.Observe(bell(), time.Second)
	}
	return l
}

// half is a turn of a second at half the traffic.
func half(live, candidate *judge.Histogram) judge.LatencyTurn {
	return judge.LatencyTurn{Length: time.Second, Share: 0.5, Live: live, Candidate: candidate}
}

// untilSlow repeats a turn and returns how many it took to convict, 0 for none of many.
func untilSlow(l *judge.Latency, t judge.LatencyTurn) int {
	for i := range 200 {
		l.Turn(t)
		if l.Evidence().Convicted {
			return i + 1
		}
	}
	return 0
}

func TestSlowCandidateIsConvictedAndTheReasonIsNamed(t *testing.T) {
	l := learned(slowDefaults())
	slow := spread(map[int]uint64{15: 440, 35: 220, 75: 140, 700: 120, 1400: 80})
	if turns := untilSlow(l, half(bell(), slow)); turns < 2 || turns > 4 {
		t.Errorf("convicted after %d turns", turns)
	}
	found := l.Evidence()
	if found.By != "latency" || found.LogMax < found.Limit || math.Abs(found.Limit-math.Log(100)) > 1e-12 {
		t.Errorf("%+v", found)
	}
	// The threshold that says most: one live request in a hundred takes longer than 340 ms, and one of five of the candidate's.
	if arms := found.Release; found.Threshold != 340 || arms.Candidate.Good != 4*arms.Candidate.Bad || arms.Live.Good != 99*arms.Live.Bad {
		t.Errorf("the worst threshold is %d ms: %+v", found.Threshold, found.Release)
	}
	for range 100 {
		l.Turn(half(bell(), bell()))
	}
	if found := l.Evidence(); !found.Convicted || found.Log > found.LogMax {
		t.Errorf("a conviction is for good, but then: %+v", found)
	}
}

func TestSlownessOfBothArmsConvictsNobody(t *testing.T) {
	l := learned(slowDefaults())
	slow := spread(map[int]uint64{300: 500, 900: 300, 5000: 200})
	if turns := untilSlow(l, half(slow, slow)); turns != 0 {
		t.Errorf("convicted after %d turns", turns)
	}
}

// One live request of a hundred is slow, and three of the candidate's: enough for the comparison, and for a limit of 1 %, but for nobody who judges by live alone.
func TestLimitOnTheP99BindsWhateverLiveDoes(t *testing.T) {
	s := slowDefaults()
	s.Limit = time.Second
	slow := spread(map[int]uint64{15: 970, 1400: 30})
	for name, c := range map[string]struct {
		turn judge.LatencyTurn
		by   string
	}{
		"live as slow":     {half(slow, slow), "p99"},
		"no live":          {judge.LatencyTurn{Length: time.Second, Share: 0.9999, Candidate: slow}, "p99"},
		"live in trouble":  {judge.LatencyTurn{Length: time.Second, Share: 0.5, Live: slow, Candidate: slow, Held: true}, "p99"},
		"just within":      {half(bell(), spread(map[int]uint64{15: 991, 1400: 9})), ""},
		"just below":       {half(spread(map[int]uint64{15: 970, 990: 30}), spread(map[int]uint64{15: 970, 990: 30})), ""},
		"in the warm-up":   {judge.LatencyTurn{Length: time.Second, Share: 0.5, Live: slow, Candidate: slow, Warming: true}, ""},
		"no candidate yet": {judge.LatencyTurn{Length: time.Second, Share: 0.01, Live: slow}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := judge.NewLatency(s)
			// Nothing of the candidate's excess over live may help: the tail is live's own.
			for range 20 {
				l.Observe(spread(map[int]uint64{15: 960, 1400: 40}), time.Second)
			}
			untilSlow(l, c.turn)
			if found := l.Evidence(); found.By != c.by {
				t.Errorf("by %q: %+v", found.By, found)
			} else if c.by != "" && found.Threshold != 1000 {
				t.Errorf("the reason would name %d ms", found.Threshold)
			}
		})
	}
	free := learned(slowDefaults())
	free.Judge(judge.LatencySettings{Limit: -1})
	if untilSlow(free, half(slow, slow)) != 0 || free.Evidence().LimitMax != 0 {
		t.Error("without a limit it binds")
	}
}

func TestLimitAndComparisonShareTheRisk(t *testing.T) {
	l := learned(limited())
	if found := l.Evidence(); math.Abs(found.Limit-math.Log(200)) > 1e-12 {
		t.Errorf("each is held against e^%v", found.Limit)
	}
}

func TestNothingIsHeldAgainstACandidateWithoutRequests(t *testing.T) {
	l := learned(limited())
	for range 1000 {
		l.Turn(half(bell(), nil))
		l.Turn(judge.LatencyTurn{Length: quarter, Share: 0.5})
	}
	if found := l.Evidence(); found.LogMax > 1e-9 || found.LimitMax > 1e-9 || found.Log < -1e-9 {
		t.Errorf("%+v", found)
	}
}

func TestHeldAndWarmingTurnsMoveNoComparison(t *testing.T) {
	slow := spread(map[int]uint64{2000: 1000})
	for name, turn := range map[string]judge.LatencyTurn{
		"held": {Length: time.Second, Share: 0.5, Live: bell(), Candidate: slow, Held: true}, "warming": {Length: time.Second, Share: 0.5, Live: bell(), Candidate: slow, Warming: true},
		"alone": {Length: time.Second, Share: 0.999, Live: bell(), Candidate: slow},
	} {
		l := learned(slowDefaults())
		l.Turn(half(bell(), bell()))
		before := l.Evidence()
		for range 50 {
			l.Turn(turn)
		}
		found := l.Evidence()
		if found.Log != before.Log || found.LogMax != before.LogMax || found.Convicted {
			t.Errorf("%s: the evidence moved from %+v to %+v", name, before, found)
		}
		if found.Release.Candidate.Bad == 0 {
			t.Errorf("%s: its requests are not even counted", name)
		}
	}
}

// A live arm in trouble is no example.
func TestHeldTurnsTeachNothing(t *testing.T) {
	held, free := judge.NewLatency(slowDefaults()), judge.NewLatency(slowDefaults())
	for range 30 {
		held.Turn(judge.LatencyTurn{Length: time.Second, Share: 0.5, Live: bell(), Candidate: bell(), Held: true})
		free.Turn(half(bell(), bell()))
	}
	if a, b := held.Evidence().Thresholds, free.Evidence().Thresholds; a != 0 || b != 6 {
		t.Errorf("%d thresholds from turns that are held, %d from others", a, b)
	}
}

func TestThresholdsAreChosenFromWhatIsKnown(t *testing.T) {
	for _, c := range []struct {
		requests uint64
		want     int
		hung     time.Duration
	}{
		{19, 0, 0}, {20, 4, time.Second}, {100, 5, time.Second}, {1000, 6, 3 * time.Second},
	} {
		l := judge.NewLatency(slowDefaults())
		h := bell()
		for i := range h {
			// Rounded up, so that every bucket keeps a part.
			h[i] = (h[i]*c.requests + 500) / 1000
		}
		for h.Total() > c.requests {
			h[len(h)-1-lastOf(h)]--
		}
		for h.Total() < c.requests {
			h[10]++
		}
		l.Observe(h, time.Second)
		if found := l.Evidence(); found.Thresholds != c.want || (l.HungAfter() == 0) != (c.hung == 0) || l.HungAfter() < c.hung {
			t.Errorf("%d requests: %d thresholds, hung after %s", c.requests, found.Thresholds, l.HungAfter())
		}
	}
}

// lastOf is how far from the end the last bucket lies that is not empty.
func lastOf(h *judge.Histogram) int {
	for i := range h {
		if h[len(h)-1-i] > 0 {
			return i
		}
	}
	return len(h) - 1
}

func TestThresholdsOfOneBucketAreOne(t *testing.T) {
	l := judge.NewLatency(slowDefaults())
	l.Observe(spread(map[int]uint64{42: 5000}), time.Second)
	if found := l.Evidence(); found.Thresholds != 1 || found.Threshold != 45 {
		t.Errorf("%+v", found)
	}
	if turns := untilSlow(l, half(spread(map[int]uint64{42: 100}), spread(map[int]uint64{42: 50, 52: 50}))); turns < 2 || turns > 5 {
		t.Errorf("convicted after %d turns", turns)
	}
}

// Where all of live is beyond the last bound there is nothing to be slower than.
func TestLiveBeyondAllBoundsIsNotCompared(t *testing.T) {
	l := judge.NewLatency(slowDefaults())
	l.Observe(spread(map[int]uint64{200000: 5000}), time.Second)
	l.Turn(half(spread(map[int]uint64{200000: 50}), spread(map[int]uint64{200000: 50})))
	if found := l.Evidence(); found.Thresholds != 0 || found.Log != 0 || found.Recent.Live.P99 != 120000 {
		t.Errorf("%+v", found)
	}
}

func TestMarginIsAShift(t *testing.T) {
	live := spread(map[int]uint64{42: 500, 85: 500})
	for ratio, want := range map[float64]bool{1: true, 1.1: true, 1.3: false} {
		l := judge.NewLatency(judge.LatencySettings{Ratio: ratio})
		l.Observe(live, time.Second)
		// All of it a quarter slower.
		if turns := untilSlow(l, half(live, spread(map[int]uint64{52: 500, 107: 500}))); (turns > 0) != want {
			t.Errorf("ratio %v: convicted after %d turns", ratio, turns)
		}
	}
}

func TestJudgeBeginsTheEvidenceAnewButKeepsWhatItLearned(t *testing.T) {
	slow := half(bell(), spread(map[int]uint64{15: 400, 700: 600}))
	l := learned(slowDefaults())
	if untilSlow(l, slow) == 0 {
		t.Fatal("not convicted")
	}
	l.Judge(slowDefaults())
	if !l.Evidence().Convicted {
		t.Error("the same settings began anew")
	}
	l.Judge(judge.LatencySettings{Alpha: 0.02, Ratio: 1.5})
	if found := l.Evidence(); found.Convicted || found.LogMax != 0 || found.Thresholds != 6 || found.Phi > 1.5 {
		t.Errorf("%+v", found)
	}
	if untilSlow(l, slow) == 0 {
		t.Error("not convicted again")
	}
}

func TestNextReleaseStartsFromWhatIsKnownOfLive(t *testing.T) {
	l := learned(limited())
	untilSlow(l, half(bell(), spread(map[int]uint64{15: 400, 1400: 600})))
	l.Anew()
	found := l.Evidence()
	if found.Convicted || found.LogMax != 0 || found.Thresholds != 6 || found.Release != (judge.ArmTimes{}) || found.Recent != (judge.ArmTimes{}) {
		t.Errorf("%+v", found)
	}
	// All quantiles are still known: the highest threshold is that of the 99.9 %.
	if after := l.HungAfter(); after != 3*time.Second {
		t.Errorf("hung after %s", after)
	}
	// Live is another now, and much of what was known of it is wrong: some seconds outweigh it.
	for range 10 {
		l.Observe(spread(map[int]uint64{450: 500, 950: 500}), time.Second)
	}
	if after := l.HungAfter(); after < 1500*time.Millisecond {
		t.Errorf("hung after %s", after)
	}
	if turns := untilSlow(l, half(spread(map[int]uint64{450: 90, 700: 10}), spread(map[int]uint64{450: 90, 700: 10}))); turns != 0 {
		t.Errorf("convicted after %d turns", turns)
	}
}

func TestWhatIsNoReadingMovesNoLatency(t *testing.T) {
	huge, many := &judge.Histogram{40: 1 << 63}, &judge.Histogram{40: 1 << 32, 41: 1}
	full := &judge.Histogram{}
	for i := range full {
		full[i] = math.MaxUint64
	}
	slow := spread(map[int]uint64{5000: 100})
	for name, turn := range map[string]judge.LatencyTurn{
		"huge candidate": half(bell(), huge), "huge live": half(huge, slow), "many": half(bell(), many), "full": half(full, full),
		"no length": {Share: 0.5, Live: bell(), Candidate: slow}, "no share": {Length: time.Second, Share: math.NaN(), Live: bell(), Candidate: slow},
		"negative length": {Length: -1, Share: 0.5, Live: bell(), Candidate: slow},
	} {
		l := learned(limited())
		before := l.Evidence()
		for range 50 {
			l.Turn(turn)
			if turn.Length > 0 && name != "no share" && name != "many" && name != "huge candidate" {
				l.Observe(turn.Live, turn.Length)
			}
		}
		if l.Evidence() != before {
			t.Errorf("%s: the evidence moved from %+v to %+v", name, before, l.Evidence())
		}
	}
}

// drawSlow draws any turn of latency at all, sensible or not.
func drawSlow(t *rapid.T) judge.LatencyTurn {
	plain := drawTurn(t)
	count := rapid.OneOf(rapid.Uint64Range(0, 50), rapid.Uint64Range(0, 1<<26), rapid.SampledFrom([]uint64{1 << 31, 1 << 63}))
	histogram := rapid.Custom(func(t *rapid.T) *judge.Histogram {
		h := &judge.Histogram{}
		for range rapid.IntRange(0, 5).Draw(t, "buckets") {
			h[rapid.IntRange(0, judge.Buckets-1).Draw(t, "bucket")] = count.Draw(t, "count")
		}
		return h
	})
	turn := judge.LatencyTurn{Length: plain.Length, Share: plain.Share, NewStep: plain.NewStep, Warming: plain.Warming, Held: rapid.Bool().Draw(t, "held")}
	if rapid.IntRange(0, 4).Draw(t, "empty") > 0 {
		turn.Live, turn.Candidate = histogram.Draw(t, "live"), histogram.Draw(t, "candidate")
	}
	return turn
}

func TestAnyTurnsOfLatencyLeaveNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		any64 := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 2), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1)}))
		limit := rapid.OneOf(rapid.Int64Range(0, int64(200*time.Second)), rapid.Int64())
		l := judge.NewLatency(judge.LatencySettings{Alpha: any64.Draw(t, "alpha"), Ratio: any64.Draw(t, "ratio"), Limit: time.Duration(limit.Draw(t, "limit"))})
		for range rapid.IntRange(0, 30).Draw(t, "turns") {
			turn := drawSlow(t)
			l.Observe(turn.Live, turn.Length)
			l.Turn(turn)
			f := l.Evidence()
			sum := f.Log + f.LogMax + f.Limit + f.LogLimit + f.LimitMax + f.Phi
			for _, a := range []judge.ArmTimes{f.Release, f.Step, f.Recent} {
				sum += a.Live.P50 + a.Live.P99 + a.Candidate.P50 + a.Candidate.P99
			}
			if math.IsNaN(sum) || math.IsInf(sum, 0) || f.Phi < 1 || f.Log > f.LogMax || f.Convicted != (f.By != "") {
				t.Fatalf("%+v after %+v", f, turn)
			}
		}
	})
}

func TestZeroLatencyJudgesWithTheDefaults(t *testing.T) {
	var l judge.Latency
	l.Observe(bell(), time.Second)
	if turns := untilSlow(&l, half(bell(), spread(map[int]uint64{15: 400, 700: 600}))); turns < 2 || turns > 4 {
		t.Errorf("convicted after %d turns", turns)
	}
}

// A service with a request a second has turns with one of live's or one of the candidate's. Alone none of them says anything.
func TestSingleRequestsAreTakenTogether(t *testing.T) {
	l := learned(slowDefaults())
	one, slow := spread(map[int]uint64{15: 1}), spread(map[int]uint64{700: 1})
	for i := range 200 {
		if turn := half(one, nil); i%2 == 0 {
			l.Turn(turn)
		} else {
			l.Turn(half(nil, slow))
		}
	}
	if found := l.Evidence(); !found.Convicted {
		t.Errorf("%+v", found)
	}
}

// What happened at one share must not be taken together with what happened at another: a slow spell in between would look like the candidate's.
func TestWhatWaitsIsBetOnBeforeTheShareChanges(t *testing.T) {
	l := learned(slowDefaults())
	l.Turn(half(bell(), bell()))
	before := l.Evidence().Log
	l.Turn(half(spread(map[int]uint64{15: 8}), spread(map[int]uint64{700: 8})))
	if now := l.Evidence().Log; now != before {
		t.Fatalf("16 requests moved the evidence from %v to %v", before, now)
	}
	l.Turn(judge.LatencyTurn{Length: time.Second, Share: 0.9, NewStep: true})
	if now := l.Evidence().Log; now <= before {
		t.Errorf("they still wait: %v", now)
	}
}
