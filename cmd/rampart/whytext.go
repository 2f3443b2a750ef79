package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// why is the answer in lines: the first is the answer, the last says what can be done.
func (p picture) why() []string {
	lines := []string{p.answer()}
	s := p.service.served
	if s.Serves() && s.Release != nil {
		lines = append(lines, p.runningDetails(s.Release)...)
	} else if s.Serves() {
		lines = append(lines, p.steadyDetails()...)
	}
	lines = append(lines, p.refusedDetails()...)
	for _, alarm := range p.alarms {
		lines = append(lines, "  Alarm: "+alarm+".")
	}
	if !p.led {
		lines = append(lines, "  No replica leads at present, so nothing is decided; ramp weights expire by the dead-man's switch.")
	}
	if s.Serves() && s.Release != nil {
		lines = append(lines, "  Next: "+p.next()+".")
	}
	if can := p.choices(); len(can) > 0 {
		lines = append(lines, "  You can: "+strings.Join(can, ", ")+".")
	}
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return lines
}

// answer is the first line.
func (p picture) answer() string {
	v := p.service
	switch {
	case v.servedMod > 0 && v.served == nil:
		return v.name + " keeps what replicas serve: its served key cannot be read."
	case v.servedMod == 0 && v.doc.Mod == 0:
		return v.name + " keeps what replicas serve: its document and its served key are gone."
	case v.servedMod == 0:
		return v.name + " is not served yet: no leader has looked at its document."
	case !v.served.Serves():
		return v.name + " serves nothing: its first document is refused."
	case v.served.Release != nil:
		return v.name + " " + p.running(v.served.Release) + "."
	}
	return v.name + " " + p.steady(v.served) + "."
}

// running says where a release is, after the service's name.
func (p picture) running(r *policy.Release) string {
	candidate := r.Candidate.String()
	switch {
	case r.Phase == policy.RollingBack:
		return fmt.Sprintf("goes back to %s from %s: it waits for %s", p.service.served.Live, candidate, r.Waits)
	case !p.permitted():
		return fmt.Sprintf("takes %s back: its permit is gone", candidate)
	case r.Phase == policy.Gated:
		return fmt.Sprintf("has given %s no request yet: it waits for %s", candidate, r.Waits)
	case r.Phase == policy.Committing:
		return fmt.Sprintf("commits %s: it waits for %s", candidate, r.Waits)
	case r.Phase == policy.Shifting || p.unconfirmed() > 0:
		return p.shifting(r)
	case p.service.paused:
		return fmt.Sprintf("is paused at %s by an operator", r.Weight)
	case r.Held != "":
		return fmt.Sprintf("is held at %s: %s", r.Weight, r.Held)
	case p.left() > 0:
		return fmt.Sprintf("is %s, with %s", p.phaseText(), candidate)
	}
	return fmt.Sprintf("stays at %s: it waits for %s", r.Weight, r.Waits)
}

// shifting counts the proxies that hold a step up. Until they have reported, the leader's own words are all there is.
func (p picture) shifting(r *policy.Release) string {
	missing := p.unconfirmed()
	switch {
	case p.reported && p.fleet.Connected == 0:
		return fmt.Sprintf("is held at %s: no proxy is connected", r.Weight)
	case !p.reported || missing == 0:
		return fmt.Sprintf("moves to %s: it waits for %s", r.Weight, r.Waits)
	case missing == 1:
		return fmt.Sprintf("is held at %s: 1 of %s has not confirmed it", r.Weight, proxies(p.fleet.Connected))
	}
	return fmt.Sprintf("is held at %s: %d of %s have not confirmed it", r.Weight, missing, proxies(p.fleet.Connected))
}

// steady says what serves when no release runs, after the service's name.
func (p picture) steady(s *policy.Served) string {
	last := s.Last
	switch {
	case s.Blocked != nil && last != nil && last.Result == policy.RolledBack:
		return fmt.Sprintf("rolled back %s at %s, %s ago; %s is live", last.To, last.Weight, brief(p.now.Sub(last.At).Truncate(time.Second)), s.Live)
	case p.service.doc.Mod == 0:
		return fmt.Sprintf("keeps %s live: its document is gone", s.Live)
	case s.Refused != nil && s.Refused.Revision == p.service.doc.Mod:
		return fmt.Sprintf("goes on with %s: its newest document is refused", s.Live)
	case s.Accepted != p.service.doc.Mod:
		return fmt.Sprintf("goes on with %s: no leader has looked at its newest document yet", s.Live)
	}
	return fmt.Sprintf("is steady: %s is live", s.Live)
}

// steadyDetails is what led to the present rest.
func (p picture) steadyDetails() []string {
	s := p.service.served
	var lines []string
	if last := s.Last; last != nil {
		lines = append(lines, p.lastDetails(last)...)
	}
	if p.service.paused {
		lines = append(lines, fmt.Sprintf("  It is paused: the next release begins so, until `rampart resume %s`.", p.service.name))
	}
	if s.Blocked != nil {
		lines = append(lines, fmt.Sprintf("  This wish is refused until it changes: deploy a new revision, or `rampart retry %s`.", p.service.name))
	}
	return lines
}

// lastDetails tells how the last release ended.
func (p picture) lastDetails(last *policy.Outcome) []string {
	if last.Result == policy.Committed {
		return []string{fmt.Sprintf("  %s took over from %s %s ago, %s.", last.To, last.From, brief(p.now.Sub(last.At).Truncate(time.Second)), last.Reason)}
	}
	lines := []string{fmt.Sprintf("  %s was rolled back because: %s.", last.To, strings.TrimSuffix(last.Reason, "."))}
	if back := backAfter(p.lines, last.Release); back >= time.Millisecond {
		lines = append(lines, fmt.Sprintf("  Last proxy back on %s %d ms after the decision.", last.From, back.Milliseconds()))
	}
	return lines
}

// backAfter is how long after the decision the last proxy confirmed a rollback; 0 if the history does not tell.
func backAfter(lines []store.Line, release string) time.Duration {
	var decided time.Time
	for _, l := range lines {
		switch {
		case l.Release != release:
		case l.Event == "rolling back":
			decided = l.Time
		case l.Event == "rolled back" && !decided.IsZero() && l.Numbers["lastAckUnixMs"] > 0:
			seconds, fraction := math.Modf(l.Numbers["lastAckUnixMs"] / 1000)
			return time.Unix(int64(seconds), int64(fraction*1e9)).Sub(decided)
		}
	}
	return 0
}

// runningDetails is what the answer rests on: proxies in their own words, and the judge's numbers.
func (p picture) runningDetails(r *policy.Release) []string {
	var lines []string
	if r.Cause != "" {
		lines = append(lines, "  Because: "+r.Cause+".")
	}
	for _, words := range p.fleet.Waiting {
		lines = append(lines, "  "+proxyText(words))
	}
	if p.unconfirmed() > len(p.fleet.Waiting) && len(p.fleet.Waiting) > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", p.unconfirmed()-len(p.fleet.Waiting)))
	}
	if p.fleet.Slow > 0 {
		lines = append(lines, fmt.Sprintf("  %d of %s, drawn by lot, report every turn: what is judged and counted here is theirs.", p.fleet.Connected-p.fleet.Slow, proxies(p.fleet.Connected)))
	}
	if p.evidence != nil {
		lines = append(lines, "  Judge: "+p.judge())
		for _, text := range p.findings() {
			lines = append(lines, "    "+text)
		}
	}
	return lines
}

// findings are what the judge's reason leaves out: the other metrics, and how users fare.
func (p picture) findings() []string {
	j := p.evidence.Latest
	var texts []string
	for _, f := range j.Findings {
		if !strings.HasPrefix(j.Reason, f.Text) {
			texts = append(texts, f.Text)
		}
	}
	if j.Users != "" {
		texts = append(texts, j.Users)
	}
	return texts
}

// proxyText is one proxy that has not confirmed, and its own words.
func proxyText(w policy.ProxyWords) string {
	text := w.Proxy
	if w.Version != "" {
		text += " (" + w.Version + ")"
	}
	switch {
	case w.Says != "":
		return text + "  rejected it: " + w.Says
	case w.Silent >= time.Second:
		return text + "  silent for " + brief(w.Silent.Truncate(time.Second))
	}
	return text + "  has not answered yet"
}

// judge is the judge's reason and what it comes to. Before the first request, and once the release is as good as over, only the reason is of interest.
func (p picture) judge() string {
	j, r := p.evidence.Latest, p.service.release()
	switch {
	case !p.permitted() || r.Phase == policy.Gated || r.Phase == policy.RollingBack || r.Phase == policy.Committing:
		return j.Reason + "."
	case j.Verdict == policy.Unhealthy:
		return j.Reason + ". It says no."
	}
	reason, plan := j.Reason+p.excessText(), p.service.served.Service.Plan
	// Below half of the traffic a climb by evidence needs no verdict, only that nothing speaks against it.
	needless := climbs(r, plan) && r.Weight < policy.Full/2 && !j.Unsettling
	if j.Lacks != "" && !needless {
		return fmt.Sprintf("%s. To go on it needs %s.", reason, j.Lacks)
	}
	return reason + ". It has no objection."
}

// excessText is what the judge cannot rule out yet, where that decides about the climb.
func (p picture) excessText() string {
	j, plan := p.evidence.Latest, p.service.served.Service.Plan
	if plan.Evidence == nil || p.service.release().Mode != policy.ByPlan || j.StepRequests == 0 || j.Excess >= 1 {
		return ""
	}
	return fmt.Sprintf("; %s fails at most %.2g points more often than the margin allows (95 %% sure)", p.service.release().Candidate.Backend, 100*j.Excess)
}

// refusedDetails lists what is wrong with the newest document.
func (p picture) refusedDetails() []string {
	s := p.service.served
	if s == nil || s.Refused == nil || s.Refused.Revision != p.service.doc.Mod {
		return nil
	}
	lines := []string{"  Its newest document is refused, and changes nothing:"}
	for _, problem := range s.Refused.Problems {
		lines = append(lines, "    "+problem)
	}
	return lines
}

// choices are the commands that make sense now.
func (p picture) choices() []string {
	name, s := p.service.name, p.service.served
	command := func(words string) string { return "`rampart " + words + "`" }
	switch r := p.service.release(); {
	case !s.Serves():
		return []string{"correct the document and `rampart apply` it"}
	case r == nil && s.Blocked != nil:
		return []string{command("history " + name), command("retry " + name)}
	case r == nil && s.Last != nil:
		return []string{command("history " + name), command("get " + name + " -o yaml")}
	case r == nil:
		return []string{"change `serve` in its document to release another backend"}
	case r.Phase == policy.RollingBack || r.Phase == policy.Committing || !p.permitted():
		return []string{command("watch " + name), command("proxies")}
	case p.unconfirmed() > 0 && len(s.Service.Gateways) == 1:
		return []string{command("proxies --gateway " + s.Service.Gateways[0]), command("pause " + name), command("rollback " + name)}
	case p.service.paused || r.Held != "":
		return []string{command("resume " + name), command("advance " + name), command("rollback " + name)}
	}
	return []string{command("watch " + name), command("pause " + name), command("advance " + name), command("rollback " + name)}
}
