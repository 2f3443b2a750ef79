package judge

import (
	"math"
	"slices"
	"time"
)

const (
	bets       = 2 * effects       // each effect since the start, then each effect since some later turn
	fromStart  = 0.5               // prior weight of "worse from the start" (judge.md 2a, w0)
	startEvery = 600 * time.Second // a later start is expected once in this time (h = length/600 s)
	capShare   = 0.4               // of the way to the limit, for one bet in one turn: no single turn decides
	burstSpan  = 4 * time.Second
	burstShare = 0.8 // of the cap of one turn, for one bet in any 4 s
	burstSlots = int(burstSpan / shortest)
	never      = -math.MaxFloat64 / 2 // ln of a wealth of nothing, but a number, so that sums stay numbers
)

// process is an e-process: the wealth of a mixture of bets that the candidate is worse than a boundary, over effect sizes and starting times. All in logs.
type process struct {
	odds   odds          // fixed before the first bet
	wealth [bets]float64 // of each bet; those on later starts hold the prior of every start so far in them
	rest   float64       // log prior of not having started yet
	now    float64       // log wealth of the mixture
	peak   float64       // its maximum: by Ville's inequality it exceeds ln(1/α) with probability α at most

	// What each bet gained in the turns of the last 4 s: the burst cap. Kept in single precision because it is most of the state that leaders store.
	recent ring
	gained [burstSlots][bets]float32
}

// odds are how the wealth is divided between the effects.
type odds uint64

const (
	even       odds = iota
	ofBursts        // clustered errors: any large effect gains nearly the same for each, so most is on small ones
	ofClusters      // clusters are few, so small effects are not found by them
	manyOdds
)

func (o odds) parts() [effects]float64 {
	switch o {
	case ofBursts:
		return [effects]float64{0.08, 0.14, 0.15, 0.13, 0.11, 0.1, 0.09, 0.08, 0.06, 0.06}
	case ofClusters:
		return [effects]float64{0.01, 0.04, 0.11, 0.22, 0.22, 0.16, 0.1, 0.08, 0.03, 0.03}
	}
	return [effects]float64{0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}
}

func newProcess() process {
	var p process
	for i := effects; i < bets; i++ {
		p.wealth[i] = never
	}
	return p
}

// pace is what bounds the gains of one turn.
type pace struct {
	length time.Duration
	limit  float64       // ln(1/α)
	relief float64       // how many times more than the burst cap's least is allowed
	blip   time.Duration // the turns that a failure of this length can touch bring no more than one
}

// hazard is the prior probability that the candidate turned bad in this turn.
func (p pace) hazard() float64 { return p.length.Seconds() / startEvery.Seconds() }

// caps are the most that one bet may gain in this turn, if it is on the start and if it is on a later one.
func (p pace) caps() (start, later float64) {
	return caps(p.limit, p.hazard(), effects)
}

// turn settles one turn's bets.
func (p *process) turn(gains [effects]float64, at pace) {
	p.startLater(at.hazard())
	start, later := at.caps()
	var burst, blip [bets]float64
	if slices.Max(gains[:]) > 0 {
		burst, blip = p.lately(at.length, burstSpan), p.lately(at.length, at.length+at.blip)
	}
	number := p.recent.push(at.length, burstSpan)
	row := &p.gained[number%uint64(burstSlots)]
	*row = [bets]float32{}
	for i := range p.wealth {
		most := pick(i < effects, start, later)
		gain := min(gains[i%effects], most)
		if gain > 0 {
			// Capping from above keeps the supermartingale property, whatever the cap is made of.
			gain = min(gain, max(0, burstShare*at.relief*most-burst[i]), max(0, most-blip[i]))
			row[i] = float32(gain)
		}
		p.wealth[i] += gain
	}
	p.mix()
}

// startLater moves the prior of starting in this turn into the bets on later starts.
func (p *process) startLater(hazard float64) {
	p.rest = startLater(p.wealth[effects:], p.rest, hazard)
}

// lately sums what each bet gained in the turns that share a span of 4 s at most with a turn of the given length.
func (p *process) lately(length, span time.Duration) [bets]float64 {
	var sum [bets]float64
	for i := range p.recent.n {
		number := p.recent.back(i)
		if length += p.recent.length(number); length > span {
			break
		}
		for j, gain := range p.gained[number%uint64(burstSlots)] {
			sum[j] += float64(gain)
		}
	}
	return sum
}

// mix computes the mixture's wealth.
func (p *process) mix() {
	parts := p.odds.parts()
	p.now = mixed(p.wealth[:], p.rest, parts[:])
	p.peak = max(p.peak, p.now)
}
