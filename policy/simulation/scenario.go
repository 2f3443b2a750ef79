// Package simulation says what a release would come to: it draws a service's traffic from a seed, lets a plan move it, and feeds the counts to a rule, ours or
// somebody else's, until the rule convicts or the plan is through. Equal scenarios and seeds give equal traffic, whatever the rule and however many processors.
//
// It knows nothing of Envoy, of the network and of delays: what it measures is the rule.
package simulation

import (
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// Tick is the grid that traffic is drawn on.
const Tick = 250 * time.Millisecond

// Scenario is a service, what happens to it, and the plan of one release of it.
type Scenario struct {
	Rate     float64       // requests per second, both arms together
	Baseline float64       // error share of a healthy arm
	History  time.Duration // how long live alone was seen before
	Burst    float64       // mean size of the bursts that four of five errors come in; up to 1: every error on its own
	Worse    float64       // the candidate has this many times the baseline; 0 is 1
	Skew     float64       // the candidate really gets this many times its configured share; 0 is 1
	Faults   []Fault

	Turn   time.Duration // how often the rule is asked, in whole ticks; 0 is one tick
	Warmup time.Duration // the first so long the rule is told that the candidate is warming up
	Steps  []policy.Rung // the weights and how long each lasts
	Climb  *policy.Climb // instead of steps: as fast as the evidence of the rule allows, which must be a Climber
	Limit  time.Duration // the release ends after this at the latest; 0: with the last step, or for a climb after 30 min

	Seed uint64
}

// Fault is a time in which requests fail.
type Fault struct {
	Share  float64       // of the requests that fail while it lasts
	From   time.Duration // since the candidate first got traffic
	Phase  time.Duration // it begins up to this much later, at random
	Weight policy.Weight // instead of From: it begins when the candidate first has this weight
	For    time.Duration // how long; 0 is to the end
	Shared bool          // both arms fail, and nobody is to blame
}

// Ramp is the plan that judges are compared on: ten steps of a minute, the last without live (judge.md 3).
func Ramp() []policy.Rung {
	var steps []policy.Rung
	for _, percent := range []policy.Weight{1, 2, 5, 10, 20, 30, 50, 75, 90, 100} {
		steps = append(steps, policy.Rung{Weight: percent * policy.Full / 100, Dwell: time.Minute})
	}
	return steps
}

// fit fills in what is not said.
func (s Scenario) fit() Scenario {
	s.Turn = max(s.Turn-s.Turn%Tick, Tick)
	if s.Worse == 0 {
		s.Worse = 1
	}
	if s.Skew == 0 {
		s.Skew = 1
	}
	if s.Limit == 0 {
		s.Limit = 30 * time.Minute
		if s.Climb == nil {
			s.Limit = 0
			for _, step := range s.Steps {
				s.Limit += step.Dwell
			}
		}
	}
	return s
}
