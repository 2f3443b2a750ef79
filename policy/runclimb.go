package policy

import (
	"fmt"
	"math"
	"strconv"
)

// climbed is where a climb by evidence stands, by this turn's judgement.
func (d *decider) climbed(r *Release) Climbed {
	j := d.Judgement
	return Climbed{
		Weight: r.Weight, Top: d.next.Service.Plan.top(), Rate: j.Rate, Excess: j.Excess, Elapsed: r.InPhase, Requests: j.StepRequests, Hold: j.Unsettling || j.Incident,
	}
}

// firstStep is the weight of the first step. While nothing is known of the traffic it is the plan's own, the more careful one.
func (d *decider) firstStep() Weight {
	plan := d.next.Service.Plan
	if plan.Evidence != nil && d.Judgement.Rate > 0 {
		return min(plan.Evidence.First(d.Judgement.Rate), plan.top())
	}
	return plan.first()
}

// allowed is the weight that the evidence allows now; 0 where it has no say or allows no more than the present one.
func (d *decider) allowed(r *Release) Weight {
	plan := d.next.Service.Plan
	if !r.climbs(plan) {
		return 0
	}
	return plan.Evidence.Next(d.climbed(r))
}

// lacksEvidence says what a climb by evidence waits for, in words that change only with what it is.
func (d *decider) lacksEvidence(r *Release) (why string, yes bool) {
	at, candidate := d.climbed(r), r.Candidate.Backend
	switch {
	case at.Hold && d.Judgement.Lacks != "":
		return d.Judgement.Lacks, true
	case at.Hold:
		return "the evidence to become clear", true
	case at.Requests < climbSeen:
		return fmt.Sprintf("%d finished requests to %s at %s", climbSeen, candidate, r.Weight), true
	case at.Weight < at.top() && d.allowed(r) > 0:
		return "", false
	case at.Weight < at.top():
		return fmt.Sprintf("enough evidence for more than %s", r.Weight), true
	case d.Judgement.Verdict != Healthy:
		return d.Judgement.Lacks, true
	case d.next.Service.Plan.Evidence.Ready(at):
		return "", false
	}
	return fmt.Sprintf("evidence that %s fails at most %s more often than the margin allows", candidate, points(climbReady)), true
}

// points prints a share as the difference of two percentages, with two digits: "0.5 points", "3.1 points", "40 points".
func points(share float64) string {
	digits := 2
	if share >= 0.1 {
		digits = 3 // for 100, which two would make 1e+02
	}
	return strconv.FormatFloat(math.Round(share*1000)/10, 'g', digits, 64) + " points"
}
