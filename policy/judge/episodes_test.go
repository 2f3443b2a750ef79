package judge

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// poissons returns the probabilities of 0 to some many clusters.
func poissons(mean float64) []float64 {
	p := []float64{math.Exp(-mean)}
	for k := 1; float64(k) < mean+12*math.Sqrt(mean)+12; k++ {
		p = append(p, p[k-1]*mean/float64(k))
	}
	return p
}

// While the candidate is healthy no bet on whose a cluster is may be expected to win: exactly, for clusters that come independently, whatever live's rate.
func TestBetsOnClustersAreSupermartingales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := [2]int{rapid.IntRange(1, 400).Draw(t, "candidate"), rapid.IntRange(1, 400).Draw(t, "live")}
		rho, delta := rapid.Float64Range(0.5, 3).Draw(t, "ρ"), rapid.Float64Range(0, 0.05).Draw(t, "δ")
		b := healthyBoundary(n, rho, delta, 1)
		live := rapid.Float64Range(0, 0.1).Draw(t, "q live")
		candidate := (rho*live + delta) * rapid.Float64Range(0, 1).Draw(t, "part of the boundary")
		phi := rapid.SampledFrom([]float64{1, 1, 1.7, 30}).Draw(t, "φ")
		var sums [effects]float64
		for x, px := range poissons(candidate * float64(n[0])) {
			for y, py := range poissons(live * float64(n[1])) {
				// As many requests as there are errors at least: what counts is that each pays.
				a := arms{candidate: Counts{Good: uint64(max(0, n[0]-x)), Bad: uint64(x)}, live: Counts{Good: uint64(n[1]), Bad: uint64(y)}}
				for i, gain := range b.first(a, phi) {
					sums[i] += px * py * math.Exp(gain)
				}
			}
		}
		for i, e := range sums {
			if e > 1+rounding {
				t.Fatalf("E = %.12f for the effect %v", e, ratios()[i])
			}
		}
	})
}

// A cluster of any size that is over within the rest counts once.
func TestClusterCountsOnce(t *testing.T) {
	b := boundary{share: 0.5, phi: 1}
	wealth := func(turns ...Counts) float64 {
		e := episodes{stake: 0.5, bets: newProcess()}
		for _, candidate := range turns {
			e.turn(b, arms{candidate: candidate, live: Counts{Good: 10}}, pace{length: 250 * time.Millisecond, limit: 4.6})
		}
		return e.bets.now
	}
	one := append([]Counts{{Bad: 1}}, make([]Counts, 11)...)
	many := make([]Counts, 12)
	for i := range many {
		many[i] = Counts{Bad: 40}
	}
	if math.Abs(wealth(one...)-wealth(many...)) > 1e-9 {
		t.Error("480 errors of one cluster tell more than one")
	}
	if wealth(append(many, Counts{Bad: 1})...) < wealth(many...)+0.3 {
		t.Error("an error after the rest tells nothing")
	}
}

func TestEpisodesGetNoWealthWhereErrorsAreIndependent(t *testing.T) {
	e := NewErrors(Settings{})
	for range 4 * 1800 {
		e.Observe(Counts{Good: 99, Bad: 1}, 250*time.Millisecond)
	}
	e.Turn(Turn{Length: time.Second, Share: 0.5, Live: Counts{Good: 50}, Candidate: Counts{Good: 50}})
	if e.episodes.stake != 0 || e.margin.odds != even {
		t.Errorf("%v of the wealth, odds %v", e.episodes.stake, e.margin.odds)
	}
}

// Handing a part of the wealth over must not change how much there is, whenever it happens.
func TestHandingOverKeepsTheWealth(t *testing.T) {
	e := NewErrors(Settings{})
	for range 4 * 1800 {
		e.Observe(Counts{Good: 99, Bad: 1}, 250*time.Millisecond)
	}
	bad := Turn{Length: time.Second, Share: 0.5, Live: Counts{Good: 50}, Candidate: Counts{Good: 48, Bad: 2}}
	e.Turn(bad)
	before := e.Evidence().Log
	if before <= 0 {
		t.Fatalf("ln of the wealth is %v after errors", before)
	}
	e.noise.value = 3
	e.Turn(Turn{Length: time.Second, Share: 0.5})
	if after := e.Evidence().Log; e.episodes.stake == 0 || math.Abs(after-before) > 0.01 {
		t.Errorf("ln of the wealth went from %v to %v, %v on episodes", before, after, e.episodes.stake)
	}
}

// A bursty service of 100 requests/s: one error of the candidate's now and then, none of live's, is found long before their number over φ says anything.
func TestLoneErrorsTellWhereLiveHasBursts(t *testing.T) {
	e := NewErrors(Settings{})
	for i := range 4 * 1800 {
		e.Observe(Counts{Good: 24, Bad: uint64(10 * (i % 400 / 399))}, 250*time.Millisecond)
	}
	if phi := e.Evidence().Phi; phi < clustered {
		t.Fatalf("φ is %v", phi)
	}
	turns := 0
	for ; !e.Evidence().Convicted && turns < 400; turns++ {
		e.Turn(Turn{Length: 250 * time.Millisecond, Share: 0.1, Live: Counts{Good: 22}, Candidate: Counts{Good: 2, Bad: uint64(turns % 13 / 12)}})
	}
	if turns > 10*13 {
		t.Errorf("convicted after %d turns", turns)
	}
}

func TestClustersLongerThanTheRestAreCountedAsWhatTheyAre(t *testing.T) {
	short, long := &episodes{}, &episodes{}
	for i := range 4 * 3600 {
		one := Counts{Good: 99, Bad: uint64(i % 240 / 239)}
		short.observe(one, 250*time.Millisecond)
		// 20 s of errors every four minutes.
		long.observe(Counts{Good: 99, Bad: uint64(i % 960 / 880)}, 250*time.Millisecond)
	}
	if phi := short.phi(); phi > 1.1 {
		t.Errorf("φ of an event a minute is %v", phi)
	}
	if phi := long.phi(); phi < 3 {
		t.Errorf("φ of seven events in a row is %v", phi)
	}
}
