package policy

import "time"

// The constants of a climb by evidence (judge.md 2e, policy D of 2g).
const (
	climbTop     = Full / 2                // information is largest where both arms get the same
	climbOutage  = 100 * time.Millisecond  // a step may cost as many failed requests as an outage of this length (β), if the bound on the excess is the truth
	climbLeast   = 1.0                     // but this many in any case (B_min)
	climbReact   = 2 * time.Second         // from a fault to a rollback that acts
	climbPause   = 1500 * time.Millisecond // at least, at each weight
	climbSeen    = 5                       // candidate requests, at least, at each weight
	climbStride  = 1.1                     // a step below this factor is not worth a push, unless it is the last
	climbReady   = 0.005                   // the excess up to which a candidate at the top is done
	climbSteady  = 5 * time.Second         // and how long it must have been at the top
	climbQuiet   = 5.0                     // requests per second below which 1 % of them tells nothing
	climbQuietly = Full / 10               // and what a release starts with there
)

// ClimbBake is how long a release that climbs by evidence stays at its last weight, full less the holdback, after Ready said yes.
const ClimbBake = 5 * time.Second

// Climbed is where a climb by evidence stands.
type Climbed struct {
	Weight   Weight        // the present one
	Top      Weight        // the most the plan allows; 0 or more than 50 %: 50 %
	Rate     float64       // requests per second, both arms together
	Excess   float64       // how much worse than the margin the candidate may still be, as a share (judge.Evidence.Excess)
	Elapsed  time.Duration // at the present weight
	Requests uint64        // of the candidate that finished at the present weight
	Hold     bool          // live is in an incident, or the evidence is above half of what convicts
}

// First returns the weight a climb starts with: more where traffic is so low that From would bring no request for minutes.
func (c Climb) First(rate float64) Weight {
	if rate < climbQuiet {
		return max(c.From, climbQuietly)
	}
	return c.From
}

// above returns the most that the next step after a weight may be, and whether there is one: twice as much up to half of the traffic, then the plan's top.
func (c Climb) above(weight, top Weight) (Weight, bool) {
	half := min(climbTop, top)
	switch {
	case weight >= top:
		return 0, false
	case weight == 0:
		return min(c.From, half), true
	case weight < half:
		return min(2*weight, half), true
	}
	return top, true
}

// Next returns the weight to step to, or 0 to wait. It never falls, never more than doubles and never exceeds the top.
//
// What may go wrong before a rollback acts is bounded: the excess that the evidence still allows, times the candidate's requests in that time, is at most
// a tenth of a second of full outage.
func (c Climb) Next(at Climbed) Weight {
	if at.Hold || at.Elapsed < climbPause || at.Requests < climbSeen || !(at.Rate > 0) || !(at.Excess >= 0) {
		return 0
	}
	top, present := float64(at.top()), float64(at.Weight)
	budget := max(climbOutage.Seconds()*at.Rate, climbLeast)
	next := min(2*present, top)
	if perWeight := climbReact.Seconds() * at.Rate * at.Excess / float64(Full); perWeight*next > budget {
		next = budget / perWeight
	}
	if next < top && next < climbStride*present {
		return 0
	}
	if next := Weight(next); next > at.Weight {
		return next
	}
	return 0
}

// Ready reports whether the candidate may have everything: it is at the top, has been for a while, and the evidence allows no excess worth speaking of.
func (c Climb) Ready(at Climbed) bool {
	return !at.Hold && at.Weight >= at.top() && at.Elapsed >= climbSteady && at.Requests >= climbSeen && at.Excess <= climbReady
}

func (c Climbed) top() Weight {
	if c.Top > 0 && c.Top < climbTop {
		return c.Top
	}
	return climbTop
}
