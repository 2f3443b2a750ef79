package simulation

import (
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// peerWindow is what the queries of both peers look back over in their tutorials.
const peerWindow = time.Minute

// Flagger is Flagger's rule as its documents describe it: every Interval the candidate's success over the last minute is compared with Success; each failed check
// counts, none is forgiven, and the Threshold-th rolls back. A minute without requests is a success. With a P99 a check fails, too, when the minute's is above it.
type Flagger struct {
	Interval  time.Duration
	Threshold int
	Success   float64
	P99       time.Duration // 0: times are not looked at

	check  check
	failed int
}

// Observe does nothing: the rule knows the candidate only.
func (f *Flagger) Observe(judge.Counts, time.Duration) {}

// Turn checks when it is time to.
func (f *Flagger) Turn(t judge.Turn) string {
	if f.check.turn(t, f.Interval) && (f.check.fails(f.Success) || f.check.slow(f.P99)) {
		if f.failed++; f.failed >= f.Threshold {
			return "flagger"
		}
	}
	return ""
}

// Times takes how long a second's requests took.
func (f *Flagger) Times(candidate *judge.Histogram) { f.check.time(candidate) }

// Argo is the rule of an Argo Rollouts analysis as its documents describe it: every Interval one measurement of the last minute, which fails below Success; the
// analysis fails when more than FailureLimit did. With a P99 there is a second metric, with a limit of its own.
type Argo struct {
	Interval     time.Duration
	FailureLimit int
	Success      float64
	P99          time.Duration // 0: times are not looked at

	check  check
	failed int
	slow   int // measurements of the p99 that failed
}

// Observe does nothing: the rule knows the candidate only.
func (a *Argo) Observe(judge.Counts, time.Duration) {}

// Turn measures when it is time to.
func (a *Argo) Turn(t judge.Turn) string {
	if !a.check.turn(t, a.Interval) {
		return ""
	}
	if a.check.fails(a.Success) {
		a.failed++
	}
	if a.check.slow(a.P99) {
		a.slow++
	}
	if max(a.failed, a.slow) > a.FailureLimit {
		return "argo"
	}
	return ""
}

// Times takes how long a second's requests took.
func (a *Argo) Times(candidate *judge.Histogram) { a.check.time(candidate) }

// check is the candidate's last minute, looked at now and then.
type check struct {
	turns   [peerWindow / Tick]judge.Counts
	lengths [peerWindow / Tick]time.Duration
	next    int
	since   time.Duration
	times   []judge.Histogram // of the last minute's seconds, once there are any
	timed   int
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

// time adds a second's times.
func (c *check) time(candidate *judge.Histogram) {
	if c.times == nil {
		c.times = make([]judge.Histogram, peerWindow/flushEvery)
	}
	c.times[c.timed%len(c.times)] = *candidate
	c.timed++
}

// slow reports whether the p99 of the last minute is above a limit.
func (c *check) slow(limit time.Duration) bool {
	if limit == 0 {
		return false
	}
	var sum judge.Histogram
	for i := range c.times {
		sum.Add(&c.times[i])
	}
	return sum.Quantile(0.99) > float64(limit)/float64(time.Millisecond)
}
