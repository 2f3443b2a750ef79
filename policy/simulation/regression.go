package simulation

import (
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// Regression is how a candidate is worse than live, from when on. The zero value is a candidate that is as good.
type Regression struct {
	Errors float64       // the share of its requests that fail; 0: as live's
	Slower float64       // its requests take so many times as long; 0: as live's
	Tail   float64       // only this part of them does; 0: all
	Hangs  bool          // its requests are not answered before they time out
	From   policy.Weight // it begins, at any moment of a second, when the candidate first has this weight; 0: with its first request
}

// none reports whether the candidate is as good as live.
func (r Regression) none() bool { return r == Regression{} }

// fault is when the traffic turns bad, and with which share of errors.
func (r Regression) fault() Fault {
	f := Fault{Share: r.Errors, Weight: r.From}
	if r.From > 0 {
		f.Phase = time.Second
	}
	return f
}

// times is the distribution of the candidate's times once it is worse.
func (r Regression) times(t Times) *shape {
	part, slower := r.Tail, r.Slower
	if part == 0 {
		part = 1
	}
	if slower == 0 {
		slower = 1
	}
	return t.shape(part, slower)
}
