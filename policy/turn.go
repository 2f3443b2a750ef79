package policy

import "time"

// Turn is everything that was read before one decision about one service. Decide depends on nothing else.
type Turn struct {
	Now       time.Time     // for outcomes only; nothing is timed by it but keep
	Elapsed   time.Duration // since this leader's last tick; 0 in its first, and between ticks
	Revision  int64         // newest etcd revision read: it names what begins now
	Deadman   time.Duration // the longest of the service's gateways; 0: one of them has none, and its proxies never go back by themselves
	Served    *Served       // nil: nothing is served
	Orphan    bool          // etcd does not tell what is served, although something is or was, and nobody has adopted that
	Restore   bool          // that was adopted: what is served has to be written to etcd again
	Wish      Wish
	Around    Around // what an accepted document must fit in with
	Permit    bool   // the running release's permit exists
	Cause     string // why the permit is gone, if that is known
	Paused    bool   // an operator paused the climb
	Order     *Order
	Fleet     Fleet
	Judgement Judgement
	Gap       bool // overlays may have expired since the last proof of a living leader
}

// Wish is the newest document of a service.
type Wish struct {
	Mod      int64    // its etcd mod revision; 0: there is none
	Service  Service  // as parsed, defaults filled; meaningless with Problems
	Problems []string // why it could not be read
	Gone     bool     // it was deleted, by itself and while this leader watched: the wish to stop serving
}

// Verb is what an order asks for.
type Verb string

// The orders. Resume clears a hold that rampart itself put on.
const (
	Advance Verb = "advance"
	Promote Verb = "promote"
	Retry   Verb = "retry"
	Resume  Verb = "resume"
)

// Order is an operator's order, written as "promote" or "promote green-1204".
type Order struct {
	Verb    Verb
	Release string // "" is whichever runs
	Mod     int64  // etcd mod revision
}

// Verdict is what the judge thinks of a candidate. The zero value promotes nothing and blames nothing.
type Verdict int

// The verdicts.
const (
	Unknown Verdict = iota
	Healthy
	Unhealthy
)

// String names the verdict.
func (v Verdict) String() string {
	return [...]string{"unknown", "healthy", "unhealthy"}[v]
}

// Judgement is a verdict with its reason in the operator's words and the numbers behind it.
type Judgement struct {
	Verdict  Verdict            `json:"verdict"`
	Reason   string             `json:"reason"`
	Lacks    string             `json:"lacks,omitempty"`    // what an Unknown verdict waits for, in words that do not change from turn to turn
	Guarded  bool               `json:"guarded,omitempty"`  // the guard rail tripped: any replica may act on it
	Incident bool               `json:"incident,omitempty"` // live itself is in trouble: hold
	Log      float64            `json:"log"`                // ln of the evidence against the candidate, all metrics together
	Numbers  map[string]float64 `json:"numbers,omitempty"`
	Findings []Finding          `json:"findings,omitempty"` // what each metric tells
	Users    string             `json:"users,omitempty"`    // how users of both arms have fared since the candidate first got traffic

	// What a climb by evidence goes by.
	Excess       float64 `json:"excess"`                // how much more often than the margin allows the candidate may still fail, as a share, 95 % sure; 1: nothing is known
	Rate         float64 `json:"rate,omitzero"`         // requests per second of both arms, lately; 0: nothing is known
	StepRequests uint64  `json:"stepRequests,omitzero"` // the candidate's that finished at this weight
	Unsettling   bool    `json:"unsettling,omitempty"`  // no increase now, for the reason in Lacks: evidence above half of what convicts, an incident, a missing report, changed endpoints
}

// Decision is what to do about one service. The caller carries it out in this order: Rollback, then the save.
type Decision struct {
	Served       *Served // the next; times have advanced even when Save is false
	Save         bool    // it must be saved, fenced, with what follows in the same transaction
	Delete       bool    // the served key must be deleted instead
	CreatePermit string  // release ids
	NeedPermit   string
	DeletePermit string
	DropOrder    bool
	Rollback     *Rollback // start one: latch, push, delete the permit, record
	Events       []Event
	Alarm        string // someone must act; nothing that is served changes
}

// Rollback says which release is to be taken back and why.
type Rollback struct {
	Release string
	Reason  string
	Numbers map[string]float64
}

// Event is one line of a service's history.
type Event struct {
	Name    string // began, accepted, refused, confirmed, moved, paused, restarted, rolled back, committed, ordered, stopped
	Text    string
	Numbers map[string]float64
}
