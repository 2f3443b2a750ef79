package simulation

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

const (
	burstTicks = 12  // a burst's errors are spread over 3 s, which begin within a tick
	burstPart  = 0.8 // of all errors come in bursts
)

// traffic draws what both arms finish, tick by tick.
type traffic struct {
	Scenario
	past, random    *rand.Rand // of their own, so that the release's traffic is the same whatever the history
	live, candidate bursts
	faults          []Fault       // with their phases drawn
	at              time.Duration // since the candidate first got traffic
}

func newTraffic(s Scenario, number uint64) *traffic {
	t := &traffic{Scenario: s}
	t.past, t.random = rand.New(rand.NewPCG(s.Seed, ^number)), rand.New(rand.NewPCG(s.Seed, number))
	for _, fault := range s.Faults {
		if fault.Weight > 0 {
			fault.From = later
		}
		fault.From += time.Duration(t.random.Float64() * float64(fault.Phase))
		t.faults = append(t.faults, fault)
	}
	return t
}

// later is after every release, by far.
const later = Undetected / 2

// reach begins the faults that wait for a weight.
func (t *traffic) reach(weight policy.Weight) {
	for i, f := range t.faults {
		if f.Weight > 0 && weight >= f.Weight {
			t.faults[i].From += t.at - later
			t.faults[i].Weight = 0
		}
	}
}

// onset is when the first of the candidate's own faults begins; 0 without one.
func (t *traffic) onset() time.Duration {
	first := Undetected
	for _, f := range t.faults {
		if !f.Shared {
			first = min(first, f.From)
		}
	}
	if first == Undetected {
		return 0
	}
	return first
}

// history is one tick of live alone.
func (t *traffic) history() judge.Counts { return t.arm(t.past, &t.live, [2]float64{1, t.Baseline}) }

// tick draws the next tick, at the candidate's configured share.
func (t *traffic) tick(share float64) (live, candidate judge.Counts) {
	share = min(1, share*t.Skew)
	live = t.arm(t.random, &t.live, [2]float64{1 - share, t.failing(t.Baseline, true)})
	candidate = t.arm(t.random, &t.candidate, [2]float64{share, t.failing(t.Baseline*t.Worse, false)})
	t.at += Tick
	return live, candidate
}

// failing is the error share of an arm in the next tick: the worst of what goes on, for the part of the tick that it goes on.
func (t *traffic) failing(usual float64, live bool) float64 {
	worst := usual
	for _, f := range t.faults {
		if live && !f.Shared {
			continue
		}
		until := t.at + Tick
		if f.For > 0 {
			until = min(until, f.From+f.For)
		}
		if part := (until - max(t.at, f.From)).Seconds() / Tick.Seconds(); part > 0 {
			worst = max(worst, usual+part*(f.Share-usual))
		}
	}
	return worst
}

// arm draws one tick of an arm with a share of the traffic of which a share fails.
func (t *traffic) arm(random *rand.Rand, b *bursts, shares [2]float64) judge.Counts {
	mean, bad := t.Rate*Tick.Seconds()*shares[0], shares[1]
	good := poisson(random, mean*(1-bad))
	if t.Burst > 1 {
		return judge.Counts{Good: good, Bad: b.draw(random, mean*bad, t.Burst)}
	}
	return judge.Counts{Good: good, Bad: poisson(random, mean*bad)}
}

// bursts are one arm's errors that have yet to come: bursts of geometric size, each spread over 3 s (judge.md 2g).
type bursts struct {
	pending [burstTicks + 1]uint64
	at      int
}

func (b *bursts) draw(random *rand.Rand, mean, size float64) uint64 {
	for range poisson(random, mean*burstPart/size) {
		begin := random.Float64()
		for again := true; again; again = random.Float64() < 1-1/size {
			b.pending[(b.at+int(begin+burstTicks*random.Float64()))%len(b.pending)]++
		}
	}
	due := b.pending[b.at]
	b.pending[b.at] = 0
	b.at = (b.at + 1) % len(b.pending)
	return due + poisson(random, mean*(1-burstPart))
}

// poisson draws by Knuth's product, and far from zero from the normal distribution that it then is.
func poisson(random *rand.Rand, mean float64) uint64 {
	if mean > 40 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	limit, product := math.Exp(-mean), random.Float64()
	n := uint64(0)
	for product > limit {
		product *= random.Float64()
		n++
	}
	return n
}
