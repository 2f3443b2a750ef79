package judge

import "math"

// mixture is an e-process without a burst cap: a slow request is a weaker sign than an error, and single ones are common.
type mixture struct {
	wealth [2 * slowness]float64 // each effect since the start, then each effect since some later turn
	rest   float64               // log prior of not having started yet
	now    float64               // log wealth
	peak   float64
}

func newMixture() mixture {
	var m mixture
	for i := slowness; i < len(m.wealth); i++ {
		m.wealth[i] = never
	}
	return m
}

// evenly divides the wealth between the effects.
func evenly() [slowness]float64 {
	var parts [slowness]float64
	for i := range parts {
		parts[i] = 1.0 / slowness
	}
	return parts
}

// turn settles one turn's bets.
func (m *mixture) turn(gains [slowness]float64, at pace) {
	m.rest = startLater(m.wealth[slowness:], m.rest, at.hazard())
	start, later := caps(at.limit, at.hazard(), slowness)
	for i, gain := range gains {
		m.wealth[i] += min(gain, start)
		m.wealth[i+slowness] += min(gain, later)
	}
	parts := evenly()
	m.now = mixed(m.wealth[:], m.rest, parts[:])
	m.peak = max(m.peak, m.now)
}

// caps are the most that one of so many bets may gain in a turn, if it is on the start and if it is on a later one (judge.md 2a, C0 and Cs).
func caps(limit, hazard float64, effects int) (start, later float64) {
	way := limit + math.Log(float64(effects))
	return capShare * (way - math.Log(fromStart)), capShare * (way - math.Log((1-fromStart)*hazard))
}

// startLater moves the prior of starting in a turn into the wealth of the bets on later starts, and returns the log prior that is left.
func startLater(later []float64, rest, hazard float64) float64 {
	begins := rest + math.Log(hazard)
	for i, wealth := range later {
		later[i] = logAdd(wealth, begins)
	}
	return rest + math.Log1p(-hazard)
}

// mixed is the log wealth of a mixture of bets: the first half of them on the start, for each effect, the second half on later starts. Parts are those of the effects.
func mixed(wealth []float64, rest float64, parts []float64) float64 {
	half := len(wealth) / 2
	start, later := math.Log(fromStart), math.Log(1-fromStart)
	rest += later
	top := rest
	for i, wealth := range wealth {
		top = max(top, wealth+pick(i < half, start, later))
	}
	sum := math.Exp(rest - top)
	for i, wealth := range wealth {
		sum += parts[i%half] * math.Exp(wealth+pick(i < half, start, later)-top)
	}
	return top + math.Log(sum)
}

func pick(first bool, a, b float64) float64 {
	if first {
		return a
	}
	return b
}

// logAdd is ln(e^a + e^b).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	return a + math.Log1p(math.Exp(b-a))
}
