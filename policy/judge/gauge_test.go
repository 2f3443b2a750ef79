package judge_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// accuracy is a gauge of something of which more is better.
func accuracy() judge.GaugeSettings { return judge.GaugeSettings{Alpha: 0.01, HigherIsBetter: true} }

// of is a sample of n requests with a mean.
func of(n uint64, mean float64) judge.Sample { return judge.Sample{Sum: float64(n) * mean, Count: n} }

// acquainted is a gauge that saw a minute of live's requests, 100 a turn, whose means are one of a few around 0.9.
func acquainted(s judge.GaugeSettings) *judge.Gauge {
	g := judge.NewGauge(s)
	for i := range 240 {
		g.Observe(of(100, wobbling(i)), quarter)
	}
	return g
}

// wobbling are means of 100 requests in a fixed irregular order.
func wobbling(i int) float64 { return 0.9 + 0.03*math.Sin(float64(i*i)) }

// untilWorse feeds turns and returns how many it took to convict, 0 for none of many.
func untilWorse(g *judge.Gauge, turn func(i int) judge.GaugeTurn) int {
	for i := range 1200 {
		if g.Turn(turn(i)); g.Evidence().Convicted {
			return i + 1
		}
	}
	return 0
}

// byLess is a turn in which the candidate's mean is lower by a difference.
func byLess(difference float64) func(i int) judge.GaugeTurn {
	return func(i int) judge.GaugeTurn {
		return judge.GaugeTurn{Length: quarter, Live: of(50, wobbling(i)), Candidate: of(50, wobbling(i+7)-difference)}
	}
}

func TestAWorseMeanConvictsAndABetterOneDoesNot(t *testing.T) {
	g := acquainted(accuracy())
	turns := untilWorse(g, byLess(0.1))
	if turns < 8 || turns > 40 {
		t.Errorf("0.1 less convicts after %d turns", turns)
	}
	found := g.Evidence()
	if !found.Known || found.LogMax < found.Limit || found.Weighed != uint64(turns/4) || math.Abs(found.RecentLive-found.RecentCandidate-0.1) > 0.02 ||
		math.Abs(found.Live.Mean()-0.9) > 0.02 || found.Scatter <= 0 || found.Margin <= 0 || found.Phi < 1 {
		t.Errorf("%+v", found)
	}
	for _, difference := range []float64{0, -0.1} {
		if turns := untilWorse(acquainted(accuracy()), byLess(difference)); turns != 0 {
			t.Errorf("%g less convicts after %d turns", difference, turns)
		}
	}
	lower := judge.GaugeSettings{Alpha: 0.01}
	if untilWorse(acquainted(lower), byLess(0.1)) != 0 || untilWorse(acquainted(lower), byLess(-0.1)) == 0 {
		t.Error("the direction makes no difference")
	}
}

func TestWithinItsMarginACandidateIsNoWorse(t *testing.T) {
	s := accuracy()
	s.Margin = 0.12
	if turns := untilWorse(acquainted(s), byLess(0.1)); turns != 0 {
		t.Errorf("0.1 less convicts after %d turns", turns)
	}
	if turns := untilWorse(acquainted(s), byLess(0.2)); turns == 0 {
		t.Error("0.2 less does not convict")
	}
}

func TestNothingIsJudgedBeforeLiveIsKnown(t *testing.T) {
	g := judge.NewGauge(accuracy())
	for i := range 36 {
		g.Turn(byLess(0.5)(i))
		if found := g.Evidence(); found.Known != (i == 35) || found.Weighed > 0 {
			t.Fatalf("turn %d: %+v", i, found)
		}
	}
	if untilWorse(g, byLess(0.5)) == 0 {
		t.Error("and nothing after")
	}
}

func TestTheNextReleaseBeginsWithWhatIsKnownOfLive(t *testing.T) {
	g := acquainted(accuracy())
	untilWorse(g, byLess(0.3))
	before := g.Evidence()
	g.Anew()
	if found := g.Evidence(); found.Convicted || !found.Known || found.Log != 0 || found.LogMax != 0 || found.Live.Count != 0 || found.Scatter != before.Scatter {
		t.Errorf("%+v", found)
	}
	if turns := untilWorse(g, byLess(0.3)); turns == 0 || turns > 30 {
		t.Errorf("the next one is convicted after %d turns", turns)
	}
	g.Judge(accuracy())
	if !g.Evidence().Convicted {
		t.Error("the same settings change something")
	}
	s := accuracy()
	s.Margin = 1
	if g.Judge(s); g.Evidence().Convicted || !g.Evidence().Known {
		t.Errorf("%+v under another margin", g.Evidence())
	}
}

func TestAWarmingCandidateIsNotJudgedAndAnIncidentTeachesNothing(t *testing.T) {
	g := acquainted(accuracy())
	before := g.Evidence()
	for i := range 400 {
		held := byLess(0.5)(i)
		held.Live = of(50, 0.1*float64(i%7))
		held.Held = true
		g.Turn(held)
	}
	if after := g.Evidence(); before != after {
		t.Errorf("%+v became %+v", before, after)
	}
	for i := range 400 {
		warming := byLess(0.5)(i)
		warming.Warming = true
		g.Turn(warming)
	}
	if found := g.Evidence(); found.Weighed != 0 || found.LogMax != 0 || found.Scatter == before.Scatter {
		t.Errorf("%+v", found)
	}
}

func TestSamplesThatAreNoneSayNothing(t *testing.T) {
	inf := math.Inf(1)
	for name, odd := range map[string]judge.Sample{
		"not a number": {Sum: math.NaN(), Count: 50}, "infinite": {Sum: inf, Count: 50}, "minus infinite": {Sum: -inf, Count: 50}, "none": {Sum: -1000},
		"too many": {Sum: -1e300, Count: 1 << 62}, "too large": {Sum: -1e300, Count: 50},
	} {
		t.Run(name, func(t *testing.T) {
			for _, arm := range []string{"live", "candidate"} {
				g := acquainted(accuracy())
				for i := range 200 {
					turn := byLess(0)(i)
					if arm == "live" {
						turn.Live = odd
					} else {
						turn.Candidate = odd
					}
					g.Turn(turn)
				}
				if found := g.Evidence(); found.Weighed != 0 || found.Log != 0 {
					t.Errorf("%s: %+v", arm, found)
				}
				if untilWorse(g, byLess(0.3)) == 0 {
					t.Errorf("%s: nothing convicts afterwards", arm)
				}
			}
		})
	}
	g := acquainted(accuracy())
	before := g.Evidence()
	for range 100 {
		g.Turn(judge.GaugeTurn{Live: of(50, 0.9), Candidate: of(50, 0.1)})
	}
	if after := g.Evidence(); before != after {
		t.Errorf("turns of no length: %+v became %+v", before, after)
	}
}

// Live that never changes has no scatter to compare with. Rounding is no difference then, and a real one convicts all the same, if not at once.
func TestARealChangeFromAConstantConvictsAndRoundingDoesNot(t *testing.T) {
	for _, constant := range []float64{0, 0.1, 1, -3, 1e9} {
		for _, n := range []uint64{1, 50} {
			made := func(change float64) int {
				g, length := judge.NewGauge(accuracy()), quarter
				if n == 1 {
					length = 10 * time.Second
				}
				for range 240 {
					g.Observe(of(n, constant), length)
				}
				return untilWorse(g, func(i int) judge.GaugeTurn {
					return judge.GaugeTurn{Length: length, Live: of(n, constant), Candidate: of(n, constant-change)}
				})
			}
			if turns := made(1e-9 * constant * constant / (math.Abs(constant) + 1e-300)); constant != 0 && turns != 0 {
				t.Errorf("%g, %d at once: rounding convicts after %d turns", constant, n, turns)
			}
			if turns := made(0); turns != 0 {
				t.Errorf("%g, %d at once: the same convicts after %d turns", constant, n, turns)
			}
			if turns := made(0.1 * max(1, math.Abs(constant))); turns < 10 || turns > 120 {
				t.Errorf("%g, %d at once: a tenth less convicts after %d turns", constant, n, turns)
			}
		}
	}
}

func TestOneOddSampleDecidesNothing(t *testing.T) {
	for _, alpha := range []float64{0.2, 0.01} {
		s := accuracy()
		s.Alpha = alpha
		g := acquainted(s)
		if turns := untilWorse(g, func(i int) judge.GaugeTurn {
			return byLess(pick(i/4 == 20, 0.8, 0))(i)
		}); turns != 0 {
			t.Errorf("α %g: convicts at turn %d", alpha, turns)
		}
	}
}

func pick(first bool, a, b float64) float64 {
	if first {
		return a
	}
	return b
}

func TestADriftOfBothArmsBlamesNobody(t *testing.T) {
	t.Parallel()
	count := 0
	for seed := range uint64(*reps * 2) {
		for _, drift := range []float64{0.1, 1} {
			r := &reports{random: rand.New(rand.NewPCG(seed, 9)), rate: 100, share: 0.2, shared: drift}
			if r.run(judge.NewGauge(accuracy()), 30*time.Second, 5*time.Minute, right(0.9), right(0.9)) > 0 {
				count++
			}
		}
	}
	if limit := binomialLimit(*reps*4, alpha); count > limit {
		t.Errorf("%d of %d convicted", count, *reps*4)
	}
	g := acquainted(accuracy())
	if turns := untilWorse(g, func(i int) judge.GaugeTurn {
		shared := pick(i > 100, 0.4, 0) // both fall at once
		return judge.GaugeTurn{Length: quarter, Live: of(50, wobbling(i)-shared), Candidate: of(50, wobbling(i+7)-shared)}
	}); turns != 0 {
		t.Errorf("a fall of both convicts at turn %d", turns)
	}
}

// Lost reports, doubled ones, a leader that begins anew in the middle: healthy candidates stay so.
func TestGapsDoublesAndRestartsBlameNobody(t *testing.T) {
	t.Parallel()
	count, found := 0, 0
	for seed := range uint64(*reps) {
		for _, less := range []float64{0, 0.2} {
			r := &reports{random: rand.New(rand.NewPCG(seed, 11)), rate: 200, share: 0.3}
			g := judge.NewGauge(accuracy())
			r.run(g, 30*time.Second, 0, right(0.9), right(0.9))
			for at := range 1200 {
				turn := judge.GaugeTurn{Length: quarter, Live: r.arm(right(0.9), 0.7), Candidate: r.arm(right(0.9-less), 0.3)}
				switch r.random.IntN(8) {
				case 0: // lost, of either or both
					turn.Live = judge.Sample{}
				case 1:
					turn.Candidate = judge.Sample{}
				case 2:
					turn.Live, turn.Candidate = judge.Sample{}, judge.Sample{}
				case 3: // doubled
					g.Turn(turn)
				case 4: // late: that of a long time at once
					turn.Length = time.Minute
				}
				g.Turn(turn)
				if at%300 == 0 {
					text, _ := g.MarshalText()
					if g = (&judge.Gauge{}); g.UnmarshalText(text) != nil {
						t.Fatal("a new leader cannot go on")
					}
				}
			}
			if g.Evidence().Convicted {
				if less > 0 {
					found++
				} else {
					count++
				}
			}
		}
	}
	if count > binomialLimit(*reps, alpha) || found < *reps {
		t.Errorf("%d healthy and %d bad of %d convicted", count, found, *reps)
	}
}

func TestAnySamplesLeaveNumbers(t *testing.T) {
	sums := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-10, 10), rapid.SampledFrom([]float64{0, 1, math.NaN(), math.Inf(1), math.MaxFloat64, 1e61, 1e60, -1e60, 5e-324}))
	counts := rapid.OneOf(rapid.Uint64Range(0, 40), rapid.SampledFrom([]uint64{1 << 32, 1<<32 + 1, math.MaxUint64}))
	rapid.Check(t, func(t *rapid.T) {
		sample := func(name string) judge.Sample {
			return judge.Sample{Sum: sums.Draw(t, name), Count: counts.Draw(t, name+" count")}
		}
		g := judge.NewGauge(judge.GaugeSettings{Alpha: rapid.Float64().Draw(t, "α"), Margin: sums.Draw(t, "margin"), HigherIsBetter: true})
		for range rapid.IntRange(0, 120).Draw(t, "turns") {
			length := time.Duration(rapid.Int64Range(-1, int64(10*time.Second)).Draw(t, "length"))
			if rapid.Bool().Draw(t, "observed") {
				g.Observe(sample("live"), length)
			}
			g.Turn(judge.GaugeTurn{Length: length, Live: sample("live"), Candidate: sample("candidate"), Warming: rapid.IntRange(0, 9).Draw(t, "warming") == 0})
			found := g.Evidence()
			for _, v := range []float64{found.Log, found.LogMax, found.Limit, found.Scatter, found.Margin, found.Phi, found.RecentLive, found.RecentCandidate} {
				if math.IsNaN(v) || math.IsInf(v, 1) {
					t.Fatalf("%+v", found)
				}
			}
			if found.LogMax < 0 || found.Log > found.LogMax {
				t.Fatalf("%+v", found)
			}
		}
		var again judge.Gauge
		data, err := g.MarshalBinary()
		if err == nil {
			err = again.UnmarshalBinary(data)
		}
		if err != nil || again.Evidence() != g.Evidence() {
			t.Fatalf("stored and read: %v", err)
		}
	})
}

func TestZeroGaugeJudgesWithTheDefaults(t *testing.T) {
	var zero judge.Gauge
	for i := range 240 {
		zero.Observe(of(100, wobbling(i)), quarter)
	}
	if turns := untilWorse(&zero, byLess(-0.3)); turns == 0 {
		t.Error("it convicts nobody")
	}
	if found := (&judge.Gauge{}).Evidence(); found != judge.NewGauge(judge.GaugeSettings{}).Evidence() {
		t.Errorf("%+v", found)
	}
}

func TestGaugesAllocateNothing(t *testing.T) {
	g, i := acquainted(accuracy()), 0
	if n := testing.AllocsPerRun(100, func() {
		g.Turn(byLess(0)(i))
		i++
	}); n != 0 {
		t.Errorf("%v allocations per turn", n)
	}
}

// BenchmarkGauge is what a turn costs on average, of which every fourth completes a sample.
func BenchmarkGauge(b *testing.B) {
	g, i := acquainted(accuracy()), 0
	var turns [64]judge.GaugeTurn
	for i := range turns {
		turns[i] = byLess(0)(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		g.Turn(turns[i%len(turns)])
		i++
	}
}
