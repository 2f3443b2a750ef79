package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/simulation"
)

// tellForecast answers in the order of the questions: is it safe for a good release, what is found of a bad one, and how sure is that.
func (a *app) tellForecast(service string, f simulation.Forecast, asked simulateAsked) {
	for _, line := range healthyLines(f) {
		a.say("%s", a.screen.wrap(clean(line), "  "))
	}
	a.say("")
	a.printTable(forecastTable(f))
	a.say("")
	for _, line := range forecastNotes(service, f, asked) {
		a.say("%s", a.screen.wrap(clean(line), "  "))
	}
}

// healthyLines tell what becomes of a release that nothing is wrong with.
func healthyLines(f simulation.Forecast) []string {
	h, who := f.Healthy, fmt.Sprintf("A release of %s that is as good as %s", f.Candidate, f.Live)
	back := fmt.Sprintf("%d of %d were rolled back (%s)", h.RolledBack, f.Releases, sureness(h.RolledBack, f.Releases))
	var line string
	switch {
	case h.Committed == f.Releases || h.Most.Std() < simulation.Undetected:
		line = fmt.Sprintf("%s is committed after %s (90 %% within %s); %s.", who, brief(h.Median.Std()), brief(h.Most.Std()), back)
	case h.Median.Std() < simulation.Undetected:
		line = fmt.Sprintf("%s is committed after %s in half of all cases, and not at all in %d of %d; %s.", who, brief(h.Median.Std()), f.Releases-h.Committed, f.Releases, back)
	case h.Committed > 0:
		line = fmt.Sprintf("%s is seldom committed: in %d of %d cases; %s.", who, h.Committed, f.Releases, back)
	default:
		line = fmt.Sprintf("%s is not committed; %s.", who, back)
	}
	lines := []string{line}
	if h.Paused > 0 {
		lines = append(lines, fmt.Sprintf("%d were paused when patience was at its end.", h.Paused))
	}
	if h.Unfinished > 0 {
		lines = append(lines, fmt.Sprintf("%d had not ended after %s.", h.Unfinished, policy.Duration(f.Limit)))
	}
	if h.Reason != "" {
		lines = append(lines, "The first that was not committed: "+h.Reason+".")
	}
	return lines
}

// forecastTable has a row for each kind of release, and a column for each peer.
func forecastTable(f simulation.Forecast) table {
	heading := []string{"IF " + strings.ToUpper(f.Candidate), "ROLLED BACK", "AFTER", "BAD REQUESTS"}
	good := []string{"is as good as " + f.Live, rateText(f.Healthy.RolledBack, f.Releases), "", ""}
	for _, p := range f.Peers {
		heading = append(heading, strings.ToUpper(p.Name))
		good = append(good, rateText(p.RolledBack, f.Releases))
	}
	t := table{heading, good}
	from := policy.Weight(-1)
	for _, r := range f.Regressions {
		if r.From != from {
			from = r.From
			t = append(t, []string{onsetText(from)})
		}
		row := []string{"  " + r.Name, foundText(r.Ours), afterText(r.Ours), badText(r.Ours, true)}
		for _, p := range r.Peers {
			row = append(row, peerText(p))
		}
		t = append(t, row)
	}
	return t
}

// onsetText says from when on candidates are worse.
func onsetText(from policy.Weight) string {
	if from == 0 {
		return "from the start"
	}
	return "from " + from.String() + " on"
}

// foundText is how many were rolled back, and how many stand still, which is no promotion either.
func foundText(found simulation.Found) string {
	text := rateText(found.Found, found.Turned)
	if found.Held > 0 {
		text += fmt.Sprintf(", %.0f %% held", 100*float64(found.Held)/float64(found.Turned))
	}
	return text
}

func afterText(found simulation.Found) string {
	if found.Turned == 0 || found.Delay.Std() >= simulation.Undetected {
		return "–"
	}
	return brief(found.Delay.Std())
}

// badText is how many requests were served badly, with two standard errors.
func badText(found simulation.Found, sure bool) string {
	switch {
	case found.Turned == 0:
		return "–"
	case !sure || found.Turned == 1:
		return countText(found.Bad)
	}
	return countText(found.Bad) + " ± " + countText(2*found.BadError)
}

func peerText(found simulation.Found) string {
	if found.Turned == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%, %s", 100*float64(found.Found)/float64(found.Turned), badText(found, false))
}

// rateText is a part in per cent with two standard errors, where there is a spread to tell of.
func rateText(part, of int) string {
	if of == 0 {
		return "–"
	}
	share := float64(part) / float64(of)
	spread := 200 * math.Sqrt(share*(1-share)/float64(of))
	if spread == 0 {
		return fmt.Sprintf("%.0f %%", 100*share)
	}
	digits := 0
	if share < 0.1 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %% ± %.0f", digits, 100*share, math.Ceil(spread))
}

// sureness says within what the truth is, in 95 of 100 cases. Where none was seen that is the rule of three.
func sureness(part, of int) string {
	switch {
	case of <= 3:
		return "too few to tell"
	case part == 0:
		return fmt.Sprintf("below %.2g %%", 300/float64(of))
	}
	share := float64(part) / float64(of)
	return fmt.Sprintf("%.2g %% ± %.2g", 100*share, 200*math.Sqrt(share*(1-share)/float64(of)))
}

// countText writes a mean number of requests.
func countText(n float64) string {
	if n < 10 {
		return fmt.Sprintf("%.1f", n)
	}
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// forecastNotes say what the numbers are, how they came about, and what can be done.
func forecastNotes(service string, f simulation.Forecast, asked simulateAsked) []string {
	peers := make([]string, len(f.Peers))
	for i, p := range f.Peers {
		peers[i] = p.Text
	}
	bursts := ""
	if asked.bursts > 1 {
		bursts = fmt.Sprintf(", most of them in bursts of %g", asked.bursts)
	}
	return []string{
		fmt.Sprintf("Bad requests fail or hang; of a slow %s all count. ± is two standard errors; where none or all of %d did something, that is sure to %.2g %%.",
			f.Candidate, f.Releases, min(100, 300/float64(f.Releases))),
		fmt.Sprintf("Beside it, by their own rules on the same traffic: %s. Of each the part that was rolled back, and the bad requests.", listed(peers)),
		fmt.Sprintf("Simulated: %s of each kind, %s over %s, at %s of which %s fail%s, half within %s and 99 %% within %s, seed %d.",
			plural(f.Releases, "release", "releases"), f.Candidate, f.Live, perSecond(asked.rate), asked.errors, bursts, shortly(asked.p50), shortly(asked.p99), asked.seed),
		fmt.Sprintf("Change the plan or the analysis of %s and ask again; --runs makes it surer, -o json has every number, `rampart apply` releases.", service),
	}
}

// perSecond writes a rate of requests.
func perSecond(rate float64) string {
	if rate == 1 {
		return "1 request/s"
	}
	return fmt.Sprintf("%g requests/s", rate)
}

// shortly writes how long a request takes.
func shortly(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	return msText(&ms)
}
