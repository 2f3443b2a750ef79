package simulation

import (
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// peerWindow is what the queries of both peers look back over in their tutorials.
const peerWindow = time.Minute

// Flagger is Flagger's rule as its documents describe it: every Interval the candidate's success over the last minute is compared with Success; each failed check
// counts, none is forgiven, and the Threshold-th rolls back. A minute without requests is a success.
type Flagger struct {
	Interval  time.Duration
	Threshold int
	Success   float64

	check  check
	failed int
}

// Observe does nothing: the rule knows the candidate only.
func (f *Flagger) Observe(judge.Counts, time.Duration) {}

// Turn checks when it is time to.
func (f *Flagger) Turn(t judge.Turn) string {
	if f.check.turn(t, f.Interval) && f.check.fails(f.Success) {
		if f.failed++; f.failed >= f.Threshold {
			return "flagger"
		}
	}
	return ""
}

// Argo is the rule of an Argo Rollouts analysis as its documents describe it: every Interval one measurement of the last minute, which fails below Success; the
// analysis fails when more than FailureLimit did.
type Argo struct {
	Interval     time.Duration
	FailureLimit int
	Success      float64

	check  check
	failed int
}

// Observe does nothing: the rule knows the candidate only.
func (a *Argo) Observe(judge.Counts, time.Duration) {}

// Turn measures when it is time to.
func (a *Argo) Turn(t judge.Turn) string {
	if a.check.turn(t, a.Interval) && a.check.fails(a.Success) {
		if a.failed++; a.failed > a.FailureLimit {
			return "argo"
		}
	}
	return ""
}

// check is the candidate's last minute, looked at now and then.
type check struct {
	turns   [peerWindow / Tick]judge.Counts
	lengths [peerWindow / Tick]time.Duration
	next    int
	since   time.Duration
}

// turn adds a turn and reports whether an interval is over.
func (c *check) turn(t judge.Turn, interval time.Duration) bool {
	at := c.next % len(c.turns)
	c.turns[at], c.lengths[at] = t.Candidate, t.Length
	c.next++
	if c.since += t.Length; c.since < interval {
		return false
	}
	c.since = 0
	return true
}

func (c *check) fails(success float64) bool {
	var good, bad float64
	var length time.Duration
	for i := range min(c.next, len(c.turns)) {
		at := (c.next - 1 - i) % len(c.turns)
		if length += c.lengths[at]; length > peerWindow {
			break
		}
		good += float64(c.turns[at].Good)
		bad += float64(c.turns[at].Bad)
	}
	return good < success*(good+bad)
}
