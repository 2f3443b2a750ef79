package policy

import "time"

// Ref names what is deployed behind a backend's name: the unit of a wish.
type Ref struct {
	Backend  string `json:"backend"`
	Revision string `json:"revision,omitempty"`
}

// Arm is a backend's side of a service as it is served: its name and the definition that was accepted for it.
type Arm struct {
	Ref
	Definition Backend `json:"definition"`
}

// Served is the accepted copy of a service document with all that replicas need to render it and leaders need to go on: the value of
// served/services/<service>. It is immutable once handed over.
type Served struct {
	Service  Service  `json:"service"`  // the accepted document, defaults filled
	Accepted int64    `json:"accepted"` // etcd mod revision of the document it was copied from
	Live     Arm      `json:"live"`
	Release  *Release `json:"release,omitempty"` // nil: steady
	Last     *Outcome `json:"last,omitempty"`    // how the last release ended
	Commit   *Outcome `json:"commit,omitempty"`  // the last one that was committed, for keep
	Refused  *Refusal `json:"refused,omitempty"` // the newest document, if it was refused
	Blocked  *Ref     `json:"blocked,omitempty"` // a rolled-back wish: refused until the wish changes or retry is ordered
}

// Refusal says why the newest document of a service or gateway was not accepted.
type Refusal struct {
	Revision int64    `json:"revision"` // etcd mod revision of the refused document
	Problems []string `json:"problems"` // each with line, column and what was expected
}

// Phase is where a release is in its life (DESIGN: Life of a release).
type Phase string

// The phases of a release. A service without a release is steady.
const (
	Gated       Phase = "gated"
	Shifting    Phase = "shifting"
	Soaking     Phase = "soaking"
	Baking      Phase = "baking"
	Committing  Phase = "committing"
	RollingBack Phase = "rolling-back"
)

// Mode is how a release climbs.
type Mode string

// The modes of a release: its plan; at once when the endpoints are accepted; at once because an operator ordered it.
const (
	ByPlan    Mode = "plan"
	ByCutover Mode = "cutover"
	ByPromote Mode = "promote"
)

// Release is a running release. Times are elapsed time, kept here so that they survive a change of leader and of clock.
type Release struct {
	ID        string        `json:"id"`    // <backend>-<etcd revision at which it began>
	Began     int64         `json:"began"` // that revision: older orders are not for this release
	Candidate Arm           `json:"candidate"`
	Mode      Mode          `json:"mode"`
	Phase     Phase         `json:"phase"`
	Weight    Weight        `json:"weight"`              // the candidate's, 0 to MaxRunning; live has the rest
	Age       time.Duration `json:"age"`                 // since the release began, ns
	InPhase   time.Duration `json:"inPhase"`             // since the phase began, ns
	Unproven  time.Duration `json:"unproven,omitzero"`   // spent of the plan's patience in this phase, ns
	Waits     string        `json:"waits"`               // what it waits for, in the operator's words
	Held      string        `json:"held,omitempty"`      // why rampart itself paused the climb; resume clears it
	Cause     string        `json:"cause,omitempty"`     // why it is rolled back, once it is
	Withdrawn bool          `json:"withdrawn,omitempty"` // rolled back because the wish changed: nothing to refuse afterwards
	Capacity  int           `json:"capacity"`            // live's endpoints when it began
	First     Weight        `json:"first,omitzero"`      // the weight of its plan's first step, once it has taken that
}

// enter begins a phase, also the one it is in: what was timed by it begins anew.
func (r *Release) enter(phase Phase) {
	r.Phase, r.InPhase, r.Unproven = phase, 0, 0
}

// rest enters the phase that belongs to a weight once it is confirmed: at its top a release bakes, below it soaks. In that phase already, it goes on.
func (r *Release) rest(p Plan) {
	phase := Soaking
	if r.tops(p) {
		phase = Baking
	}
	if r.Phase != phase {
		r.enter(phase)
	}
}

// tops reports whether the release is where it ends: the next move is the commit.
func (r *Release) tops(p Plan) bool {
	if r.Mode != ByPlan {
		return r.Weight >= MaxRunning
	}
	return p.tops(r.Weight)
}

// dwell is how long the release stays at its weight at least. The first step also lasts the warm-up. At once means that only the top is looked at.
func (r *Release) dwell(p Plan) time.Duration {
	switch {
	case r.Mode == ByPlan && r.begins(p):
		return p.Warmup.Std() + p.dwell(r.Weight)
	case r.Mode == ByPlan:
		return p.dwell(r.Weight)
	case r.tops(p):
		return guardOnly
	}
	return 0
}

// begins reports whether the release is not above its first step, where only the guard rail counts until the warm-up is over. A climb by evidence began as its traffic wanted.
func (r *Release) begins(p Plan) bool {
	if p.Evidence != nil && r.First > 0 {
		return r.Weight <= r.First
	}
	return r.Weight <= p.first()
}

// climbs reports whether only the evidence decides how the release goes on: by such a plan, up to half of the traffic, and above it when another plan led there.
func (r *Release) climbs(p Plan) bool {
	soaks := r.Phase == Soaking || r.Phase == Baking && r.Weight <= climbTop
	return r.Mode == ByPlan && p.Evidence != nil && soaks
}

// Outcome is how a release ended.
type Outcome struct {
	Release string    `json:"release"`
	From    Ref       `json:"from"` // live when the release began
	To      Ref       `json:"to"`
	Result  Result    `json:"result"`
	Reason  string    `json:"reason"`
	Weight  Weight    `json:"weight"` // the candidate's when it ended
	At      time.Time `json:"at"`     // for display and for keep only
}

// Result is how a release ended.
type Result string

// The results of a release.
const (
	Committed  Result = "committed"
	RolledBack Result = "rolled back"
)

// Wish is the (backend, revision) that the document says should serve.
func (s Service) Wish() Ref { return Ref{Backend: s.Serve, Revision: s.Backends[s.Serve].Revision} }

// CandidateWeight is the serving rule, the only thing that starts or stops traffic to a candidate: what served says if its permit exists and the
// release is not latched, else 0.
func (s *Served) CandidateWeight(permit, latched bool) Weight {
	if s.Release == nil || !permit || latched {
		return 0
	}
	return min(s.Release.Weight, MaxRunning)
}

// Serves reports whether there is anything to render: not for nil, and not while the first document is refused.
func (s *Served) Serves() bool { return s != nil && s.Live.Backend != "" }

// ServedGateway is the accepted copy of a gateway document: the value of served/gateways/<gateway>. It is immutable once handed over.
type ServedGateway struct {
	Gateway  Gateway  `json:"gateway"`
	Accepted int64    `json:"accepted"` // etcd mod revision of the document it was copied from
	Refused  *Refusal `json:"refused,omitempty"`
	Gone     bool     `json:"gone,omitempty"` // it was deleted: its proxies keep what they have, and no service may name it
}

// Serves reports whether there is a gateway to render: not for nil, and not while the first document is refused.
func (g *ServedGateway) Serves() bool { return g != nil && g.Gateway.Name != "" }
