package simulation

import (
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Rule decides from counts whether a release must be rolled back. One value judges one release.
type Rule interface {
	// Observe takes what live finished before the candidate got traffic.
	Observe(live judge.Counts, length time.Duration)
	// Turn takes a turn of both arms and returns what convicts the candidate, "" for nothing yet.
	Turn(t judge.Turn) string
}

// Climber is a Rule whose evidence can drive a climb.
type Climber interface {
	Rule
	// Excess is how much worse than the margin the candidate may still be.
	Excess() float64
	// Hold reports whether the climb must wait.
	Hold() bool
}

// Judge is our own rule: evidence on errors, and the guard rail.
type Judge struct {
	errors *judge.Errors
	guard  judge.Guard
	found  judge.Evidence
}

// NewJudge returns our rule for one release.
func NewJudge(settings judge.Settings) *Judge {
	return &Judge{errors: judge.NewErrors(settings), guard: judge.Guard{Blip: settings.Blip}}
}

// Observe teaches what is usual for live.
func (j *Judge) Observe(live judge.Counts, length time.Duration) { j.errors.Observe(live, length) }

// Turn convicts by evidence ("errors", "limit") or by the guard rail ("guard").
func (j *Judge) Turn(t judge.Turn) string {
	j.errors.Turn(t)
	j.found = j.errors.Evidence()
	if _, tripped := j.guard.Turn(t, j.found.Phi, j.found.Level); tripped {
		return "guard"
	}
	return j.found.By
}

// Excess is the bound of judge.md 2e.
func (j *Judge) Excess() float64 { return j.errors.Excess() }

// Hold waits in incidents of live, and while the evidence is above half of what convicts.
func (j *Judge) Hold() bool { return j.found.Incident || j.found.Log > j.found.Limit/2 }
