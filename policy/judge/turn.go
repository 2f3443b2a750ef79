package judge

import (
	"math"
	"time"
)

// Counts are the finished requests of one arm. Errors are bad, everything else is good.
type Counts struct{ Good, Bad uint64 }

func (c Counts) finished() uint64 { return c.Good + c.Bad }

// rate is the share of bad requests, 0 without requests.
func (c Counts) rate() float64 { return float64(c.Bad) / max(1, float64(c.finished())) }

func (c *Counts) add(d Counts) {
	c.Good += d.Good
	c.Bad += d.Bad
}

func (c *Counts) take(d Counts) {
	c.Good -= d.Good
	c.Bad -= d.Bad
}

func (c Counts) credible() bool { return c.Good <= mostRequests && c.Bad <= mostRequests }

// Turn is what one interval brought.
//
// A turn may be of any length. One below 0.1 s counts as 0.1 s and one above 5 s as 5 s where time matters; one of no length, one whose share is not a number
// and one with more than 2^32 good or bad requests in an arm is not a reading at all: it is left out, and only its NewStep counts.
type Turn struct {
	Length          time.Duration
	Share           float64 // the candidate's configured share, 0 to 1; beyond is taken for the end. From 0.999 on the candidate counts as having everything
	NewStep         bool    // the share has changed since the last turn
	Live, Candidate Counts
	Warming         bool // only the guard rail counts
}

// fit returns the turn with its values within bounds, and whether it is a reading at all.
func (t Turn) fit() (Turn, bool) {
	if t.Length <= 0 || math.IsNaN(t.Share) || !t.Live.credible() || !t.Candidate.credible() {
		return t, false
	}
	t.Length = fitLength(t.Length)
	t.Share = min(max(t.Share, 0), 1)
	return t, true
}

func fitLength(length time.Duration) time.Duration { return min(max(length, shortest), longest) }

// alone reports whether live gets nothing to compare with. A running release weighs at most 9,999 of 10,000, and what one request in a thousand says about live
// is no control, so this begins before 1.
func (t Turn) alone() bool { return t.Share >= 0.999 }

func (t Turn) arms() arms { return arms{live: t.Live, candidate: t.Candidate} }
