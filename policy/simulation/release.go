package simulation

import (
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

// Outcome is how one release ended.
type Outcome struct {
	By       string        // what convicted the candidate; "" if nothing did
	At       time.Duration // when it ended, since the candidate first got traffic
	Onset    time.Duration // when the candidate turns bad; 0 if it never does
	Bad      uint64        // its requests that failed since then
	Promoted bool          // the climb was ready, and the candidate baked
}

// Convicted reports whether the candidate was rolled back.
func (o Outcome) Convicted() bool { return o.By != "" }

// Early reports whether it was rolled back before it turned bad.
func (o Outcome) Early() bool { return o.Convicted() && o.At <= o.Onset }

// release is one rollout on its way.
type release struct {
	*traffic
	rule    Rule
	outcome Outcome
	stand   policy.Climbed
	baked   time.Duration
	baking  bool
}

// play runs the release with a number.
func (s Scenario) play(number uint64, rule Rule) Outcome {
	r := release{traffic: newTraffic(s, number), rule: rule}
	for range s.History / Tick {
		rule.Observe(r.history(), Tick)
	}
	var weight policy.Weight
	for r.at < s.Limit && r.outcome.By == "" {
		before := weight
		if weight = r.weight(before); r.outcome.Promoted {
			break
		}
		r.reach(weight)
		r.outcome.Onset = r.onset()
		r.outcome.By = rule.Turn(r.turn(weight, before))
	}
	r.outcome.At = r.at
	return r.outcome
}

// turn draws one turn.
func (r *release) turn(weight, before policy.Weight) judge.Turn {
	t := judge.Turn{Length: r.Turn, Share: weight.Share(), NewStep: weight != before, Warming: r.at < r.Warmup}
	for range r.Turn / Tick {
		live, candidate := r.tick(t.Share)
		if r.at > r.outcome.Onset {
			r.outcome.Bad += candidate.Bad
		}
		t.Live.Good += live.Good
		t.Live.Bad += live.Bad
		t.Candidate.Good += candidate.Good
		t.Candidate.Bad += candidate.Bad
	}
	r.stand.Elapsed += r.Turn
	r.stand.Requests += t.Candidate.Good + t.Candidate.Bad
	return t
}

// weight is the weight of the next turn.
func (r *release) weight(now policy.Weight) policy.Weight {
	if r.Climb != nil {
		return r.climb(now)
	}
	at := r.at
	for _, step := range r.Steps {
		if at < step.Dwell {
			return step.Weight
		}
		at -= step.Dwell
	}
	return now
}

// climbTop is what a climb bakes at: full less the usual holdback.
const climbTop = policy.Full * 95 / 100

// climb asks the rule's evidence for the next weight, and promotes after the bake.
func (r *release) climb(now policy.Weight) policy.Weight {
	if now == 0 {
		return r.step(r.Climb.First(r.Rate))
	}
	if r.at <= r.Warmup && r.Warmup > 0 {
		return now
	}
	if r.baking {
		r.baked += r.Turn
		r.outcome.Promoted = r.baked >= policy.ClimbBake
		return now
	}
	if r.stand.Elapsed < time.Second {
		return now // too early for any step: do not ask for the bound
	}
	climber := r.rule.(Climber)
	r.stand.Rate, r.stand.Hold = r.Rate, climber.Hold()
	r.stand.Excess = climber.Excess()
	if r.Climb.Ready(r.stand) {
		r.baking = true
		return r.step(climbTop)
	}
	if next := r.Climb.Next(r.stand); next > 0 {
		return r.step(next)
	}
	return now
}

func (r *release) step(weight policy.Weight) policy.Weight {
	r.stand.Weight, r.stand.Elapsed, r.stand.Requests = weight, 0, 0
	return weight
}
