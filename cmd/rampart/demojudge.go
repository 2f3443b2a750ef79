package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// What is promised (README, docs).
const (
	goodWithin    = 60 * time.Second
	backWithin    = 2 * time.Second        // from the first bad answer to the last ACK of weight 0
	deadWithin    = 5 * time.Second        // from the death of the candidate to the last ACK of weight 0
	deadmanGrace  = 500 * time.Millisecond // beyond the dead-man's time
	ackSeenWithin = 250 * time.Millisecond // between what the server stamped and what an Envoy's own page showed
)

// result is what became of one act: what the table and `--output json` show.
type result struct {
	Act              int      `json:"act"`
	Title            string   `json:"title"`
	Outcome          string   `json:"outcome"` // committed, rolled back; of the last part
	Seconds          float64  `json:"seconds"`
	Requests         int64    `json:"requests"`
	Failed           int64    `json:"failed"` // as users saw them
	OnsetToLastBadMs *float64 `json:"onsetToLastBadMs,omitempty"`
	OnsetToLastAckMs *float64 `json:"onsetToLastAckMs,omitempty"`
	StepsConfirmed   int      `json:"stepsConfirmed"`
	Promise          string   `json:"promise"`
	Measured         string   `json:"measured"`
	Kept             bool     `json:"kept"`
	Why              string   `json:"why,omitempty"` // not

	Parts []partResult `json:"parts"`
}

// partResult is one release of an act.
type partResult struct {
	Release string   `json:"release"`
	Version string   `json:"version"`
	Outcome string   `json:"outcome"`
	Seconds float64  `json:"seconds"`
	Events  []string `json:"events"` // in order
	// AfterHeartbeatMs is from the last heartbeat of a killed control plane to the candidate's last request.
	AfterHeartbeatMs *float64 `json:"afterHeartbeatMs,omitempty"`
	// RestartedMs is from the start of a killed control plane until all Envoys have confirmed again.
	RestartedMs *float64 `json:"restartedMs,omitempty"`
}

// resultOf adds up the parts of an act and holds them against its promise. An error means that it could not be played to its end.
func resultOf(a act, parts []findings, err error) result {
	r := result{Act: a.number, Title: a.title, Promise: a.promise, Measured: "–"}
	for _, f := range parts {
		r.Outcome = string(f.outcome)
		r.Seconds += f.took.Seconds()
		r.Requests += f.users.Requests
		r.Failed += f.users.Failed
		r.StepsConfirmed += len(f.named("confirmed"))
		if r.OnsetToLastAckMs == nil {
			r.OnsetToLastBadMs, r.OnsetToLastAckMs = between(f.stamps.firstBad, f.stamps.lastBad), between(f.onset(), f.lastAck)
		}
		r.Parts = append(r.Parts, partOf(f))
	}
	if err != nil {
		r.Why = err.Error()
		return r
	}
	r.Measured = a.tell(parts)
	missed := a.judge(parts)
	r.Kept, r.Why = len(missed) == 0, strings.Join(missed, "; ")
	return r
}

func partOf(f findings) partResult {
	p := partResult{Release: f.release, Version: f.version, Outcome: string(f.outcome), Seconds: f.took.Seconds(), Events: []string{}}
	for _, e := range f.events {
		p.Events = append(p.Events, e.name+": "+e.text)
	}
	if !f.beaten.IsZero() {
		p.AfterHeartbeatMs = between(f.beaten, f.stamps.lastAsked)
	}
	if f.restarted > 0 {
		ms := float64(f.restarted.Microseconds()) / 1000
		p.RestartedMs = &ms
	}
	return p
}

// between is a time in milliseconds; nil when one of its ends is not known.
func between(from, to time.Time) *float64 {
	if from.IsZero() || to.IsZero() {
		return nil
	}
	ms := float64(to.Sub(from).Microseconds()) / 1000
	return &ms
}

// onset is when the trouble began: the first bad answer, or the fault itself where there is no answer any more.
func (f findings) onset() time.Time {
	switch {
	case f.lastAck.IsZero():
		return time.Time{}
	case !f.stamps.firstBad.IsZero():
		return f.stamps.firstBad
	}
	return f.injected
}

// named lists the release's events of a name.
func (f findings) named(name string) []event {
	var found []event
	for _, e := range f.events {
		if e.name == name {
			found = append(found, e)
		}
	}
	return found
}

// missed collects what was not kept.
type missed []string

func (m *missed) unless(kept bool, format string, args ...any) {
	if !kept {
		*m = append(*m, fmt.Sprintf(format, args...))
	}
}

// common is what every release keeps: its outcome, and that each confirmed step was confirmed by every Envoy and by their own pages.
func (m *missed) common(f findings, outcome policy.Result) {
	m.unless(f.outcome == outcome, "%s was %s, not %s", f.version, orNothing(f.outcome), outcome)
	all := fmt.Sprintf("confirmed by %d of %d", demoProxies, demoProxies)
	for _, e := range f.named("confirmed") {
		m.unless(strings.Contains(e.text, all), "a step was %s", e.text)
	}
	m.unless(len(f.mismatch) == 0, "Envoys did not route by %s although it was confirmed", strings.Join(f.mismatch, ", "))
}

func orNothing(r policy.Result) string {
	if r == "" {
		return "not ended"
	}
	return string(r)
}

// unfailed is that users saw no failure.
func (m *missed) unfailed(f findings) {
	m.unless(f.users.Failed == 0, "%d of %d requests failed (%d errors, %d resets, %d timeouts, %d never sent)%s",
		f.users.Failed, f.users.Requests, f.users.Errors, f.users.Resets, f.users.Timeouts, f.users.Dropped, f.failingText())
}

// failingText says when requests failed, and how long after the fault that was.
func (f findings) failingText() string {
	var times []string
	for _, at := range f.failing {
		text := at.Local().Format(time.TimeOnly)
		if !f.injected.IsZero() {
			text += fmt.Sprintf(" (%+.0f s)", at.Sub(f.injected).Seconds())
		}
		times = append(times, text)
	}
	if len(times) == 0 {
		return ""
	}
	return " at " + strings.Join(times, ", ")
}

func judgeGood(parts []findings) []string {
	var m missed
	f := parts[0]
	m.common(f, policy.Committed)
	m.unfailed(f)
	m.unless(len(f.named("confirmed")) == 5, "%d steps were confirmed, not 5", len(f.named("confirmed")))
	m.unless(f.took < goodWithin, "it took %.1f s", f.took.Seconds())
	return m
}

func tellGood(parts []findings) string {
	f := parts[0]
	return fmt.Sprintf("%s in %.1f s, %d steps confirmed, %s", orNothing(f.outcome), f.took.Seconds(), len(f.named("confirmed")), failedText(parts))
}

func judgeBad(parts []findings) []string {
	var m missed
	f := parts[0]
	m.common(f, policy.RolledBack)
	own := f.users.Versions[f.version].Failed
	m.unless(f.users.Failed == own, "%d requests failed that %s did not answer", f.users.Failed-own, f.version)
	m.unless(!f.stamps.firstBad.IsZero() && !f.lastAck.IsZero(), "onset or last ACK is not known")
	back := f.lastAck.Sub(f.stamps.firstBad)
	m.unless(back <= backWithin, "the last Envoy had weight 0 only %.2f s after the first bad answer", back.Seconds())
	m.witnessed(f)
	return m
}

// witnessed is that the Envoys' own pages, and who was asked last, agree with the server's stamp of the last ACK.
func (m *missed) witnessed(f findings) {
	m.unless(!f.seenOff.IsZero(), "an Envoy's /runtime never showed the rollback")
	m.unless(!f.lastAck.Before(f.seenOn), "an Envoy's /runtime had the weight %s after the server's last ACK", f.seenOn.Sub(f.lastAck))
	m.unless(f.seenOff.Sub(f.lastAck) <= ackSeenWithin, "an Envoy's /runtime showed weight 0 only %s after the server's last ACK", f.seenOff.Sub(f.lastAck))
	m.unless(f.stamps.lastAsked.Sub(f.lastAck) <= ackSeenWithin, "%s was asked %s after the last ACK", f.version, f.stamps.lastAsked.Sub(f.lastAck))
}

func tellBad(parts []findings) string {
	f := parts[0]
	return fmt.Sprintf("last ACK after %s, last bad answer after %s, %d bad answers reached users",
		msText(between(f.stamps.firstBad, f.lastAck)), msText(between(f.stamps.firstBad, f.stamps.lastBad)), f.users.Failed)
}

func judgeDead(parts []findings) []string {
	var m missed
	f := parts[0]
	m.common(f, policy.RolledBack)
	m.unfailed(f)
	m.unless(!f.lastAck.IsZero() && f.lastAck.Sub(f.injected) <= deadWithin, "it was rolled back after %s", msText(between(f.injected, f.lastAck)))
	return m
}

func tellDead(parts []findings) string {
	return fmt.Sprintf("%s, rolled back by all Envoys after %s", failedText(parts), msText(between(parts[0].injected, parts[0].lastAck)))
}

func judgeControl(parts []findings) []string {
	var m missed
	brief, long := parts[0], parts[1]
	for _, f := range parts {
		m.common(f, policy.Committed)
		m.unfailed(f)
	}
	m.unless(len(brief.named("restarted")) == 0, "after a brief death %s began again", brief.version)
	m.unless(brief.lowest >= quarter, "during a brief death an Envoy fell to %s", weightText(brief.lowest))
	last := long.stamps.lastAsked.Sub(long.beaten)
	m.unless(!long.stamps.lastAsked.IsZero(), "%s was never asked", long.version)
	m.unless(last <= demoDeadman+deadmanGrace, "%s was still asked %.2f s after the last heartbeat", long.version, last.Seconds())
	m.unless(long.strays == 0, "%s got %d requests after the restart, before its release had begun again", long.version, long.strays)
	m.unless(len(long.named("restarted")) == 1, "after the dead-man's time %s began again %d times, not once", long.version, len(long.named("restarted")))
	m.unless(againFromFirst(long.events), "%s did not begin again at its first step", long.version)
	return m
}

// againFromFirst reports whether the first move after the restart is to the first step.
func againFromFirst(events []event) bool {
	at := slices.IndexFunc(events, func(e event) bool { return e.name == "restarted" })
	if at < 0 {
		return false
	}
	for _, e := range events[at:] {
		if e.name == "moved" {
			return strings.HasPrefix(e.text, policy.Weight(0).String())
		}
	}
	return false
}

func weightText(w policy.Weight) string {
	if w == noKey {
		return "no weight at all"
	}
	return w.String()
}

func tellControl(parts []findings) string {
	brief, long := parts[0], parts[1]
	return fmt.Sprintf("back in %.2f s: held at %s; dead: candidate's last request %s after the last heartbeat; %s",
		brief.restarted.Seconds(), weightText(brief.lowest), msText(between(long.beaten, long.stamps.lastAsked)), failedText(parts))
}

func judgeShared(parts []findings) []string {
	var m missed
	f := parts[0]
	m.common(f, policy.Committed)
	own := int64(0)
	for version, count := range f.users.Versions {
		if version != "" {
			own += count.Failed
		}
	}
	m.unless(f.users.Failed == own, "%d requests failed that no version answered", f.users.Failed-own)
	for _, e := range f.named("moved") {
		m.unless(!e.at.After(f.injected) || !e.at.Before(f.mended), "in the outage it moved %s", e.text)
	}
	m.unless(slices.ContainsFunc(f.named("moved"), func(e event) bool { return !e.at.Before(f.mended) }), "it did not go on after the outage")
	return m
}

func tellShared(parts []findings) string {
	f := parts[0]
	return fmt.Sprintf("held for the outage's %.0f s, %s %.1f s after it", f.mended.Sub(f.injected).Seconds(), orNothing(f.outcome), f.sinceMended().Seconds())
}

// sinceMended is how long after the outage the release was over.
func (f findings) sinceMended() time.Duration {
	if len(f.events) == 0 {
		return 0
	}
	return f.events[len(f.events)-1].at.Sub(f.mended)
}

// failedText is what users saw of all parts.
func failedText(parts []findings) string {
	requests, failed := int64(0), int64(0)
	for _, f := range parts {
		requests, failed = requests+f.users.Requests, failed+f.users.Failed
	}
	return fmt.Sprintf("%d of %d requests failed", failed, requests)
}

func msText(ms *float64) string {
	switch {
	case ms == nil:
		return "–"
	case *ms < 1000:
		return fmt.Sprintf("%.0f ms", *ms)
	}
	return fmt.Sprintf("%.2f s", *ms/1000)
}
