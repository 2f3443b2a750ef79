package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// silentFor is how long a proxy may say nothing before it counts as disconnected (DESIGN §4, confirmed steps).
const silentFor = 20 * time.Second

// picture is everything that is shown about one service at one moment. What it says is a pure function of it.
type picture struct {
	service  *service
	evidence *evidence // nil: there is none yet
	fleet    policy.Fleet
	reported bool // the replicas have said something of the release's proxies
	alarms   []string
	lines    []store.Line // newest history, oldest first
	led      bool         // some replica leads
	silent   time.Time    // since when etcd does not answer; zero: it does
	now      time.Time
	seen     time.Time // when the served copy arrived, if it was seen to arrive: its times go on from there
}

// take adds what the replicas report.
func (p *picture) take(reports map[string]store.Report) {
	p.fleet, p.reported = fleetOf(reports, p.service.name, p.service.release())
	p.alarms = alarmsOf(reports, p.service.name)
}

// look gathers the picture of a service once.
func (a *app) look(ctx context.Context, s *store.Store, name string) (picture, error) {
	p := picture{now: a.now()}
	var err error
	if p.service, err = readService(ctx, s, name); err != nil {
		return p, err
	}
	if p.evidence, err = readEvidence(ctx, s, name, p.service.release()); err != nil {
		return p, err
	}
	if p.lines, err = s.History(ctx, name, historyTail); err != nil {
		return p, err
	}
	if _, p.led, err = s.Leader(ctx); err != nil {
		return p, err
	}
	short, cancel := context.WithTimeout(ctx, acceptIn)
	defer cancel()
	reports, err := readReports(short, s)
	if err != nil {
		return p, err
	}
	p.take(reports)
	return p, nil
}

// alarmsOf lists what replicas complain of that concerns a service: what names it, and what names no service.
func alarmsOf(reports map[string]store.Report, name string) []string {
	found := map[string]bool{}
	for _, report := range reports {
		for _, alarm := range report.Alarms {
			switch of, text, named := strings.Cut(alarm, ": "); {
			case named && of == name:
				found[text] = true
			case !named, strings.Contains(of, " "): // no service's name has a space
				found[alarm] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// inPhase is how long the present phase has lasted. The served copy's times are saved now and then, so they go on from when it was seen.
func (p picture) inPhase() time.Duration {
	r := p.service.release()
	if r == nil {
		return 0
	}
	// A release that waits for something else than time has its clock stopped.
	if p.seen.IsZero() || (r.Phase == policy.Gated && !observing(r)) {
		return r.InPhase
	}
	return r.InPhase + p.now.Sub(p.seen)
}

// observing reports whether a gated release only waits for live to be observed.
func observing(r *policy.Release) bool { return strings.HasPrefix(r.Waits, "live to be observed") }

// left is what remains of the present phase's least time; 0 when it is over, or when only proxies and evidence end it.
func (p picture) left() time.Duration {
	r := p.service.release()
	if r == nil || (r.Phase == policy.Gated && !observing(r)) {
		return 0
	}
	return max(0, p.service.served.StepTime()-p.inPhase())
}

// unconfirmed counts the proxies that have not accepted what served says.
func (p picture) unconfirmed() int { return max(0, p.fleet.Connected-p.fleet.Confirmed) }

// permitted reports whether the running release's permit is there.
func (p picture) permitted() bool {
	r := p.service.release()
	return r != nil && p.service.permits[r.ID]
}

// phaseText says where a running release is: "soaking at 5 %, 18 s of 30 s".
func (p picture) phaseText() string {
	r := p.service.release()
	text := fmt.Sprintf("%s at %s", r.Phase, r.Weight)
	switch {
	case r.Phase == policy.RollingBack:
		return "rolling back"
	case !p.permitted():
		return "taken back: its permit is gone"
	case p.service.paused:
		return text + ", paused"
	case r.Held != "":
		return text + ", held"
	}
	step := p.service.served.StepTime()
	if step == 0 || (r.Phase == policy.Gated && !observing(r)) {
		return text
	}
	return fmt.Sprintf("%s, %s of %s", text, brief(min(p.inPhase(), step).Truncate(time.Second)), brief(step))
}

// silence is how long etcd may leave a question open before what is shown is called old.
const silence = 3 * time.Second

// unanswered reports whether what is shown may be old.
func (p picture) unanswered() bool { return !p.silent.IsZero() && p.now.Sub(p.silent) >= silence }

// standstill is why nothing goes on, or is not known to; "" if something may.
func (p picture) standstill() string {
	switch {
	case p.unanswered():
		return "etcd has not answered since " + timeText(p.silent, p.now) + ": what is shown is from then"
	case !p.led:
		return "no replica leads at present: nothing is decided"
	}
	return ""
}

// next says what happens next and when.
func (p picture) next() string {
	r, plan := p.service.release(), p.service.served.Service.Plan
	switch {
	case p.unanswered():
		return "not known, before etcd answers"
	case !p.led:
		return "nothing, before a replica leads again"
	case r.Phase == policy.RollingBack || !p.permitted():
		return "it is over when every proxy has accepted weight 0; the dead-man's switch sees to those that do not answer"
	case r.Phase == policy.Committing:
		return r.Candidate.String() + " is live when the proxies have accepted it"
	case r.Phase == policy.Shifting:
		return p.nextShifting(r)
	}
	move := nextMove(r, plan)
	switch {
	case p.service.paused || r.Held != "":
		return move + " after `rampart resume " + p.service.name + "`"
	case climbs(r, plan):
		return move + p.nextClimb(r, plan)
	case p.left() > 0:
		return fmt.Sprintf("%s in %s, if the judge has no objection", move, whole(p.left()))
	case r.Phase == policy.Gated:
		return move + ", when that is there"
	}
	return move + ", when that is there" + p.patienceText(r, plan)
}

// climbs reports whether the evidence decides when, and below half of the traffic also how far, the next step goes.
func climbs(r *policy.Release, plan policy.Plan) bool {
	return plan.Evidence != nil && r.Mode == policy.ByPlan && (r.Phase == policy.Gated || r.Phase == policy.Soaking)
}

// nextClimb is when the next step of a climb by evidence comes, after the step's name.
func (p picture) nextClimb(r *policy.Release, plan policy.Plan) string {
	in := ""
	if p.left() > 0 {
		in = " in " + whole(p.left())
	}
	switch {
	case r.Phase == policy.Gated && in == "":
		return ", when that is there; then as fast as the evidence allows"
	case r.Phase == policy.Gated:
		return in + "; then as fast as the evidence allows"
	case in == "":
		return ", as soon as the evidence allows" + p.patienceText(r, plan)
	}
	return in + ", as far as the evidence allows"
}

// nextMove names what comes after the present weight. A climb by evidence steps up to what the evidence allows by then, and to the rest from half of the traffic.
func nextMove(r *policy.Release, plan policy.Plan) string {
	weight, more := plan.Above(r.Weight)
	switch {
	case r.Phase == policy.Baking || (r.Phase != policy.Gated && !more):
		return "the commit"
	case r.Mode != policy.ByPlan:
		return "everything at once"
	case climbs(r, plan) && r.Phase == policy.Gated:
		return "the first step"
	case climbs(r, plan) && weight <= policy.Full/2:
		return "up to " + weight.String()
	}
	return weight.String()
}

// patienceText says what ends a wait for evidence.
func (p picture) patienceText(r *policy.Release, plan policy.Plan) string {
	if r.Mode != policy.ByPlan || plan.Patience == nil {
		return ""
	}
	rest := plan.Patience.For.Std() - r.Unproven - (p.inPhase() - r.InPhase)
	if rest <= 0 || len(p.service.served.Live.Definition.Endpoints) < r.Capacity {
		return ""
	}
	if plan.Patience.Then == policy.ThenRollback {
		return fmt.Sprintf("; without it the release is rolled back in %s", whole(rest))
	}
	return fmt.Sprintf("; without it the release pauses in %s", whole(rest))
}

// nextShifting says when a step will be confirmed. A proxy that stays silent ends the wait by counting as disconnected.
func (p picture) nextShifting(r *policy.Release) string {
	silent := slices.DeleteFunc(slices.Clone(p.fleet.Waiting), func(w policy.ProxyWords) bool {
		return w.Says != "" || w.Silent < time.Second
	})
	step := "its time at " + r.Weight.String() + " begins"
	if p.reported && p.fleet.Connected == 0 {
		return step + " when a proxy has connected and confirmed it"
	}
	if len(silent) == 0 || len(silent) < p.unconfirmed() || p.fleet.Rejected > 0 {
		return step + " when they have confirmed it"
	}
	longest := slices.MinFunc(silent, func(a, b policy.ProxyWords) int { return int(a.Silent - b.Silent) })
	return fmt.Sprintf("in %s %s as disconnected, and the release goes on", whole(silentFor-longest.Silent), countsText(silent))
}

// countsText agrees in number.
func countsText(silent []policy.ProxyWords) string {
	names := make([]string, len(silent))
	for i, w := range silent {
		names[i] = w.Proxy
	}
	if len(names) == 1 {
		return names[0] + " counts"
	}
	return listed(names) + " count"
}
