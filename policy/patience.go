package policy

import "fmt"

// spendPatience counts the time without evidence: from the end of the step's own time, and anew whenever the judge has given what the step waits for.
func (d *decider) spendPatience(r *Release) {
	switch {
	case d.proven(r):
		r.Unproven = 0
	case d.awaitsEvidence(r):
		over := r.InPhase - r.dwell(d.next.Service.Plan)
		r.Unproven += max(0, min(d.Elapsed, over))
	}
}

// awaitsEvidence reports whether a step may go on for all but the judge. While an operator paused, or live lacks capacity, no evidence would help.
func (d *decider) awaitsEvidence(r *Release) bool {
	return (r.Phase == Soaking || r.Phase == Baking) && r.Mode == ByPlan && !d.Paused && d.capacity() >= r.Capacity
}

// outOfPatience reports whether a step has waited for evidence longer than the plan allows.
func (d *decider) outOfPatience(r *Release) bool {
	return d.awaitsEvidence(r) && !d.proven(r) && r.Unproven >= d.next.Service.Plan.Patience.For.Std()
}

// proven reports whether the judge has given what a step waits for: a healthy verdict, or, where only the evidence decides how it goes on, the evidence for the next step.
func (d *decider) proven(r *Release) bool {
	if r.climbs(d.next.Service.Plan) {
		_, lacks := d.lacksEvidence(r)
		return !lacks
	}
	return d.Judgement.Verdict == Healthy
}

// tooLittle is why patience is at its end, in the operator's words.
func (d *decider) tooLittle(r *Release) string {
	text := fmt.Sprintf("too little evidence for %s: %s", d.next.Service.Plan.Patience.For, d.Judgement.Reason)
	if r.climbs(d.next.Service.Plan) {
		text += fmt.Sprintf("; %s may still fail %s more often than the margin allows", r.Candidate.Backend, points(d.Judgement.Excess))
	}
	return text
}
