package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

const (
	enough       = 20                     // candidate requests that must have finished at a weight before it can be called healthy
	wordsEvery   = time.Second            // what people read need not change faster
	boundEvery   = 500 * time.Millisecond // the bound on the excess costs as much as some turns
	quietTooLong = 10 * time.Second       // without a sample a quantity is not known any more
	gap          = 0.2                    // in the parts of both arms' requests beyond a threshold, that needs no test to be seen
	coverage     = 0.5                    // of live's part of requests that report a quantity, the candidate must have this much
)

// judge puts all metrics together to one judgement: healthy needs enough requests, no report missing, no incident, and evidence below the square root of its limit.
func (e *Evidence) judge(t *turn) Judgement {
	limit := -math.Log(float64(*t.served.Service.Analysis.FalseRollback))
	t.log = e.mix(t)
	e.Peak = max(e.Peak, t.log)
	e.bound(t)
	step := t.found.StepCandidate
	j := Judgement{
		Incident: t.found.Incident, Log: t.log, Excess: e.excess, Rate: e.Rates.Live + e.Rates.Candidate, StepRequests: step.Good + step.Bad,
		Reason: e.Latest.Reason, Numbers: e.Latest.Numbers, Findings: e.Latest.Findings, Users: e.Latest.Users,
	}
	switch {
	case e.Peak >= limit || e.convicted(t) || t.tripped:
		j.Verdict, j.Guarded = Unhealthy, t.tripped
	default:
		if j.Lacks = e.unsettling(t, limit); j.Lacks != "" {
			j.Unsettling = true
		} else if j.Lacks = e.lacks(t); j.Lacks == "" {
			j.Verdict = Healthy
		}
	}
	e.word(&j, t)
	e.Latest = j
	return j
}

// The places of the metrics in a mixture. Those of quantities follow.
const (
	partErrors = iota
	partErrorLimit
	partStatuses
	partLatency
	partP99
	partSeen
	partQuality
)

// mix is the evidence of all metrics together. One that is held against two boundaries bets half on each.
func (e *Evidence) mix(t *turn) float64 {
	a := t.served.Service.Analysis
	e.parts = append(e.parts[:0], make([]judge.Part, partQuality)...)
	e.parts[partErrors] = judge.Part{Weight: e.shares.errors, Log: t.found.Log}
	if a.Limits.Errors != nil {
		e.parts[partErrors].Weight = e.shares.errors / 2
		e.parts[partErrorLimit] = judge.Part{Weight: e.shares.errors / 2, Log: t.found.LogLimit}
	}
	if e.Statuses != nil {
		e.parts[partStatuses] = judge.Part{Weight: e.shares.statuses, Log: e.Statuses.Evidence().Log}
	}
	if e.Latency != nil {
		e.mixLatency(a)
	}
	e.parts[partSeen] = judge.Part{Weight: e.shares.seen, Log: e.Seen.Evidence().Log}
	for _, g := range e.Quality {
		e.parts = append(e.parts, judge.Part{Weight: e.shares.gauge, Log: g.Judge.Evidence().Log})
	}
	for i, g := range e.Queries {
		part := judge.Part{Log: g.Judge.Evidence().Log}
		if !a.Queries[i].Advisory {
			part.Weight = e.shares.gauge
		}
		e.parts = append(e.parts, part)
	}
	return judge.Mix(e.parts)
}

func (e *Evidence) mixLatency(a Analysis) {
	found := &e.slow
	half := e.shares.latency / 2
	switch {
	case a.Limits.P99 == nil:
		e.parts[partLatency] = judge.Part{Weight: e.shares.latency, Log: found.Log}
	case a.Latency.Off:
		e.parts[partP99] = judge.Part{Weight: e.shares.latency, Log: found.LogLimit}
	default:
		e.parts[partLatency] = judge.Part{Weight: half, Log: found.Log}
		e.parts[partP99] = judge.Part{Weight: half, Log: found.LogLimit}
	}
}

// strongest is the metric that the evidence comes from.
func (e *Evidence) strongest() int {
	strongest, most := partErrors, math.Inf(-1)
	for i, p := range e.parts {
		if p.Weight > 0 && math.Log(p.Weight)+p.Log > most {
			strongest, most = i, math.Log(p.Weight)+p.Log
		}
	}
	return strongest
}

// convicted reports whether one metric has convicted by its own part of the risk. The mixture has then, too, but for rounding.
func (e *Evidence) convicted(t *turn) bool {
	yes := t.found.Convicted || e.Seen.Evidence().Convicted
	if e.Statuses != nil {
		yes = yes || e.Statuses.Evidence().Convicted
	}
	return yes || e.Latency != nil && e.slow.Convicted
}

// bound computes the bound on the candidate's excess errors now and then, for those who climb by it.
func (e *Evidence) bound(t *turn) {
	if t.served.Service.Plan.Evidence == nil {
		e.excess = 1
		return
	}
	if e.bounded += t.Length; e.bounded >= boundEvery || t.NewStep {
		e.excess, e.bounded = e.Errors.Excess(), 0
	}
}

// unsettling says what stands against any increase, "" when nothing does: evidence, an incident, and whatever should have come and did not. No news is no good news.
func (e *Evidence) unsettling(t *turn, limit float64) string {
	candidate, a := t.candidate(), t.served.Service.Analysis
	switch {
	case t.reading.Missing > 0:
		return "reports from every proxy"
	case t.reading.Unsettled:
		return "the first whole report after a change of endpoints"
	case t.found.Incident:
		return fmt.Sprintf("%s's own errors to pass (an incident of both)", t.live())
	case t.log >= limit/2:
		return "the evidence to become clear"
	case t.found.LogLimit >= t.found.Limit/2:
		return fmt.Sprintf("%s's errors to be clear of their limit of %s", candidate, *a.Limits.Errors)
	case e.Latency != nil && t.reading.Timeless > 0:
		return "statistics from every proxy (Envoys below 1.38 send no times; `latency: off` does without)"
	case e.Latency != nil && e.slow.LogLimit >= e.slow.Limit/2 && a.Limits.P99 != nil:
		return fmt.Sprintf("%s's p99 to be clear of its limit of %s", candidate, *a.Limits.P99)
	}
	if text := e.visiblySlower(t); text != "" {
		return text
	}
	if text := e.lacksQuality(t); text != "" {
		return text
	}
	return e.lacksAnswers(t)
}

// visiblySlower holds the climb where anybody can see that the candidate is slower although the evidence is slow to say so, as where live's own times scatter much: a
// fifth of its requests more than of live's lie beyond a threshold.
func (e *Evidence) visiblySlower(t *turn) string {
	live, candidate := e.slow.Step.Live.Counts, e.slow.Step.Candidate.Counts
	n, m := candidate.Good+candidate.Bad, live.Good+live.Bad
	if e.Latency == nil || e.slow.Threshold == 0 || t.served.Service.Analysis.Latency.Off || n < enough || m < enough {
		return ""
	}
	if float64(candidate.Bad)/float64(n) < float64(live.Bad)/float64(m)+gap {
		return ""
	}
	return fmt.Sprintf("%s's times to come nearer to %s's", t.candidate(), t.live())
}

// lacks says of what there has to be more before the candidate can be called healthy, "" when there is enough.
func (e *Evidence) lacks(t *turn) string {
	few := func(c judge.Counts) bool { return c.Good+c.Bad < enough }
	switch {
	case few(t.found.StepCandidate):
		return fmt.Sprintf("%d finished requests to %s at this weight", enough, t.candidate())
	case e.Latency != nil && few(e.slow.Step.Candidate.Counts):
		return fmt.Sprintf("the times of %d requests to %s at this weight%s", enough, t.candidate(), t.untimed("`latency: off` and no `limits.p99` do"))
	case e.Latency != nil && !t.served.Service.Analysis.Latency.Off && e.slow.Thresholds == 0:
		return fmt.Sprintf("the times of more requests to %s%s", t.live(), t.untimed("`latency: off` and no `limits.p99` do"))
	case e.Statuses != nil && few(e.Statuses.Evidence().StepCandidate):
		return fmt.Sprintf("the gRPC statuses of %d requests to %s at this weight%s", enough, t.candidate(), t.untimed("an analysis of errors without `grpc` does"))
	}
	return ""
}

// untimed says why what statistics tell may never come, and what does without it: gRPC clients send none.
func (t *turn) untimed(without string) string {
	if t.reading.Untimed == 0 {
		return ""
	}
	return " (gRPC clients send none; " + without + " without)"
}

// lacksQuality: a candidate of which fewer requests report a quantity than of live is not known to be good.
func (e *Evidence) lacksQuality(t *turn) string {
	candidate := t.candidate()
	for i, g := range e.Quality {
		switch {
		case e.Step.Candidate.Requests == 0: // too few of all, not of those that report
		case g.Quiet > quietTooLong || e.Step.Candidate.reporting(i) < coverage*e.Step.Live.reporting(i) || e.Step.Candidate.reporting(i) == 0:
			return fmt.Sprintf("%s's requests to report %s", candidate, g.Name)
		case !g.Judge.Evidence().Known:
			return fmt.Sprintf("more requests that report %s", g.Name)
		}
	}
	return ""
}

func (e *Evidence) lacksAnswers(t *turn) string {
	for i, g := range e.Queries {
		query := t.served.Service.Analysis.Queries[i]
		switch problem := t.problem(i); {
		case query.Advisory:
		case problem != "":
			return fmt.Sprintf("an answer to the query %s (%s)", g.Name, problem)
		case !g.Judge.Evidence().Known:
			return fmt.Sprintf("more answers to the query %s", g.Name)
		}
	}
	return ""
}

// problem is why a query has no answer that counts.
func (t *turn) problem(i int) string {
	if i >= len(t.reading.Queries) {
		return "it was not asked yet"
	}
	return t.reading.Queries[i].Problem
}

// reporting is the part of an arm's requests that reported a quantity.
func (a *ArmPerformance) reporting(i int) float64 {
	if i >= len(a.Quality) || a.Requests == 0 {
		return 0
	}
	return float64(a.Quality[i].Count) / float64(a.Requests)
}
