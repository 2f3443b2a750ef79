package judge

import "math"

// Part is one e-process in a mixture: its weight and the logarithm of its wealth.
type Part struct{ Weight, Log float64 }

// Mix is the logarithm of the wealth of several e-processes together, Σ weight·wealth. While the weights are fixed before anything is seen and sum to 1 at most, it is one
// itself, however the parts depend on each other (judge.md 2f); so all metrics share one α, and one that has nothing to say costs the others no more than its weight.
// What the weights lack to 1 is a wealth that is never bet.
func Mix(parts []Part) float64 {
	top, idle := 0.0, 1.0
	for _, p := range parts {
		idle -= p.Weight
		if p.Weight > 0 {
			top = max(top, p.Log)
		}
	}
	sum := max(0, idle) * math.Exp(-top)
	for _, p := range parts {
		if p.Weight > 0 {
			sum += p.Weight * math.Exp(p.Log-top)
		}
	}
	return top + math.Log(sum)
}
