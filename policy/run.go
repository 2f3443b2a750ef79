package policy

import (
	"fmt"
	"time"
)

// run takes one turn of a running release.
func (d *decider) run(r *Release) {
	r.Age += d.Elapsed
	r.InPhase += d.Elapsed
	d.spendPatience(r)
	d.out.NeedPermit = r.ID
	if r.Phase == RollingBack {
		d.out.NeedPermit = ""
		d.rollingBack(r)
		return
	}
	if !d.Permit {
		d.out.NeedPermit = ""
		d.turnBack(r)
		return
	}
	if reason, numbers, convicted := d.mustGoBack(r); convicted {
		d.out.Rollback = &Rollback{Release: r.ID, Reason: reason, Numbers: numbers}
		return
	}
	if d.Gap && r.Phase != Committing && r.Weight > 0 {
		d.restart(r)
		return
	}
	d.takeOrder(r)
	switch r.Phase {
	case Gated:
		d.gated(r)
	case Shifting:
		d.shifting(r)
	case Soaking, Baking:
		d.soaking(r)
	case Committing:
		d.committing(r)
	}
}

// mustGoBack looks for a reason to roll back; it is asked first in every phase.
func (d *decider) mustGoBack(r *Release) (reason string, numbers map[string]float64, yes bool) {
	wish := d.next.Service.Wish()
	switch {
	case d.Judgement.Verdict == Unhealthy:
		return d.Judgement.Reason, d.Judgement.Numbers, true
	case wish == d.next.Live.Ref:
		return fmt.Sprintf("the wish was changed back to %s", wish), nil, true
	case wish != r.Candidate.Ref:
		return fmt.Sprintf("the wish was changed to %s", wish), nil, true
	case d.outOfPatience(r) && d.next.Service.Plan.Patience.Then == ThenRollback:
		return d.tooLittle(r), nil, true
	}
	return "", nil, false
}

// turnBack records that the permit is gone, whoever deleted it: the candidate weighs 0 from here on.
func (d *decider) turnBack(r *Release) {
	at := r.Weight
	r.Cause = d.Cause
	if r.Cause == "" {
		r.Cause = "its permit was deleted"
	}
	r.Withdrawn = d.next.Service.Wish() != r.Candidate.Ref
	r.enter(RollingBack)
	r.Weight = 0
	r.Waits = "the proxies to accept weight 0"
	d.next.Last = &Outcome{Release: r.ID, From: d.next.Live.Ref, To: r.Candidate.Ref, Result: RolledBack, Reason: r.Cause, Weight: at, At: d.Now}
	d.event("rolling back", "%s at %s: %s%s", r.Candidate.Ref, at, r.Cause, d.users())
	d.number(nil)
}

// rollingBack ends the release once every proxy is on live, or when the dead-man's switch has seen to it, if there is one everywhere.
func (d *decider) rollingBack(r *Release) {
	overdue := d.Deadman > 0 && r.InPhase >= d.Deadman+rollingGrace
	if !overdue && (d.Fleet.Confirmed < d.Fleet.Connected) {
		d.waits(r, "%d of %d proxies to accept weight 0", d.Fleet.Connected-d.Fleet.Confirmed, d.Fleet.Connected)
		return
	}
	if !r.Withdrawn {
		blocked := r.Candidate.Ref
		d.next.Blocked = &blocked
	}
	d.next.Release = nil
	seen := fmt.Sprintf("confirmed by %d of %d proxies", d.Fleet.Confirmed, d.Fleet.Connected)
	if overdue {
		seen += ", the others are back by the dead-man's switch"
	}
	d.event("rolled back", "%s: %s; %s", r.Candidate.Ref, r.Cause, seen)
	numbers := map[string]float64{"seconds": r.Age.Seconds()}
	if !d.Fleet.LastAck.IsZero() {
		numbers["lastAckUnixMs"] = float64(d.Fleet.LastAck.UnixMicro()) / 1000
	}
	d.number(numbers)
}

// restart begins the climb again after the proxies may have fallen back to live by themselves.
func (d *decider) restart(r *Release) {
	d.event("restarted", "at %s nothing proved that the release may go on for longer than the dead-man's time: it begins again at its first step", r.Weight)
	r.enter(Gated)
	r.Weight, r.First = 0, 0
	r.Waits = "live to be observed again"
}

// takeOrder obeys an operator's order for this release. No order skips the proxies' confirmation or the judge's no.
func (d *decider) takeOrder(r *Release) {
	o := d.Order
	switch {
	case o == nil:
		return
	case o.Release != "" && o.Release != r.ID:
		d.drop("it is for " + o.Release)
	case o.Mod <= r.Began:
		d.drop("it is older than the release")
	case o.Verb == Promote:
		d.obey()
		d.Order = nil
		if r.Phase != Committing {
			r.Mode, r.Held = ByPromote, ""
			d.fullWeight(r)
		}
	case o.Verb == Resume:
		d.obey()
		r.Held, r.Unproven = "", 0
	case o.Verb == Retry:
		d.drop("the release runs already")
	case o.Verb != Advance:
		d.drop("expected advance, promote or retry")
	}
	// Advance is obeyed where the climb waits: in gated once the proxies are ready, and at a confirmed step.
}

// fullWeight moves a release that is past its gate to full weight; a gated one goes there by its mode as soon as the proxies are ready.
func (d *decider) fullWeight(r *Release) {
	if r.Phase != Gated && r.Weight < MaxRunning {
		d.move(r, MaxRunning)
	}
}

func (d *decider) advanceOrdered() bool {
	return d.Order != nil && d.Order.Verb == Advance && !d.out.DropOrder
}

// gated waits until the proxies have what the candidate needs and live has been observed.
func (d *decider) gated(r *Release) {
	if why, blocked := d.blocksGate(r); blocked {
		r.enter(Gated) // live is observed from when the proxies are ready
		d.waits(r, "%s", why)
		return
	}
	switch {
	case d.Paused && !d.advanceOrdered():
		d.waits(r, "`rampart resume`: paused before the first step")
	case r.Mode == ByPlan && r.InPhase < observeLive && !d.advanceOrdered():
		d.waits(r, "live to be observed for %s", Duration(observeLive))
	default:
		d.climb(r)
	}
}

// blocksGate says what is missing before a release may take its first request.
func (d *decider) blocksGate(r *Release) (why string, yes bool) {
	definition := r.Candidate.Definition
	switch {
	case len(definition.Endpoints) == 0 && definition.DNS == "":
		return fmt.Sprintf("%s to have endpoints", r.Candidate.Ref), true
	case d.Fleet.Connected == 0:
		return "a proxy to connect", true
	case d.short(d.Fleet.Ready):
		return d.unready(), true
	}
	return d.lacksCapacity(r)
}

// lacksCapacity holds the climb, and calls a person, while live has fewer endpoints than when the release began: a rollback needs them all.
func (d *decider) lacksCapacity(r *Release) (why string, yes bool) {
	if have := d.capacity(); have < r.Capacity {
		d.out.Alarm = fmt.Sprintf("%s has %d endpoints, %d when the release began: no climb", d.next.Live.Ref, have, r.Capacity)
		return fmt.Sprintf("live to have %d endpoints again, as when the release began", r.Capacity), true
	}
	return "", false
}

// capacity is how many endpoints live has.
func (d *decider) capacity() int { return len(d.next.Live.Definition.Endpoints) }

// shifting waits until the proxies have accepted the new weight.
func (d *decider) shifting(r *Release) {
	if d.Fleet.Connected == 0 || d.short(d.Fleet.Confirmed) {
		d.waits(r, "%s", d.unconfirmed(r))
		return
	}
	took := r.InPhase
	r.rest(d.next.Service.Plan)
	d.event("confirmed", "%s confirmed by %d of %d", r.Weight, d.Fleet.Confirmed, d.Fleet.Connected)
	d.number(map[string]float64{"seconds": took.Seconds(), "weight": float64(r.Weight)})
	d.soaking(r)
}

// soaking waits for evidence at the present weight, then climbs; at the top it commits.
func (d *decider) soaking(r *Release) {
	if d.Fleet.Connected == 0 || d.short(d.Fleet.Confirmed) {
		d.waits(r, "%s", d.unconfirmed(r))
		return
	}
	if d.short(d.Fleet.Ready) {
		d.waits(r, "%s", d.unready())
		return
	}
	r.rest(d.next.Service.Plan) // a changed plan may have moved the top
	if d.advanceOrdered() {
		d.climb(r)
		return
	}
	if d.outOfPatience(r) && r.Held == "" {
		r.Held = d.tooLittle(r)
		d.event("paused", "%s", r.Held)
	}
	if why, holds := d.holds(r); holds {
		d.waits(r, "%s", why)
		return
	}
	d.climb(r)
}

// holds says why the climb may not go on yet.
func (d *decider) holds(r *Release) (why string, yes bool) {
	dwell := r.dwell(d.next.Service.Plan)
	if why, yes := d.lacksCapacity(r); yes {
		return why, yes
	}
	switch {
	case d.Paused:
		return "`rampart resume`: paused by an operator", true
	case r.Held != "":
		return "`rampart resume`: " + r.Held, true
	case r.InPhase < dwell:
		return fmt.Sprintf("%s of %s at %s", Duration(dwell), r.Phase, r.Weight), true
	case r.Mode != ByPlan:
		return "", false
	case r.climbs(d.next.Service.Plan):
		return d.lacksEvidence(r)
	case d.Judgement.Verdict != Healthy:
		return d.Judgement.Lacks, true
	}
	return "", false
}

// climb makes the next move upwards. What is ordered is the plan's next step, whatever the evidence allows.
func (d *decider) climb(r *Release) {
	r.Held = ""
	to, _ := d.next.Service.Plan.Above(r.Weight)
	if d.advanceOrdered() {
		d.obey()
	} else if allowed := d.allowed(r); allowed > 0 {
		to = allowed
	}
	switch {
	case r.Phase == Baking:
		d.commit(r)
	case r.Mode != ByPlan:
		d.move(r, MaxRunning)
	case r.Phase == Gated:
		r.First = d.firstStep()
		d.move(r, r.First)
	default:
		d.move(r, to)
	}
}

func (d *decider) move(r *Release, to Weight) {
	from := r.Weight
	r.enter(Shifting)
	r.Weight = to
	r.Waits = fmt.Sprintf("%d proxies to accept %s", d.Fleet.Connected, to)
	d.event("moved", "%s → %s", from, to)
	d.number(nil)
}

// commit pushes the new base while overlay and permit stay.
func (d *decider) commit(r *Release) {
	r.enter(Committing)
	r.Weight = MaxRunning
	r.Waits = "the proxies to accept the new base"
	d.event("committing", "%s%s", r.Candidate.Ref, d.users())
	d.number(nil)
}

// committing ends the release when the proxies have accepted the new base: one transaction moves live and deletes the permit.
func (d *decider) committing(r *Release) {
	if d.Fleet.Connected == 0 || d.short(d.Fleet.Confirmed) {
		d.waits(r, "%s", d.unconfirmed(r))
		return
	}
	d.out.DeletePermit = r.ID
	d.next.Last = &Outcome{Release: r.ID, From: d.next.Live.Ref, To: r.Candidate.Ref, Result: Committed, Weight: Full, At: d.Now,
		Reason: fmt.Sprintf("confirmed by %d of %d proxies", d.Fleet.Confirmed, d.Fleet.Connected)}
	d.next.Commit = d.next.Last
	d.next.Live = r.Candidate
	d.next.Release = nil
	d.event("committed", "%s is live", r.Candidate.Ref)
	d.number(map[string]float64{"seconds": r.Age.Seconds()})
}

// short reports whether so many proxies are less than the plan's quorum of the connected ones.
func (d *decider) short(count int) bool {
	return int64(count)*int64(Full) < int64(d.Fleet.Connected)*int64(*d.next.Service.Plan.Quorum)
}

func (d *decider) unready() string {
	return d.missing(d.Fleet.Ready, "what the release needs")
}

func (d *decider) unconfirmed(r *Release) string {
	return d.missing(d.Fleet.Confirmed, r.Weight.String())
}

// missing says which proxies have not accepted what, in words for `why`.
func (d *decider) missing(have int, what string) string {
	if d.Fleet.Connected == 0 {
		return "a proxy to connect"
	}
	text := fmt.Sprintf("%d of %d proxies to accept %s", d.Fleet.Connected-have, d.Fleet.Connected, what)
	if d.Fleet.Rejected > 0 {
		text += fmt.Sprintf(" (%d rejected it)", d.Fleet.Rejected)
	}
	return text
}

// waits notes what the release waits for. The note is saved with whatever else is, and by itself once a tick: how many proxies are missing changes with their ACKs, hundreds
// of times in a step of a large fleet.
func (d *decider) waits(r *Release, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if text == r.Waits || d.Elapsed == 0 && !d.out.Save {
		return
	}
	r.Waits = text
	d.out.Save = true
}

// StepTime is how long the present phase lasts at least, for display; 0 when only evidence or proxies end it.
func (s *Served) StepTime() time.Duration {
	r := s.Release
	switch {
	case r == nil:
		return 0
	case r.Phase == Gated && r.Mode == ByPlan:
		return observeLive
	case r.Phase == Soaking || r.Phase == Baking:
		return r.dwell(s.Service.Plan)
	}
	return 0
}
