package judge

import (
	"math"
	"time"
)

const (
	bad      = 0.30 // error share from which the rail trips
	hot      = 0.20 // error share of a turn that counts as failing
	control  = 20   // requests of live without which it says nothing
	fewTurns = 2    // a single turn never trips

	burstyRail = 2.5 // φ above which live has had bursts; what is assumed before it had errors is 2.04
	mayBurst   = 10  // φ of an outage's errors where they are not known to be independent
	apart      = 5   // different seconds that must have errors where few requests or a burst could explain them
	fewErrors  = 6   // in units of φ
	fewApart   = 4   // where live has bursts, and so the errors must be apart: with fewer no rule trips
)

// Guard is the hard rail beside the evidence (judge.md 2d with the rules of 2g): it trips at once, in the warm-up too, when most of a healthy live's candidate
// fails. Its zero value is ready to use.
type Guard struct {
	Blip   time.Duration // Settings.Blip: the rule for less than 10 s wants failing turns that so short a failure cannot make; may be set at any time
	recent window
}

// Trip is what tripped the rail: Bad of Finished candidate requests within Window.
type Trip struct {
	Bad, Finished uint64
	Window        time.Duration
}

// Turn takes one turn of both arms, with the dispersion and the incident level that Errors found (Evidence.Phi, Evidence.Level). Turns that are no reading (see
// Turn) are left out and never trip, and neither does a phi or level that is not a number.
func (g *Guard) Turn(t Turn, phi, level float64) (Trip, bool) {
	t, ok := t.fit()
	if !ok {
		return Trip{}, false
	}
	g.recent.add(t.Length, t.arms())
	if !(float64(g.recent.sum.candidate.Bad) >= fewApart*phi) {
		return Trip{}, false
	}
	c := court{
		phi: phi, healthy: 0.05 + level/5, alone: t.alone(), failing: g.failing(t.Length),
		all: g.recent.last(span), live3: g.recent.last(3 * time.Second).live,
	}
	var s stretch
	for i := range g.recent.ring.n {
		turn, length := g.recent.back(i)
		s.extend(turn, length)
		if s.length < span && c.short(s) {
			return s.trip(), true
		}
	}
	return s.trip(), c.long(s)
}

// failing is how many failing turns the short rule wants: one more than a blip at any phase can touch.
func (g *Guard) failing(length time.Duration) int {
	blip := min(max(g.Blip, 0), burstSpan)
	return fewTurns + int((blip+length-1)/length)
}

// court is what a stretch of turns is held against.
type court struct {
	phi     float64
	healthy float64 // live is healthy below this error share
	alone   bool
	failing int    // turns that must have failed for the short rule
	all     arms   // the last 10 s
	live3   Counts // live's last 3 s
}

// stretch is a run of turns that ends with the newest.
type stretch struct {
	arms
	length  time.Duration
	turns   int
	failing int           // turns with at least a fifth of the candidate's requests failing
	seconds int           // candidate errors that are at least a second apart
	apart   time.Duration // how long the stretch must be for the next of them
}

// extend adds the turn before the stretch.
func (s *stretch) extend(turn arms, length time.Duration) {
	if turn.candidate.Bad > 0 && s.length >= s.apart {
		s.seconds++
		s.apart = s.length + time.Second
	}
	s.add(turn)
	s.length += length
	s.turns++
	if turn.candidate.Bad > 0 && turn.candidate.rate() >= hot {
		s.failing++
	}
}

func (s *stretch) trip() Trip {
	return Trip{Bad: s.candidate.Bad, Finished: s.candidate.finished(), Window: s.length}
}

// failed reports whether enough of the candidate's requests failed, more of them than bursts explain, and not in one turn only.
func (s *stretch) failed(least uint64, errors float64) bool {
	n := s.candidate.finished()
	return n >= least && s.candidate.rate() >= bad && float64(s.candidate.Bad) >= errors && s.failing >= fewTurns
}

// long is the rule for the last 10 s.
func (c court) long(s stretch) bool {
	errors, seconds := fewErrors*c.phi, 0
	if c.phi > burstyRail {
		errors = fewApart * c.phi
	}
	if c.phi > burstyRail || s.candidate.finished() < 100 {
		seconds = apart
	}
	if !s.failed(20, errors) || s.seconds < seconds {
		return false
	}
	if s.live.finished() < control {
		// Too little of live to acquit it of a shared fault. That is held against the candidate only when live gets nothing at all.
		return c.alone
	}
	return c.well(s.live, s.candidate) && c.spared(s.live, s.candidate) && (c.live3.finished() < control || c.well(c.live3, s.candidate))
}

// short is the rule for any stretch of at least two turns below 10 s.
func (c court) short(s stretch) bool {
	if c.phi > burstyRail && s.seconds < apart {
		return false // a single burst
	}
	return s.failing >= c.failing && s.failed(200, 10*c.phi) && 2*s.failing >= s.turns &&
		s.live.finished() >= control && c.well(s.live, s.candidate) && c.spared(s.live, s.candidate) && c.well(c.all.live, s.candidate)
}

// spared reports whether live, had it what the candidate has, would almost surely have shown more errors. At a share of 75 % and 10 requests/s live finishes
// 25 in 10 s, and in a shared outage one release in forty found one of them failing or none just then. Where errors may come in bursts, an outage's do, too.
func (c court) spared(live, candidate Counts) bool {
	expected := float64(live.finished()) * candidate.rate()
	spread := c.phi
	if spread > independent {
		spread = max(spread, mayBurst)
	}
	return expected-float64(live.Bad) >= 3.5*math.Sqrt(spread*expected)
}

// well reports whether live is healthy: in itself, and by far healthier than the candidate.
func (c court) well(live, candidate Counts) bool {
	return live.rate() < min(c.healthy, candidate.rate()/2)
}
