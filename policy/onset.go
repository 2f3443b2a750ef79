package policy

import (
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// onset counts both arms since the evidence began to rise: what a person is told of a conviction must not be thinned out by the time when all was well.
type onset struct {
	live, candidate judge.Counts
	lasts           time.Duration
	risen, last     float64 // nats, and the evidence at the last turn
}

// add takes a turn with the evidence after it. Where that has lost what it had won, the count begins anew.
func (o *onset) add(t judge.Turn, log float64) {
	o.risen += log - o.last
	o.last = log
	o.live = sum(o.live, t.Live)
	o.candidate = sum(o.candidate, t.Candidate)
	o.lasts += t.Length
	if o.risen <= 0 {
		*o = onset{last: log}
	}
}

func sum(a, b judge.Counts) judge.Counts {
	return judge.Counts{Good: a.Good + b.Good, Bad: a.Bad + b.Bad}
}
