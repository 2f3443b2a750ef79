package policy

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Finding is what one metric tells, in the operator's words.
type Finding struct {
	Metric string  `json:"metric"` // errors, latency, share seen, or the quantity's name
	Text   string  `json:"text"`
	Log    float64 `json:"log"` // ln of the evidence against the candidate from this metric alone
}

// word chooses a judgement's words: the reason is the metric that the evidence comes from, the findings are all of them.
func (e *Evidence) word(j *Judgement, t *turn) {
	e.worded += t.Length
	if e.worded < e.wordy() && !t.NewStep && j.Verdict == e.Latest.Verdict && j.Reason != "" {
		return
	}
	e.worded = 0
	j.Findings = e.findings(t)
	j.Numbers, j.Users = e.numbers(t), e.users(t)
	limit := -math.Log(float64(*t.served.Service.Analysis.FalseRollback))
	switch {
	case t.tripped:
		j.Reason = fmt.Sprintf("errors: %s %s (%d of %d) in %s, %s healthy (guard rail)", t.candidate(),
			percent(t.trip.Bad, t.trip.Finished), t.trip.Bad, t.trip.Finished, brief(t.trip.Window), t.live())
	case j.Verdict == Unhealthy:
		j.Reason = fmt.Sprintf("%s; evidence %s : 1, limit %s : 1", e.about(e.strongest(), t, true), odds(e.Peak), odds(limit))
	default:
		j.Reason = fmt.Sprintf("%s; evidence %s : 1, limit %s : 1", e.about(partErrors, t, false), odds(j.Log), odds(limit))
		if worst := e.strongest(); worst != partErrors && j.Unsettling {
			j.Reason = fmt.Sprintf("%s; evidence %s : 1, limit %s : 1", e.about(worst, t, false), odds(j.Log), odds(limit))
		}
	}
}

// wordy is how long the same words stand.
func (e *Evidence) wordy() time.Duration {
	if e.wordsEvery > 0 {
		return e.wordsEvery
	}
	return wordsEvery
}

// WordsEvery sets how often the words of a judgement are chosen anew while its verdict stays the same; otherwise it is once a second. They cost more than the judging.
func (e *Evidence) WordsEvery(d time.Duration) { e.wordsEvery = d }

func (t *turn) live() string      { return t.served.Live.Backend }
func (t *turn) candidate() string { return t.served.Release.Candidate.Backend }

// findings are the words of each metric that judges, and of the queries that only advise.
func (e *Evidence) findings(t *turn) []Finding {
	var all []Finding
	for i, p := range e.parts {
		advisory := p.Weight == 0 && i >= partQuality
		if p.Weight > 0 || advisory {
			all = append(all, Finding{Metric: e.metric(i), Text: e.about(i, t, false), Log: p.Log})
		}
	}
	return all
}

// metric names a part of the mixture.
func (e *Evidence) metric(i int) string {
	if i < partQuality {
		return [...]string{"errors", "errors limit", "gRPC statuses", "latency", "p99 limit", "share seen"}[i]
	}
	return e.gauge(i).Name
}

// gauge is the quantity behind a part of the mixture.
func (e *Evidence) gauge(i int) Gauge {
	if i -= partQuality; i < len(e.Quality) {
		return e.Quality[i]
	}
	return e.Queries[i-len(e.Quality)]
}

// about is what one metric tells: over the last seconds where it has convicted, over the present step otherwise.
func (e *Evidence) about(i int, t *turn, convicted bool) string {
	a := t.served.Service.Analysis
	switch i {
	case partErrors:
		return errorsText("errors", t, t.found, e.since.told(convicted))
	case partErrorLimit:
		return fmt.Sprintf("errors: %s, %s %s", armText(t.candidate(), recentOr(convicted, t.found.RecentCandidate, t.found.StepCandidate)), limitWords(convicted), *a.Limits.Errors)
	case partStatuses:
		return errorsText(fmt.Sprintf("gRPC statuses %s", strings.Join(a.Errors.GRPC, ", ")), t, e.Statuses.Evidence(), e.sinceGRPC.told(convicted))
	case partLatency:
		return e.latencyText(t, convicted)
	case partP99:
		return fmt.Sprintf("p99: %s %s, %s %s", t.candidate(), millis(e.slow.Recent.Candidate.P99), limitWords(convicted), millis(float64(a.Limits.P99.Std().Milliseconds())))
	case partSeen:
		return e.seenText(t)
	}
	return e.gaugeText(i, t, convicted)
}

func limitWords(convicted bool) string {
	if convicted {
		return "above its limit of"
	}
	return "limit"
}

func recentOr(recent bool, a, b judge.Counts) judge.Counts {
	if recent {
		return a
	}
	return b
}

// told is the onset if it is what to tell: of a conviction, and not when nothing rose.
func (o *onset) told(convicted bool) *onset {
	if convicted && o.lasts > 0 {
		return o
	}
	return nil
}

// errorsText tells of the present step, or of the time since the evidence began to rise.
func errorsText(name string, t *turn, found judge.Evidence, since *onset) string {
	if since != nil {
		return fmt.Sprintf("%s: %s against %s in %s", name, armText(t.candidate(), since.candidate), armText(t.live(), since.live), brief(since.lasts))
	}
	return fmt.Sprintf("%s: %s against %s", name, armText(t.candidate(), found.StepCandidate), armText(t.live(), found.StepLive))
}

// armText is "green 4.1 % (13 of 312)".
func armText(name string, c judge.Counts) string {
	return fmt.Sprintf("%s %s (%d of %d)", name, percent(c.Bad, c.Good+c.Bad), c.Bad, c.Good+c.Bad)
}

func (e *Evidence) seenText(t *turn) string {
	found := e.Seen.Evidence()
	who := "proxies send"
	if found.Proxy != "" {
		who = "proxy " + found.Proxy + " sends"
	}
	if !found.Convicted {
		return fmt.Sprintf("share seen: %s gets its %s", t.candidate(), t.served.Release.Weight)
	}
	return fmt.Sprintf("share seen: %s %s far less than its %s (%.0f requests of %.0f); %s", who, t.candidate(), t.served.Release.Weight, found.Got, found.Expected,
		"it cannot be reached")
}

// latencyText names the threshold that tells most, with both arms beyond it.
func (e *Evidence) latencyText(t *turn, convicted bool) string {
	times := e.slow.Step
	if convicted {
		times = e.slow.Recent
	}
	if e.slow.Threshold == 0 {
		return fmt.Sprintf("latency: p99 %s %s against %s %s", t.candidate(), millis(times.Candidate.P99), t.live(), millis(times.Live.P99))
	}
	return fmt.Sprintf("latency: above %s %s against %s; p99 %s against %s", millis(float64(e.slow.Threshold)),
		armText(t.candidate(), times.Candidate.Counts), armText(t.live(), times.Live.Counts), millis(times.Candidate.P99), millis(times.Live.P99))
}

// slowest is the last bound of a histogram, in ms: what lies beyond took longer, or never ended.
const slowest = 120_000

// millis writes milliseconds as people do.
func millis(ms float64) string {
	switch {
	case ms <= 0:
		return "unknown"
	case ms >= slowest:
		return "over 120 s"
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.3g s", ms/1000)
}

// gaugeText has values only where there are some: nothing is made up for what is not known.
func (e *Evidence) gaugeText(i int, t *turn, convicted bool) string {
	g := e.gauge(i)
	found, name, problem := g.Judge.Evidence(), g.Name, ""
	if at := i - partQuality - len(e.Quality); at >= 0 {
		problem = t.problem(at)
		if t.served.Service.Analysis.Queries[at].Advisory {
			name += " (advisory)"
		}
	}
	switch {
	case problem != "" && !convicted: // what convicted is what was answered before
		return fmt.Sprintf("%s: %s", name, problem)
	case found.Weighed == 0:
		return fmt.Sprintf("%s: too few values yet", name)
	}
	return fmt.Sprintf("%s: %s %.4g against %s %.4g", name, t.candidate(), found.RecentCandidate, t.live(), found.RecentLive)
}

// percent prints a share with two significant digits, or "no requests yet".
func percent(part, whole uint64) string {
	if whole == 0 {
		return "no requests yet"
	}
	share := 100 * float64(part) / float64(whole)
	if share >= 99.5 {
		return fmt.Sprintf("%.0f %%", share) // two digits would make it 1e+02
	}
	return fmt.Sprintf("%.2g %%", share)
}

// odds prints e^log as people read it: "0.3", "41,000".
func odds(log float64) string {
	value := math.Exp(min(log, 50))
	if value < 10 {
		return fmt.Sprintf("%.1f", value)
	}
	scale := math.Pow(10, math.Floor(math.Log10(value))-1)
	return grouped(math.Round(value/scale) * scale)
}

// grouped writes a whole number with commas between thousands.
func grouped(value float64) string {
	digits := fmt.Sprintf("%.0f", value)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func brief(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// users says how users have fared over the whole ramp, and which arm did it to them.
func (e *Evidence) users(t *turn) string {
	all := e.Whole.Blend()
	if all.Requests == 0 {
		return ""
	}
	arm := func(a *ArmPerformance) string {
		if a.Requests == 0 {
			return "no requests yet"
		}
		text := percent(a.Errors, a.Requests) + " errors"
		if p99 := a.Times.Quantile(0.99); p99 > 0 {
			text += ", p50 " + millis(a.Times.Quantile(0.5)) + ", p99 " + millis(p99)
		}
		for i, s := range a.Quality {
			if s.Count > 0 && i < len(e.Quality) {
				text += fmt.Sprintf(", %s %.4g", e.Quality[i].Name, s.Mean())
			}
		}
		return text
	}
	return fmt.Sprintf("users had %s (%s: %s; %s: %s)", arm(&all), t.live(), arm(&e.Whole.Live), t.candidate(), arm(&e.Whole.Candidate))
}

// mostNumbers is about how many there are.
const mostNumbers = 48

// numbers are what the history keeps of a moment.
func (e *Evidence) numbers(t *turn) map[string]float64 {
	found := t.found
	to := make(map[string]float64, mostNumbers)
	to["log"], to["peak"], to["limit"], to["excess"] = e.Latest.Log, e.Peak, -math.Log(float64(*t.served.Service.Analysis.FalseRollback)), e.excess
	to["errors"], to["errorsMax"], to["errorsLimit"], to["phi"] = found.Log, found.LogMax, found.LogLimit, found.Phi
	to["stepCandidate"], to["stepCandidateErrors"] = float64(found.StepCandidate.Good+found.StepCandidate.Bad), float64(found.StepCandidate.Bad)
	to["stepLive"], to["stepLiveErrors"] = float64(found.StepLive.Good+found.StepLive.Bad), float64(found.StepLive.Bad)
	to["candidate"], to["candidateErrors"] = float64(found.Candidate.Good+found.Candidate.Bad), float64(found.Candidate.Bad)
	for i, p := range e.parts {
		if p.Weight > 0 {
			to["log."+e.metric(i)] = p.Log
		}
	}
	e.Step.numbers(to, "step.", t.served.Service.Analysis.Quality)
	e.Whole.numbers(to, "whole.", t.served.Service.Analysis.Quality)
	return to
}
