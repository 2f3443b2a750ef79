package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// brief writes a time as people do: "0.3 s", "18 s", "5m12s", "3h12m", "2d4h".
func brief(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 10*time.Second && d%time.Second != 0:
		return fmt.Sprintf("%.1f s", math.Floor(d.Seconds()*10)/10)
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return twoUnits(int(d.Minutes()), "m", int(d.Seconds())%60, "s")
	case d < 24*time.Hour:
		return twoUnits(int(d.Hours()), "h", int(d.Minutes())%60, "m")
	}
	return twoUnits(int(d.Hours())/24, "d", int(d.Hours())%24, "h")
}

// twoUnits leaves out the smaller unit when there is none of it.
func twoUnits(big int, bigUnit string, small int, smallUnit string) string {
	if small == 0 {
		return fmt.Sprintf("%d%s", big, bigUnit)
	}
	return fmt.Sprintf("%d%s%d%s", big, bigUnit, small, smallUnit)
}

// whole rounds up to full seconds: what is left of something never reads as nothing before it is over.
func whole(d time.Duration) string { return brief((d + time.Second - 1).Truncate(time.Second)) }

// plural writes "1 proxy", "3 proxies".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// proxies counts proxies.
func proxies(n int) string { return plural(n, "proxy", "proxies") }

// listed joins names as people do: "a, b and c".
func listed(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// climbText says how a release will climb.
func climbText(r *policy.Release, p policy.Plan) string {
	switch r.Mode {
	case policy.ByCutover:
		return "everything at once, as soon as the endpoints are accepted"
	case policy.ByPromote:
		return "everything at once, as ordered"
	}
	rungs := p.Rungs()
	first, last := rungs[0].Weight, rungs[len(rungs)-1].Weight
	switch {
	case p.Evidence != nil:
		return fmt.Sprintf("%s → %s as fast as the evidence allows", p.Evidence.From, policy.Full)
	case p.Linear != nil:
		return fmt.Sprintf("%s → %s over %s", first, last, p.Linear.Over)
	case p.Exponential != nil:
		return fmt.Sprintf("%s → %s, × %g every %s", first, last, p.Exponential.Factor, p.Exponential.Every)
	}
	steps := make([]string, len(rungs))
	for i, rung := range rungs {
		steps[i] = rung.Weight.String()
	}
	return strings.Join(steps, ", ")
}

// ratio writes errors per requests with two digits: "0.21 %".
func ratio(part, all float64) string {
	if all <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f %%", 100*part/all)
}
