package judge

import "math"

// trials is where healthy ends for requests of which many are bad, such as those that take longer than the median. The kernel of boundary rests on 1+y ≤ e^y and gives
// away half of what such requests say; here nothing is given away.
//
// With n requests of the candidate, k of live's, s = n/(n+k), any g ≥ b in (0,1) and m = s·g + (1-s)·b, the likelihood ratio of g and b against m,
//
//	(g/m)^x · ((1-g)/(1-m))^(n-x)  of the candidate's  ·  (b/m)^y · ((1-b)/(1-m))^(k-y)  of live's
//
// has an expectation of at most 1 while the candidate's share of bad requests is at most live's, whatever that is. Let E and F be the expectations of one request's factor
// in the two arms. E rises with the candidate's share of bad requests, so the worst case is that both arms have the same share q, and then sE + (1-s)F =
// q·m/m + (1-q)·(1-m)/(1-m) = 1. So E^n · F^k is at most (sE + (1-s)F)^(n+k) = 1: a geometric mean is not above an arithmetic one. (The two-sample test of Turner, Ly and
// Grünwald.)
//
// The share must be that of these very requests. A guess from the configured share and the past does for rare errors; here every request weighs, and a third of the healthy
// candidates that really got three times their share of one request a second were convicted with it.
type trials struct {
	usual float64 // b: what live's share of bad requests is taken to be; only power hangs on it, so it may be old
	phi   float64 // dispersion, at least 1
}

// gains are the gains of a turn for all effects.
func (b trials) gains(a arms) [slowness]float64 {
	share := float64(a.candidate.finished()) / a.finished()
	if b.phi >= clustered {
		return boundary{share: share, phi: b.phi}.slower(a)
	}
	var gains [slowness]float64
	for i, ratio := range slowdowns() {
		gains[i] = b.gain(ratio, share, a)
	}
	return gains
}

// gain is the gain of a turn for the effect that the odds of a bad request are ratio times live's. As shares they would soon be above 1.
func (b trials) gain(ratio, share float64, a arms) float64 {
	candidate := ratio * b.usual / (1 + (ratio-1)*b.usual)
	if top := math.Exp(bound(b.phi)); share*top < 1 {
		// As in the other kernel, one event must not gain without bound.
		candidate = min(candidate, top*(1-share)*b.usual/(1-share*top))
	}
	mean := share*candidate + (1-share)*b.usual
	bad, good := math.Log(mean), math.Log1p(-mean)
	return (float64(a.candidate.Bad)*(math.Log(candidate)-bad) + float64(a.candidate.Good)*(math.Log1p(-candidate)-good) +
		float64(a.live.Bad)*(math.Log(b.usual)-bad) + float64(a.live.Good)*(math.Log1p(-b.usual)-good)) / b.phi
}

// slower are the gains of a turn for all effects of latency.
func (b boundary) slower(a arms) [slowness]float64 {
	var gains [slowness]float64
	for i, ratio := range slowdowns() {
		gains[i] = b.gain(ratio, a)
	}
	return gains
}

// likely is a guess at the share of bad requests that keeps away from 0 and 1.
func (c Counts) likely() float64 {
	return min(max((float64(c.Bad)+0.5)/(float64(c.finished())+1), 1e-9), 1-1e-9)
}
