package simulation

import (
	"math/rand/v2"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

// flushEvery is how often proxies send how long requests took.
const flushEvery = time.Second

// requests draws what the proxies of a whole release report, turn by turn.
type requests struct {
	*traffic
	worse       Regression
	usual, slow *shape
	timing      *rand.Rand // of its own, so that what finishes is the same however long it takes
	times       policy.Times
	unsent      struct{ live, candidate, slow uint64 } // finished since the last flush; slow are of the candidate, once it is slower
	unsentFor   time.Duration
	hung        []uint64 // in progress by the tick in which they began, those of the last timeout; empty: they never time out
	hangs       uint64   // their sum
	tries       [1]policy.ProxyReading
	more        extras
	bad         uint64 // the candidate's bad requests so far
}

func (w Whole) requests(number uint64) *requests {
	s := w.Scenario
	if !w.Regression.none() {
		s.Faults = append([]Fault{w.Regression.fault()}, s.Faults...)
	}
	r := &requests{
		traffic: newTraffic(s.fit(), number), worse: w.Regression, usual: w.Times.shape(0, 1), slow: w.Regression.times(w.Times),
		timing: rand.New(rand.NewPCG(^s.Seed, number)), more: extrasOf(w.Service.Analysis, ^number),
	}
	if w.Regression.Hangs {
		r.hung = make([]uint64, longest(w.Service)/Tick)
	}
	return r
}

// longest is how long a request may take on any of the service's routes; 0: some may take for ever.
func longest(s policy.Service) time.Duration {
	most := time.Duration(0)
	for _, route := range s.Routes {
		if *route.Timeout == 0 {
			return 0
		}
		most = max(most, route.Timeout.Std())
	}
	return most
}

// turn draws the next turn with the candidate at a weight.
func (r *requests) turn(weight policy.Weight) policy.Reading {
	var live, candidate judge.Counts
	if weight == 0 && r.at == 0 {
		live = r.history()
	} else {
		r.reach(weight)
		live, candidate = r.tick(weight.Share())
	}
	reading := policy.Reading{Interval: Tick, Reporting: 1, Live: finished(live), Candidate: finished(candidate)}
	r.suffer(&reading.Candidate)
	reading.CandidateActive = r.hangs
	reading.SteadyLive, reading.SteadyCandidate = reading.Live, reading.Candidate
	r.tries[0] = policy.ProxyReading{Proxy: "simulated", Live: reading.Live.Issued, Candidate: reading.Candidate.Issued, Steady: true}
	reading.Proxies = r.tries[:]
	r.unsent.live += reading.Live.Finished()
	reading.Times = r.flush()
	r.more.add(&reading)
	return reading
}

func finished(c judge.Counts) policy.Counts {
	return policy.Counts{OK: c.Good, Errors: c.Bad, Issued: c.Good + c.Bad}
}

// begun reports whether the candidate was worse at the end of the newest turn.
func (r *requests) begun() bool { return !r.worse.none() && r.at > r.onset() }

// suffer has the candidate's requests of a turn hang or be slow, once they do, and counts those that are bad: of a slow candidate all, as any may be late.
func (r *requests) suffer(c *policy.Counts) {
	sick := r.begun()
	timedOut := uint64(0)
	if len(r.hung) > 0 {
		slot := &r.hung[int(r.at/Tick)%len(r.hung)]
		timedOut, *slot = *slot, 0
		r.hangs -= timedOut
	}
	switch {
	case !sick:
		r.unsent.candidate += c.Finished()
		return
	case r.worse.Hangs:
		r.bad += c.Issued
		r.hangs += c.Issued
		if len(r.hung) > 0 {
			r.hung[int(r.at/Tick)%len(r.hung)] = c.Issued
		}
		c.OK, c.Errors = 0, timedOut
	case r.worse.Slower > 0:
		r.bad += c.Finished()
	default:
		r.bad += c.Errors
	}
	r.unsent.slow += c.Finished() - timedOut
}

// flush is what proxies send once a second of how long requests took.
func (r *requests) flush() *policy.Times {
	if r.unsentFor += Tick; r.unsentFor < flushEvery {
		return nil
	}
	r.times = policy.Times{}
	r.usual.draw(r.timing, r.unsent.live, &r.times.Live)
	r.usual.draw(r.timing, r.unsent.candidate, &r.times.Candidate)
	r.slow.draw(r.timing, r.unsent.slow, &r.times.Candidate)
	r.unsent.live, r.unsent.candidate, r.unsent.slow, r.unsentFor = 0, 0, 0, 0
	return &r.times
}
