package judge_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// flow is one turn of 250 ms of proxies that held a share of a quarter throughout.
type flow struct{ live, candidate uint64 }

func (f flow) turn() judge.SeenTurn {
	return judge.SeenTurn{Length: quarter, Share: 0.25, Steady: true, Fleet: judge.Issued{Live: f.live, Candidate: f.candidate}}
}

// until feeds turns and returns the number of the one that convicted, 0 for none.
func until(s *judge.Seen, turns int, t judge.SeenTurn) int {
	for i := range turns {
		if s.Turn(t); s.Evidence().Convicted {
			return i + 1
		}
	}
	return 0
}

func careful() judge.SeenSettings { return judge.SeenSettings{Alpha: 0.001} }

// running has seen a minute of 300 requests per second, split as configured.
func running(t *testing.T) *judge.Seen {
	s := judge.NewSeen(careful())
	if turn := until(s, 240, flow{56, 19}.turn()); turn != 0 {
		t.Fatalf("the configured split convicted at turn %d", turn)
	}
	return s
}

func TestSeenConvictsWithinASecondWhenTheCandidateGetsNothing(t *testing.T) {
	s := running(t)
	if turn := until(s, 40, flow{75, 0}.turn()); turn < 2 || turn > 4 {
		t.Errorf("convicted at turn %d", turn)
	}
	found := s.Evidence()
	if found.Proxy != "" || found.Got != 0 || found.Expected < 30 || found.Expected > 80 || found.LogMax < found.Limit {
		t.Errorf("%+v", found)
	}
	if turn := until(s, 1, flow{56, 19}.turn()); turn == 0 {
		t.Error("a conviction is for good")
	}
}

func TestSeenAllowsForHalfTheShare(t *testing.T) {
	// A quarter of 75 requests a turn is 18.75, half of that 9.4.
	if turn := until(running(t), 4000, flow{65, 10}.turn()); turn != 0 {
		t.Errorf("more than half convicts at turn %d", turn)
	}
	if turn := until(running(t), 40, flow{71, 4}.turn()); turn == 0 {
		t.Error("a fifth of the candidate's share does not convict")
	}
	if turn := until(running(t), 200, flow{69, 6}.turn()); turn == 0 {
		t.Error("a third of the candidate's share does not convict")
	}
}

func TestSeenConvictsNobodyWhenTheWholeFleetsTrafficFalls(t *testing.T) {
	if turn := until(running(t), 4000, flow{3, 1}.turn()); turn != 0 {
		t.Errorf("convicted at turn %d although live fell, too", turn)
	}
	if turn := until(running(t), 4000, flow{0, 0}.turn()); turn != 0 {
		t.Errorf("convicted at turn %d on nothing", turn)
	}
}

func TestWhatIsNotSteadyOrNoReadingSaysNothingAboutTheShare(t *testing.T) {
	cut := flow{75, 0}.turn()
	for name, change := range map[string]func(t *judge.SeenTurn){
		"unsteady":    func(t *judge.SeenTurn) { t.Steady = false },
		"no length":   func(t *judge.SeenTurn) { t.Length = 0 },
		"no share":    func(t *judge.SeenTurn) { t.Share = math.NaN() },
		"share of 0":  func(t *judge.SeenTurn) { t.Share = 0 },
		"below 0":     func(t *judge.SeenTurn) { t.Share = -1 },
		"huge counts": func(t *judge.SeenTurn) { t.Fleet.Live = 1 << 63 },
	} {
		t.Run(name, func(t *testing.T) {
			s, odd := running(t), cut
			odd.Proxies = []judge.ProxyIssued{{Proxy: "edge-1", Issued: cut.Fleet, Steady: true}}
			change(&odd)
			odd.Proxies[0].Issued = odd.Fleet
			before := s.Evidence()
			for range 100 {
				s.Turn(odd)
			}
			if after := s.Evidence(); math.Abs(before.Log-after.Log) > 1e-6 || before.LogMax != after.LogMax || before.Expected != after.Expected {
				t.Errorf("%+v became %+v", before, after)
			}
		})
	}
}

func TestSeenTakesTurnsOfAnyLength(t *testing.T) {
	for _, length := range []time.Duration{100 * time.Millisecond, 700 * time.Millisecond, time.Second, 5 * time.Second} {
		s := judge.NewSeen(careful())
		turns := until(s, 40, judge.SeenTurn{Length: length, Share: 0.25, Steady: true, Fleet: judge.Issued{Live: uint64(300 * length.Seconds())}})
		if lasted := length * time.Duration(turns); turns < 2 || lasted > max(time.Second, 3*length) {
			t.Errorf("turns of %s: convicted after %d", length, turns)
		}
	}
}

func TestSeenIsNotHeldUpByTurnsWithoutReports(t *testing.T) {
	for empty := range uint64(3) {
		s := running(t)
		turns := 0
		for !s.Evidence().Convicted && turns < 100 {
			for range empty {
				s.Turn(flow{}.turn())
			}
			s.Turn(flow{75 * (empty + 1), 0}.turn())
			turns += int(empty) + 1
		}
		if turns > 9 {
			t.Errorf("%d empty turns before each: convicted after %d turns", empty, turns)
		}
	}
}

func TestZeroSeenJudgesWithTheDefaults(t *testing.T) {
	var zero judge.Seen
	if turn := until(&zero, 40, flow{75, 0}.turn()); turn == 0 || turn > 4 {
		t.Errorf("convicted at turn %d", turn)
	}
	if found := (&judge.Seen{}).Evidence(); found.Limit != judge.NewSeen(judge.SeenSettings{}).Evidence().Limit || found.Log != 0 {
		t.Errorf("%+v", found)
	}
}

func TestAnotherRiskBeginsTheEvidenceOfTheShareAnew(t *testing.T) {
	s := running(t)
	until(s, 40, flow{75, 0}.turn())
	s.Judge(careful())
	if !s.Evidence().Convicted {
		t.Error("the same risk changes something")
	}
	s.Judge(judge.SeenSettings{Alpha: 0.01})
	if found := s.Evidence(); found.Convicted || found.Log != 0 || math.Abs(found.Limit-math.Log(100)) > 1e-9 {
		t.Errorf("%+v", found)
	}
}

// edges is a fleet whose proxies each draw for every try.
type edges struct {
	random  *rand.Rand
	rate    float64 // tries per second of the whole fleet
	share   float64 // configured
	gets    float64 // what the candidate really gets of its share
	retries float64 // share of the candidate's tries that go to live once more
	cut     int     // proxies that cannot reach the candidate: the last ones
	turn    judge.SeenTurn
}

func newEdges(seed uint64, proxies int) *edges {
	e := &edges{random: rand.New(rand.NewPCG(seed, 7)), gets: 1}
	for i := range proxies {
		e.turn.Proxies = append(e.turn.Proxies, judge.ProxyIssued{Proxy: fmt.Sprintf("edge-%d", i+1), Steady: true})
	}
	return e
}

func (e *edges) next() judge.SeenTurn {
	e.turn.Length, e.turn.Share, e.turn.Steady, e.turn.Fleet = quarter, e.share, true, judge.Issued{}
	for i := range e.turn.Proxies {
		mean := e.rate * quarter.Seconds() / float64(len(e.turn.Proxies))
		part := e.share * e.gets
		if i >= len(e.turn.Proxies)-e.cut {
			part = 0
		}
		candidate := poisson(e.random, mean*part)
		live := poisson(e.random, mean*(1-part)) + poisson(e.random, float64(candidate)*e.retries)
		e.turn.Proxies[i].Issued = judge.Issued{Live: live, Candidate: candidate}
		e.turn.Fleet.Live += live
		e.turn.Fleet.Candidate += candidate
	}
	return e.turn
}

// delays runs a fleet healthy for a while, then cut off, and returns the median number of turns until the test and the fixed rule convict. Neither is more than 400.
func delays(alpha, rate, share float64, healthy time.Duration) (test, fixed int) {
	var tests, rules []float64
	for seed := range uint64(101) {
		e, s, f := newEdges(seed, 3), judge.NewSeen(judge.SeenSettings{Alpha: alpha}), &fixedRule{}
		e.rate, e.share = rate, share
		for range healthy / quarter {
			turn := e.next()
			s.Turn(turn)
			f.turn(share, turn.Fleet.Live, turn.Fleet.Candidate)
		}
		e.cut = 3
		byTest, byRule := 400, 400
		for i := 1; i <= 400 && (byTest == 400 || byRule == 400); i++ {
			turn := e.next()
			if s.Turn(turn); byTest == 400 && s.Evidence().Convicted {
				byTest = i
			}
			if byRule == 400 && f.turn(share, turn.Fleet.Live, turn.Fleet.Candidate) {
				byRule = i
			}
		}
		tests, rules = append(tests, float64(byTest)), append(rules, float64(byRule))
	}
	return int(median(tests)), int(median(rules))
}

// TestSeenIsAboutAsQuickAsTheFixedRule compares with the rule that was there before.
func TestSeenIsAboutAsQuickAsTheFixedRule(t *testing.T) {
	for _, cell := range []struct {
		rate, share float64
		most        time.Duration // for α = 0.001
	}{{300, 0.25, time.Second}, {50, 0.1, 7 * time.Second}, {1000, 0.01, 7 * time.Second}, {100, 0.01, 70 * time.Second}, {10000, 0.01, 1250 * time.Millisecond}, {16, 0.25, 9 * time.Second}} {
		for _, alpha := range []float64{0.01, 0.001} {
			for _, healthy := range []time.Duration{10 * time.Second, 5 * time.Minute} {
				test, fixed := delays(alpha, cell.rate, cell.share, healthy)
				t.Logf("%5.0f tries/s, %4.1f %%, α %.3f, cut off after %3.0f s: %5.2f s, the fixed rule %5.2f s",
					cell.rate, 100*cell.share, alpha, healthy.Seconds(), float64(test)/4, float64(fixed)/4)
				if time.Duration(test)*quarter > cell.most {
					t.Errorf("not within %s", cell.most)
				}
			}
		}
	}
}

// TestHealthySharesAreHardlyEverConvicted counts false convictions over ten minutes of fleets whose candidate gets its share, 0.6 of it, or sends 5 % of its tries to
// live once more. α is what the settings say.
func TestHealthySharesAreHardlyEverConvicted(t *testing.T) {
	t.Parallel()
	total, releases := 0, 0
	const risk = 0.01
	for i, cell := range []struct{ rate, share, gets, retries float64 }{
		{300, 0.25, 1, 0}, {300, 0.25, 0.6, 0}, {300, 0.25, 0.6, 0.05}, {50, 0.1, 0.6, 0.05}, {10, 0.01, 0.6, 0.05}, {1, 0.01, 1, 0},
		{3, 0.5, 0.6, 0}, {1000, 0.01, 0.6, 0.05}, {3000, 0.9, 0.6, 0.05}, {2, 1, 0.6, 0.05}, {300, 0.25, 0.5, 0}, {30, 0.1, 0.5, 0},
	} {
		count := 0
		for rep := range *reps * 2 {
			e, s := newEdges(uint64(1000000*(i+1)+rep), 4), judge.NewSeen(judge.SeenSettings{Alpha: risk})
			e.rate, e.share, e.gets, e.retries = cell.rate, cell.share, cell.gets, cell.retries
			for range 10 * time.Minute / quarter {
				s.Turn(e.next())
			}
			if s.Evidence().Convicted {
				count++
			}
		}
		t.Logf("%4.0f tries/s, %2.0f %%, of which it gets %.1f, %2.0f %% retried: %d of %d", cell.rate, 100*cell.share, cell.gets, 100*cell.retries, count, *reps*2)
		total, releases = total+count, releases+*reps*2
	}
	if limit := binomialLimit(releases, risk); total > limit {
		t.Errorf("%d of %d convicted, at most %d are compatible with α", total, releases, limit)
	}
}

func TestASingleProxysZoneThatIsCutOffIsFoundAndNamed(t *testing.T) {
	for _, cell := range []struct{ proxies, cut int }{{3, 1}, {40, 10}, {40, 1}, {400, 40}} {
		t.Run(fmt.Sprintf("%d of %d", cell.cut, cell.proxies), func(t *testing.T) {
			e, s := newEdges(1, cell.proxies), judge.NewSeen(careful())
			e.rate, e.share = 10*float64(cell.proxies), 0.25
			for range 4 * 60 {
				s.Turn(e.next())
			}
			e.cut = cell.cut
			turns := 0
			for ; !s.Evidence().Convicted && turns < 400; turns++ {
				s.Turn(e.next())
			}
			found := s.Evidence()
			t.Logf("10 tries/s each, 25 %%: %+v after %.2f s", found, float64(turns)/4)
			number := 0
			if _, err := fmt.Sscanf(found.Proxy, "edge-%d", &number); err != nil || number <= cell.proxies-cell.cut || found.Got > 1 || found.Expected < 10 {
				t.Errorf("%+v", found)
			}
		})
	}
}

func TestTheFleetIsBlamedWhenAllProxiesAreCutOff(t *testing.T) {
	e, s := newEdges(1, 40), judge.NewSeen(careful())
	e.rate, e.share, e.cut = 400, 0.25, 40
	for range 40 {
		s.Turn(e.next())
	}
	if found := s.Evidence(); !found.Convicted || found.Proxy != "" {
		t.Errorf("%+v", found)
	}
}

func TestAProxyThatComesLaterIsJudgedToo(t *testing.T) {
	e, s := newEdges(1, 10), judge.NewSeen(careful())
	e.rate, e.share = 300, 0.25
	for range 4 * 60 {
		s.Turn(e.next())
	}
	for i := range 80 {
		turn := e.next()
		turn.Proxies = append(turn.Proxies, judge.ProxyIssued{Proxy: "late", Issued: judge.Issued{Live: 8}, Steady: true})
		s.Turn(turn)
		if s.Evidence().Convicted {
			t.Logf("after %.2f s", float64(i+1)/4)
			break
		}
	}
	if found := s.Evidence(); found.Proxy != "late" {
		t.Errorf("%+v", found)
	}
}

func TestAProxysUnsteadyOrDoubledReportsAddNothing(t *testing.T) {
	once, twice, unsteady := judge.NewSeen(careful()), judge.NewSeen(careful()), judge.NewSeen(careful())
	for range 60 {
		turn := flow{60, 20}.turn()
		report := judge.ProxyIssued{Proxy: "edge-1", Issued: judge.Issued{Live: 1}, Steady: true}
		other := judge.ProxyIssued{Proxy: "edge-2", Issued: judge.Issued{Live: 3, Candidate: 1}, Steady: true}
		turn.Proxies = []judge.ProxyIssued{report, other}
		once.Turn(turn)
		turn.Proxies = []judge.ProxyIssued{report, other, report}
		twice.Turn(turn)
		report.Steady = false
		report.Issued.Live = 1000
		turn.Proxies = []judge.ProxyIssued{report, other}
		unsteady.Turn(turn)
	}
	if once.Evidence() != twice.Evidence() {
		t.Errorf("%+v became %+v", once.Evidence(), twice.Evidence())
	}
	if once.Evidence().LogMax <= unsteady.Evidence().LogMax || unsteady.Evidence().LogMax > 0.1 {
		t.Errorf("%+v from nothing but unsteady reports", unsteady.Evidence())
	}
}

func BenchmarkSeen(b *testing.B) {
	for _, proxies := range []int{0, 3, 100, 10000} {
		b.Run(fmt.Sprintf("%d proxies", proxies), func(b *testing.B) {
			e, s := newEdges(1, proxies), judge.NewSeen(careful())
			e.rate, e.share = 1000, 0.25
			for range 40 {
				s.Turn(e.next())
			}
			turn := e.next()
			turn.Fleet = judge.Issued{Live: 56, Candidate: 19}
			b.ReportAllocs()
			for b.Loop() {
				s.Turn(turn)
			}
		})
	}
}

func TestSeenAllocatesNothingWhileTheFleetStays(t *testing.T) {
	e, s := newEdges(1, 10000), judge.NewSeen(careful())
	e.rate, e.share = 10000, 0.25
	for range 12 {
		s.Turn(e.next())
	}
	if n := testing.AllocsPerRun(20, func() { s.Turn(e.turn) }); n != 0 {
		t.Errorf("%v allocations per turn", n)
	}
}
