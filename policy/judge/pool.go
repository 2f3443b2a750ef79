package judge

import (
	"math"
	"time"
)

const (
	mostValue   = 1e60 // a sum beyond is damage, and the square of its square would not be a number
	poolOver    = time.Second
	poolLeast   = 8 // requests of either arm
	poolAtMost  = 5 * time.Second
	poolSilence = 60 * time.Second // time without any sample is not counted beyond
)

// credible reports whether a sample can have come from requests.
func (s Sample) credible() bool {
	return s.Count == 0 || s.Count <= mostRequests && math.Abs(s.Sum) <= mostValue // NaN is not
}

func (s *Sample) add(t Sample) {
	if t.Count > 0 {
		s.Sum += t.Sum
		s.Count += t.Count
	}
}

// pool gathers turns until they are worth judging: at least a second and eight requests of either arm, because a mean over fewer is far from normal, or five seconds
// with any, because a second of many requests is worth more soon than five are later. What is read once waits for nothing: between two readings more than five
// seconds pass.
type pool struct {
	samples
	length  time.Duration
	before  Sample  // live's last turn
	squares float64 // of the standardised differences of live's successive turns
	pairs   float64 // how many those are
}

// add takes a turn.
func (p *pool) add(t GaugeTurn) {
	p.length = min(p.length+fitLength(t.Length), poolSilence)
	p.live.add(t.Live)
	p.candidate.add(t.Candidate)
	if t.Live.Count == 0 {
		return
	}
	if p.before.Count > 0 {
		off := t.Live.Mean() - p.before.Mean()
		p.squares += off * off / (1/float64(t.Live.Count) + 1/float64(p.before.Count))
		p.pairs++
	}
	p.before = t.Live
}

// ready reports whether to judge what was gathered.
func (p *pool) ready(alone bool) bool {
	if p.length >= poolAtMost {
		return p.live.Count+p.candidate.Count > 0
	}
	return p.length >= poolOver && p.live.Count >= poolLeast && (alone || p.candidate.Count >= poolLeast)
}
