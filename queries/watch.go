package queries

import (
	"cmp"
	"fmt"
	"time"

	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/rampart-proxy/rampart/policy"
)

const (
	defaultEvery    = 10 * time.Second
	fastest         = time.Second
	longestDeadline = 5 * time.Second
	youngest        = 30 * time.Second // samples of this age count at any pace
	missed          = 3                // intervals without an answer after which the last one no longer counts
)

// watch is one query of one running release.
type watch struct {
	// Fixed after newWatch.
	service, release string
	query            policy.Query
	live, candidate  policy.Ref
	expressions      [2]string // live's, the candidate's
	server           *server   // nil: the query cannot be asked, and problem says why

	// Guarded by the poller's mu.
	problem string // why there is no answer that counts; "" is none
	result  result // of the last question
	at      time.Time
	values  [2]float64   // live's, the candidate's, at that time
	stamps  [2]time.Time // of the samples that were last fresh, as far as that can be told
	fresh   bool         // the values are news that was not taken yet
}

// same reports whether an earlier watch goes on as w: it asks the same of the same server.
func (w *watch) same(earlier *watch) bool {
	return w.release == earlier.release && w.query == earlier.query && w.live == earlier.live && w.candidate == earlier.candidate && w.server == earlier.server
}

func (w *watch) every() time.Duration {
	return max(cmp.Or(time.Duration(w.query.Every), defaultEvery), fastest)
}

// within is how long an answer may take.
func (w *watch) within() time.Duration { return min(w.every(), longestDeadline) }

// oldest is how old a sample may be, in whole seconds, as servers want it.
func (w *watch) oldest() time.Duration {
	return max((2*w.every() + time.Second - 1).Truncate(time.Second), youngest)
}

// note keeps what came back for both arms to a question of the moment at.
func (w *watch) note(at time.Time, live, candidate answer) {
	w.problem, w.result = w.describe(live, candidate), live.result
	if live.good() {
		w.result = candidate.result
	}
	if w.result == answered {
		w.at, w.values = at, [2]float64{live.value, candidate.value}
		w.renew(live.stamp, candidate.stamp)
	}
}

// renew finds out whether an answer is news: samples that were behind an earlier one must not count twice.
func (w *watch) renew(live, candidate time.Time) {
	again := func(stamp, before time.Time) bool { return !stamp.IsZero() && !stamp.After(before) }
	if again(live, w.stamps[0]) || again(candidate, w.stamps[1]) {
		return
	}
	w.stamps, w.fresh = [2]time.Time{live, candidate}, true
}

// describe says what is wrong with the answers, naming the arm.
func (w *watch) describe(live, candidate answer) string {
	first, second := w.live.Backend+": "+live.words, w.candidate.Backend+": "+candidate.words
	switch {
	case live.good() && candidate.good():
		return ""
	case candidate.good():
		return first
	case live.good():
		return second
	case live.words == candidate.words:
		return live.words
	}
	return first + "; " + second
}

// take is the newest answer, as it counts now. It is fresh once.
func (w *watch) take(now time.Time) policy.QueryReading {
	if w.problem == "" && now.Sub(w.at) > missed*w.every() {
		age := now.Sub(w.at).Round(time.Second)
		return policy.QueryReading{Problem: fmt.Sprintf("the last answer is %s old, although it is asked every %s", age, w.every())}
	}
	if w.problem != "" {
		return policy.QueryReading{Problem: w.problem}
	}
	fresh := w.fresh
	w.fresh = false
	return policy.QueryReading{Live: w.values[0], Candidate: w.values[1], Fresh: fresh}
}

// warned is what a server warned of, to be told once.
type warned struct{ service, query, words string }

func (w *watch) warnings(all prometheus.Warnings) []warned {
	var found []warned
	for _, words := range all {
		found = append(found, warned{w.service, w.query.Name, clean(words, longestWords)})
	}
	return found
}
