package policy

// spendPatience counts the time without evidence: from the end of the step's own time, and anew with each healthy verdict.
func (d *decider) spendPatience(r *Release) {
	switch {
	case d.Judgement.Verdict == Healthy:
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
	return d.awaitsEvidence(r) && d.Judgement.Verdict != Healthy && r.Unproven >= d.next.Service.Plan.Patience.For.Std()
}
