package testenv

import (
	"maps"
	"time"
)

// keptSeconds is how far back Load remembers single seconds.
const keptSeconds = 900

// Count is how many requests were answered, well or not.
type Count struct {
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
}

// Second is what came back within one second of a run of Load.
type Second struct {
	Start time.Time `json:"start"`
	Count
	Versions map[string]Count `json:"versions"` // by the version that answered; "" is no model: Envoy itself, or nobody
}

// Outcomes are how requests ended, as the client saw it. Failed = Errors + Resets + Timeouts + Dropped.
type Outcomes struct {
	Count
	Errors   int64 `json:"errors"`   // a status of 400 or above: a user who asks for what exists sees a missing route as a failure, too
	Resets   int64 `json:"resets"`   // no connection, or one that ended before the whole answer had come
	Timeouts int64 `json:"timeouts"` // no whole answer within Timeout
	Dropped  int64 `json:"dropped"`  // never sent, because too many were under way
}

// Totals are the results of a run so far. A value is a snapshot: nothing changes it.
type Totals struct {
	Outcomes
	Versions map[string]Count `json:"versions"` // as in Second
	Statuses map[int]int64    `json:"statuses"` // answers by HTTP status
	Latency  Histogram        `json:"-"`        // of whole answers, from the moment the request was due
}

// Minus is what came since an earlier snapshot of the same run.
func (t Totals) Minus(earlier Totals) Totals {
	t.Requests -= earlier.Requests
	t.Failed -= earlier.Failed
	t.Errors -= earlier.Errors
	t.Resets -= earlier.Resets
	t.Timeouts -= earlier.Timeouts
	t.Dropped -= earlier.Dropped
	t.Versions, t.Statuses = maps.Clone(t.Versions), maps.Clone(t.Statuses)
	for version, before := range earlier.Versions {
		now := t.Versions[version]
		t.Versions[version] = Count{Requests: now.Requests - before.Requests, Failed: now.Failed - before.Failed}
	}
	for status, before := range earlier.Statuses {
		t.Statuses[status] -= before
	}
	t.Latency.minus(&earlier.Latency)
	return t
}

// ending is how one request ended.
type ending int

const (
	answered ending = iota
	failedStatus
	reset
	timedOut
	dropped
)

// result is one request after its end.
type result struct {
	how     ending
	status  int    // 0 without an answer
	version string // "" without one
	took    time.Duration
	at      time.Time
}

// tally adds results up. It is guarded by Load's mutex.
type tally struct {
	totals  Totals
	seconds []Second // oldest first; the last one is under way
}

func newTally() tally {
	return tally{totals: Totals{Versions: map[string]Count{}, Statuses: map[int]int64{}}}
}

func (t *tally) add(r result) {
	t.totals.note(r)
	if r.status != 0 {
		t.totals.Statuses[r.status]++
		t.totals.Latency.add(r.took)
	}
	t.totals.Versions[r.version] = t.totals.Versions[r.version].plus(r)
	s := t.second(r.at)
	s.Count = s.plus(r)
	s.Versions[r.version] = s.Versions[r.version].plus(r)
}

func (o *Outcomes) note(r result) {
	o.Count = o.plus(r)
	switch r.how {
	case answered:
	case failedStatus:
		o.Errors++
	case reset:
		o.Resets++
	case timedOut:
		o.Timeouts++
	case dropped:
		o.Dropped++
	}
}

func (c Count) plus(r result) Count {
	c.Requests++
	if r.how != answered {
		c.Failed++
	}
	return c
}

// second is the one that a moment belongs to. Results come in order but for a race of a few microseconds at a boundary, which is no harm.
func (t *tally) second(at time.Time) *Second {
	n := len(t.seconds)
	if n == 0 || at.Sub(t.seconds[n-1].Start) >= time.Second {
		start := at
		if n > 0 {
			start = t.seconds[n-1].Start.Add(at.Sub(t.seconds[n-1].Start).Truncate(time.Second))
		}
		if n == keptSeconds {
			t.seconds = append(t.seconds[:0], t.seconds[1:]...)
		}
		t.seconds = append(t.seconds, Second{Start: start, Versions: map[string]Count{}})
	}
	return &t.seconds[len(t.seconds)-1]
}

func (t *tally) snapshot() Totals {
	copied := t.totals
	copied.Versions, copied.Statuses = maps.Clone(copied.Versions), maps.Clone(copied.Statuses)
	return copied
}

// last returns copies of the newest n whole seconds, oldest first.
func (t *tally) last(n int) []Second {
	whole := t.seconds[:max(len(t.seconds)-1, 0)]
	whole = whole[max(len(whole)-n, 0):]
	copied := make([]Second, len(whole))
	for i, s := range whole {
		s.Versions = maps.Clone(s.Versions)
		copied[i] = s
	}
	return copied
}
