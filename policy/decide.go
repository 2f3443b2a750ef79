package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	observeLive  = 10 * time.Second // live is observed this long before its candidate gets the first request
	guardOnly    = 5 * time.Second  // at full weight by promote or cutover, with nothing but the judge's no
	rollingGrace = 5 * time.Second  // after the dead-man's time no proxy can still be off live
)

// Decide is the pure step of a service: from all that was read to what is served next. It looks at reasons to roll back first, in every phase; an order or a
// pause changes the climb only.
func Decide(t Turn) Decision {
	d := &decider{Turn: t}
	if !t.Served.Serves() {
		d.firstDocument()
		return d.out
	}
	next := *t.Served
	d.next = &next
	d.out.Served = d.next
	if t.Orphan {
		d.orphan()
		return d.out
	}
	if t.Restore {
		d.event("adopted", "what is served is written to etcd again")
	}
	d.takeDocument()
	if d.out.Delete {
		return d.out
	}
	if d.next.Release == nil {
		d.steady()
	} else {
		running := *d.next.Release
		d.next.Release = &running
		d.run(&running)
	}
	return d.out
}

// decider is one turn's work sheet: what was read and what has been decided so far. It lives for one call of Decide.
type decider struct {
	Turn
	next *Served
	out  Decision
}

func (d *decider) event(name, format string, args ...any) {
	d.out.Events = append(d.out.Events, Event{Name: name, Text: fmt.Sprintf(format, args...)})
	d.out.Save = true
}

// number gives the last event what the judge counted, and numbers of its own.
func (d *decider) number(own map[string]float64) {
	if len(d.Judgement.Numbers)+len(own) == 0 {
		return
	}
	numbers := make(map[string]float64, len(d.Judgement.Numbers)+len(own))
	maps.Copy(numbers, d.Judgement.Numbers)
	maps.Copy(numbers, own)
	d.out.Events[len(d.out.Events)-1].Numbers = numbers
}

// users says how users fared over the release, as the end of a sentence.
func (d *decider) users() string {
	if d.Judgement.Users == "" {
		return ""
	}
	return "; " + d.Judgement.Users
}

// firstDocument makes the wish of a service that never served anything live at once: there is nothing to compare it with. A refused first document leaves
// a served key that serves nothing and says why.
func (d *decider) firstDocument() {
	switch {
	case d.Wish.Mod == 0 && d.Wish.Gone && d.Served != nil && !d.Orphan:
		d.out.Delete = true
		d.event("stopped", "the refused document was deleted; nothing was ever served")
		return
	case d.Wish.Mod == 0:
		return
	case d.Orphan:
		d.out.Alarm = orphaned
		return
	}
	d.next = &Served{}
	if d.Served != nil {
		*d.next = *d.Served
	}
	d.out.Served = d.next
	if problems := d.problems(); len(problems) > 0 {
		d.refuse(problems)
		return
	}
	wish := d.Wish.Service.Wish()
	d.next.Service, d.next.Accepted, d.next.Refused = d.Wish.Service, d.Wish.Mod, nil
	d.next.Live = Arm{Ref: wish, Definition: d.Wish.Service.Backends[wish.Backend]}
	d.event("accepted", "first document: %s is live", wish)
}

const orphaned = "its served key is missing or unreadable although something was served; what replicas serve is kept until `rampart adopt`"

// orphan changes nothing but what cannot wait: a running release may still be taken back.
func (d *decider) orphan() {
	d.out.Alarm = orphaned
	r := d.next.Release
	if r == nil || !d.Permit {
		return
	}
	if reason, numbers, convicted := d.mustGoBack(r); convicted {
		d.out.Rollback = &Rollback{Release: r.ID, Reason: reason, Numbers: numbers}
	}
}

// problems says why the newest document cannot be accepted.
func (d *decider) problems() []string {
	if len(d.Wish.Problems) > 0 {
		return d.Wish.Problems
	}
	var problems []string
	for _, p := range Accept(d.Wish.Service, d.Around) {
		problems = append(problems, p.Error())
	}
	return problems
}

// takeDocument accepts or refuses the newest document. A refused one changes nothing but the note beside what is served.
func (d *decider) takeDocument() {
	if d.Wish.Mod == 0 {
		d.documentGone()
		return
	}
	if d.Wish.Mod == d.next.Accepted || (d.next.Refused != nil && d.next.Refused.Revision == d.Wish.Mod && !d.refusalOutdated()) {
		return
	}
	problems := d.problems()
	if len(problems) > 0 {
		d.refuse(problems)
		return
	}
	changes := Differences(d.next.Service, d.Wish.Service)
	if len(changes) == 0 {
		changes = []string{"nothing in it has changed"}
	}
	before := d.next.Service.Plan
	d.next.Service, d.next.Accepted, d.next.Refused = d.Wish.Service, d.Wish.Mod, nil
	d.next.Live = d.redefine(d.next.Live)
	if r := d.next.Release; r != nil {
		d.next.Release = d.edited(r, before)
	}
	d.event("accepted", "document accepted: %s", strings.Join(changes, ", "))
}

// refusalOutdated reports whether a refused document fits now, because what it clashed with has changed.
func (d *decider) refusalOutdated() bool {
	return !slices.Equal(d.problems(), d.next.Refused.Problems)
}

func (d *decider) refuse(problems []string) {
	if r := d.next.Refused; r != nil && r.Revision == d.Wish.Mod && slices.Equal(r.Problems, problems) {
		return
	}
	d.next.Refused = &Refusal{Revision: d.Wish.Mod, Problems: problems}
	d.event("refused", "document refused, nothing changes: %s", strings.Join(problems, "; "))
}

// documentGone handles a service whose document is not there. Only a deletion that was seen, by itself and while no release runs, stops the service.
func (d *decider) documentGone() {
	switch {
	case d.next.Release != nil:
		d.out.Alarm = "its document was deleted while a release runs: refused; put it again, and delete it when the release has ended"
	case !d.Wish.Gone:
		d.out.Alarm = "its document is gone; what was served is kept until the document is put again or `rampart adopt`"
	default:
		d.out.Delete = true
		d.event("stopped", "the document was deleted: no longer served")
	}
}

// redefine applies an edited definition to the live arm, as long as it tells of the same revision: endpoints, protocol and health apply at once at rest.
// While a release runs the connection settings of a serving cluster stay as they are.
func (d *decider) redefine(arm Arm) Arm {
	if d.next.Release != nil {
		return d.redefineRunning(arm)
	}
	if definition, ok := d.next.Service.Backends[arm.Backend]; ok && definition.Revision == arm.Revision {
		arm.Definition = definition
	}
	return arm
}

// redefineRunning applies new endpoints only: `protocol` and `health` edits wait for the end of the release.
func (d *decider) redefineRunning(arm Arm) Arm {
	definition, ok := d.next.Service.Backends[arm.Backend]
	if !ok || definition.Revision != arm.Revision || (definition.DNS == "") != (arm.Definition.DNS == "") {
		return arm
	}
	arm.Definition.Endpoints = definition.Endpoints
	return arm
}

// edited is a running release as the document that was just accepted wants it; before is the plan until then.
func (d *decider) edited(r *Release, before Plan) *Release {
	edited := *r
	edited.Candidate = d.redefineCandidate(r)
	edited.Mode = d.changedMode(r, before)
	if !sameDefinition(edited.Candidate.Definition, r.Candidate.Definition) {
		d.Fleet.Ready = 0 // for what they have accepted so far is the definition before
	}
	return &edited
}

// redefineCandidate applies a whole edited definition while the candidate has had no request, and new endpoints later.
func (d *decider) redefineCandidate(r *Release) Arm {
	arm := r.Candidate
	definition, ok := d.next.Service.Backends[arm.Backend]
	if r.Phase == Gated && ok && definition.Revision == arm.Revision {
		arm.Definition = definition
		return arm
	}
	return d.redefineRunning(arm)
}

// steady looks for a reason to begin a release.
func (d *decider) steady() {
	wish, live := d.next.Service.Wish(), d.next.Live
	d.settleEdits()
	retry := d.Order != nil && d.Order.Verb == Retry
	if d.Order != nil && !(retry && d.next.Blocked != nil) {
		d.drop("no release runs that it could be for")
	}
	if d.next.Blocked != nil && (wish != *d.next.Blocked || retry) {
		if retry {
			d.obey()
		}
		d.next.Blocked = nil
		d.out.Save = true
	}
	if wish == live.Ref || d.next.Blocked != nil {
		return
	}
	d.begin(wish)
}

// settleEdits applies the edits that waited for the end of a release.
func (d *decider) settleEdits() {
	arm := d.redefine(d.next.Live)
	if !sameDefinition(arm.Definition, d.next.Live.Definition) {
		d.next.Live = arm
		d.out.Save = true
	}
}

func sameDefinition(a, b Backend) bool {
	sameHealth := (a.Health == nil) == (b.Health == nil) && (a.Health == nil || *a.Health == *b.Health)
	return sameHealth && a.Protocol == b.Protocol && a.DNS == b.DNS && slices.Equal(a.Endpoints, b.Endpoints)
}

// begin starts a release at weight 0. Its permit is created in the transaction that saves it.
func (d *decider) begin(wish Ref) {
	release := &Release{
		ID:        fmt.Sprintf("%s-%d", wish.Backend, d.Revision),
		Began:     d.Revision,
		Candidate: Arm{Ref: wish, Definition: d.next.Service.Backends[wish.Backend]},
		Mode:      d.mode(wish),
		Phase:     Gated,
		Capacity:  d.capacity(),
		Waits:     "the proxies to accept the candidate's endpoints",
	}
	d.next.Release = release
	d.out.CreatePermit = release.ID
	d.event("began", "%s over %s", wish, d.next.Live.Ref)
}

// mode is how a release to wish climbs, as long as nobody orders otherwise.
func (d *decider) mode(wish Ref) Mode {
	if d.next.Service.Plan.Cutover != nil || d.goingBack(wish) {
		return ByCutover
	}
	return ByPlan
}

// changedMode lets a running release follow a plan that became a cutover, or is one no more.
func (d *decider) changedMode(r *Release, before Plan) Mode {
	same := (before.Cutover == nil) == (d.next.Service.Plan.Cutover == nil)
	if same || r.Mode == ByPromote {
		return r.Mode
	}
	return d.mode(r.Candidate.Ref)
}

// goingBack reports whether wish is what was live before the last commit, not longer ago than keep.
func (d *decider) goingBack(wish Ref) bool {
	commit := d.next.Commit
	return commit != nil && commit.From == wish && d.Now.Sub(commit.At) < d.next.Service.Plan.Keep.Std()
}

func (d *decider) obey() {
	d.out.DropOrder = true
	d.event("ordered", "%s", d.Order.Verb)
}

func (d *decider) drop(why string) {
	d.out.DropOrder = true
	d.event("dropped", "order %s is dropped: %s", d.Order.Verb, why)
}

// String names what is deployed: "green v42".
func (r Ref) String() string {
	if r.Revision == "" {
		return r.Backend
	}
	return r.Backend + " " + r.Revision
}
