package simulation

import (
	"github.com/rampart-proxy/rampart/policy"
)

// Kind is a Regression with a name that completes "if the candidate".
type Kind struct {
	Name string
	Regression
}

// midway is the weight at which regressions in mid-ramp begin where the plan comes by it.
const midway = policy.Full / 5

// Kinds are the regressions of judge.md 3.2 and 3.5 and a hang, from the first request on and in mid-ramp, without those that would be no worse than a baseline.
func Kinds(p policy.Plan, baseline float64) []Kind {
	var kinds []Kind
	add := func(name string, r Regression) { kinds = append(kinds, Kind{name, r}) }
	for _, from := range onsets(p) {
		for _, e := range []struct {
			name   string
			errors float64
		}{
			{"fails 2 × as often", 2 * baseline}, {"fails 5 × as often", 5 * baseline}, {"fails 1 point more", baseline + 0.01},
			{"fails 5 points more", baseline + 0.05}, {"fails half", 0.5},
		} {
			if e.errors > baseline && e.errors <= 1 {
				add(e.name, Regression{Errors: e.errors, From: from})
			}
		}
		add("takes 1.5 × as long", Regression{Slower: 1.5, From: from})
		add("takes 2 × as long", Regression{Slower: 2, From: from})
		add("2 % take 8 × as long", Regression{Slower: 8, Tail: 0.02, From: from})
		add("hangs", Regression{Hangs: true, From: from})
	}
	return kinds
}

// onsets are the weights at which regressions begin: 0 for the first request, and one in mid-ramp if the plan has more than one.
func onsets(p policy.Plan) []policy.Weight {
	if p.Cutover != nil {
		return []policy.Weight{0}
	}
	rungs := p.Rungs()
	switch {
	case p.Evidence != nil && p.Evidence.From < midway, p.Evidence == nil && rungs[0].Weight < midway:
		return []policy.Weight{0, midway}
	case p.Evidence != nil:
		return []policy.Weight{0, max(p.Evidence.From+1, policy.Full/2)}
	case len(rungs) > 1:
		return []policy.Weight{0, rungs[len(rungs)/2].Weight}
	}
	return []policy.Weight{0}
}
