package judge

import "math"

// effects is the number of effect sizes that are bet on.
const effects = 10

// ratios are the effect sizes, in multiples of what is still healthy (judge.md 2a, R).
func ratios() [effects]float64 { return [effects]float64{1.25, 1.6, 2.2, 3.2, 5, 9, 20, 60, 250, 1500} }

// clustered is the dispersion from which errors are taken for clusters of geometric size rather than for noisy single events (judge.md 2g).
const clustered = 4

// bet is the logarithm of one factor of wealth: what each bad candidate request adds, each bad live request, and each finished candidate request.
type bet struct{ candidate, live, request float64 }

// gain is what a turn's counts bring in nats. The expectation of its exponential is at most 1 while the candidate is healthy (judge.md 1), whatever live's rate.
func (b bet) gain(a arms) float64 {
	return float64(a.candidate.Bad)*b.candidate + float64(a.live.Bad)*b.live + float64(a.candidate.finished())*b.request
}

// boundary is where healthy ends, as the bets of one turn need it.
type boundary struct {
	share float64 // s0: the candidate's share of the errors at the boundary, without the points; 0 without control
	rate  float64 // without control: the boundary's error share, which every candidate request pays for; with control: the points δ
	phi   float64 // dispersion of live's errors, at least 1
}

// against is the bet that the candidate's error share is ratio times the boundary's.
//
// The gains per error a = ln E_candidate and b = ln E_live satisfy share·e^a + (1-share)·e^b = 1, so that live's own rate cancels. Raised to 1/φ the factor stays
// a supermartingale (Jensen); above clustered, errors come in clusters of geometric size and mean m, for which E[z^S] = z/(m-(m-1)z), so the gain of one error is
// chosen such that a cluster's expectation is e^a.
func (b boundary) against(ratio float64) bet {
	free := ratio / (1 + b.share*(ratio-1))
	growth := b.bounded(free)
	candidate := math.Log(growth)
	live := -math.Log1p(b.share * (ratio - 1))
	if b.phi >= clustered {
		m := (1 + b.phi) / 2
		return bet{candidate: perCluster(candidate, m), live: perCluster(live, m), request: b.request(growth)}
	}
	if growth < free {
		live = math.Log((1 - growth*b.share) / (1 - b.share))
	}
	return bet{candidate: candidate / b.phi, live: live / b.phi, request: b.request(growth)}
}

// bounded is what one event of the candidate may multiply the wealth by. Below clustered it has a bound, because with exponential cluster sizes the mean would be
// infinite.
func (b boundary) bounded(growth float64) float64 {
	if b.phi < clustered {
		return min(growth, math.Exp(bound(b.phi)))
	}
	return growth
}

// request is what each finished request of the candidate pays for that.
func (b boundary) request(growth float64) float64 {
	events := b.phi
	if b.phi >= clustered {
		events = (1 + b.phi) / 2
	}
	return -b.rate * (growth - 1) / events
}

// bound is the most that one error may gain before it is divided by φ (judge.md 2a, L).
func bound(phi float64) float64 {
	if phi <= 1 {
		return math.Inf(1)
	}
	return 0.7 * (1 + 4/(phi-1))
}

// perCluster is the gain of one error when a whole cluster of mean size m shall gain e^l in expectation.
func perCluster(l, m float64) float64 { return math.Log(m) + l - math.Log1p((m-1)*math.Exp(l)) }

// gains are the gains of a turn for all effects.
func (b boundary) gains(a arms) [effects]float64 {
	var gains [effects]float64
	for i, ratio := range ratios() {
		gains[i] = b.gain(ratio, a)
	}
	return gains
}

// gain is the gain of a turn for one effect.
func (b boundary) gain(ratio float64, a arms) float64 {
	if b.share == 0 && b.rate > 0 {
		// Without control the boundary is a rate, and no rate is above 1.
		ratio = max(1, min(ratio, 1/b.rate))
	}
	if a.candidate.Bad+a.live.Bad == 0 {
		return float64(a.candidate.finished()) * b.request(b.bounded(ratio/(1+b.share*(ratio-1)))) // most turns of a quiet service, and no logarithm
	}
	return b.against(ratio).gain(a)
}
