package judge

import "math"

const (
	claims      = 7    // number of claims that are bet against
	excessAlpha = 0.05 // probability that the bound is ever below the true excess (judge.md 2e, α_p)
	tangents    = 40   // of a convex function, at most; about six are enough
	exactly     = 1e-9 // how near to the bound it is enough to come, from above
)

// claimed are the claims that are bet against: that the candidate is worse than the margin by more than leaves it this part of what it would have (judge.md 2e).
func claimed() [claims]float64 { return [claims]float64{0.02, 0.2, 0.4, 0.6, 0.75, 0.87, 0.94} }

// wagered are what is bet on each. Healthy candidates of most services are far below an excess that matters, so the first win: a release at 100 requests/s is
// done 5 s sooner than with equal wagered, and at 1 % errors no later.
func wagered() [claims]float64 { return [claims]float64{0.27, 0.25, 0.2, 0.13, 0.07, 0.05, 0.03} }

// excess bounds from above how much worse than the margin the candidate is: the kernel read backwards. Its bets win while the candidate shows fewer errors
// than a candidate with an excess of D would, for every D at once: the wealth against D is Σ stake·exp(won + D·paid), and a D whose wealth has reached
// 1/excessAlpha is refuted.
type excess struct {
	won  [claims]float64 // what the errors of both arms brought, in nats
	paid [claims]float64 // what the candidate's requests bring for each unit of excess
}

// turn settles one turn's bets, at the boundary of the turn without its points.
func (x *excess) turn(b boundary, a arms) {
	if b.share == 0 {
		return // without control there is no comparison
	}
	b.rate = 1
	for i, ratio := range claimed() {
		bet := b.against(ratio)
		x.won[i] += float64(a.candidate.Bad)*bet.candidate + float64(a.live.Bad)*bet.live
		x.paid[i] += float64(a.candidate.finished()) * bet.request
	}
}

// wealth is the log of the wealth against an excess of d, and how fast that grows with d.
func (x *excess) wealth(d float64) (log, growth float64) {
	top := never
	for i, won := range x.won {
		top = max(top, won+d*x.paid[i])
	}
	sum := 0.0
	for i, stake := range wagered() {
		part := stake * math.Exp(x.won[i]+d*x.paid[i]-top)
		sum += part
		growth += part * x.paid[i]
	}
	return top + math.Log(sum), growth / sum
}

// bound is the smallest excess that is refuted; 1 if none is. The log of a sum of exponentials is convex, so that its tangents (Newton's method) come near the bound
// from above and never pass it: what they stop at is refuted.
func (x *excess) bound() float64 {
	limit := -math.Log(excessAlpha)
	d := 1.0
	for range tangents {
		log, growth := x.wealth(d)
		if log < limit {
			return min(1, d+exactly) // only at 1, or by a rounding error
		}
		next := d - (log-limit)/growth
		if !(next > 0) {
			return x.least()
		}
		if d-next < exactly {
			break
		}
		d = next
	}
	return d
}

// least is 0 if even that is refuted, and next to it otherwise.
func (x *excess) least() float64 {
	if log, _ := x.wealth(0); log >= -math.Log(excessAlpha) {
		return 0
	}
	return exactly
}

// Excess returns how much more than the margin's ratio times live's error share the candidate's may still be, as a share from 0 to 1: 1 before there is evidence. It is
// below the true excess, averaged over the release, with probability 0.05 at most however often one looks. A regression that begins late is found by the
// comparison, not by this.
//
// It is computed when it is asked for and costs as much as a few turns.
func (e *Errors) Excess() float64 { return e.excess.bound() }
