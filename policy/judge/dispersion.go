package judge

import (
	"math"
	"time"
)

const (
	phiPrior  = 2.0 // dispersion before anything is known, worth phiWeight window pairs
	phiWeight = 4.0
	phiMost   = 100.0

	keptTime = 30 * time.Minute // the past of live that the next release still learns from
)

// dispersion learns how bursty live's errors are: φ is the variance of their counts over that of independent errors. It learns from live alone and, during a
// release, only outside of incidents, once per second (judge.md 2a and 2g).
type dispersion struct {
	short, long pairs
	seen        Counts        // history and run; its errors are E_b
	known       time.Duration // how long it was seen
	value       float64       // φ, as of the last full second
}

// pairs compares successive sums of live over windows of one width: differences, so that a slow drift of the rate is no dispersion.
type pairs struct {
	trials      bool // many may be bad: what is expected is the variance of trials, not that of rare events
	before, now Counts
	filled      time.Duration
	squares     float64 // Σ w v
	weight      float64 // Σ w
	trust       float64 // Σ min(1, expected variance/5): how many pairs told something
}

func newDispersion() dispersion {
	var d dispersion
	d.estimate()
	return d
}

// newTrials is for requests of which many may be bad.
func newTrials() dispersion {
	d := newDispersion()
	d.short.trials, d.long.trials = true, true
	return d
}

// add takes one turn of live.
func (d *dispersion) add(live Counts, length time.Duration) {
	d.seen.add(live)
	d.known += length
	d.long.add(live, length, 10*time.Second)
	if d.short.add(live, length, time.Second) {
		d.estimate()
	}
}

// kept is what stays for another release: as much as half an hour teaches, without the windows that have no sequel.
func (d *dispersion) kept() dispersion {
	part := keptPart(d.known)
	next := dispersion{short: d.short.kept(part), long: d.long.kept(part), seen: d.seen.kept(part), known: min(d.known, keptTime)}
	next.estimate()
	return next
}

func (p *pairs) kept(part float64) pairs {
	return pairs{squares: part * p.squares, weight: part * p.weight, trust: part * p.trust}
}

// keptPart is the part of what was learned in a time that is worth half an hour.
func keptPart(known time.Duration) float64 {
	return keptTime.Seconds() / max(keptTime, known).Seconds()
}

func (c Counts) kept(part float64) Counts {
	return Counts{Good: uint64(part * float64(c.Good)), Bad: uint64(part * float64(c.Bad))}
}

// add reports whether the window became full.
func (p *pairs) add(live Counts, length, width time.Duration) bool {
	p.now.add(live)
	if p.filled += length; p.filled < width {
		return false
	}
	p.compare()
	p.before, p.now, p.filled = p.now, Counts{}, 0
	return true
}

// compare adds the pair (before, now). The expected variance of e₂ - c·e₁ under independent errors is q·n₂·(1+c) with c = n₂/n₁.
func (p *pairs) compare() {
	n1, n2 := float64(p.before.finished()), float64(p.now.finished())
	if n1 == 0 || n2 == 0 {
		return
	}
	c := n2 / n1
	q := float64(p.before.Bad+p.now.Bad) / (n1 + n2)
	expected := q * n2 * (1 + c)
	if p.trials {
		expected *= 1 - q
	}
	if expected == 0 {
		return
	}
	off := float64(p.now.Bad) - c*float64(p.before.Bad)
	// The edge of an outage is not dispersion: one pair counts at most ten times what is usual.
	v := min(off*off/expected, 10*p.mean())
	w := min(20, expected/5)
	p.squares += w * v
	p.weight += w
	p.trust += min(1, expected/5)
}

func (p *pairs) mean() float64 { return (p.squares + phiWeight*phiPrior) / (p.weight + phiWeight) }

// low is the mean less about one standard error.
func (p *pairs) low() float64 { return p.mean() * p.doubt() }

func (p *pairs) doubt() float64 { return 1 - math.Sqrt(3/(p.trust+48)) }

// estimate sets φ: the larger of both widths, a third more for safety, and more still while few errors were seen (z = 0.5 of judge.md 2g).
func (d *dispersion) estimate() {
	mean := max(1, d.short.low(), d.long.low())
	unsure := 0.5 * 2.2 * math.Sqrt(mean/(float64(d.seen.Bad)+5))
	d.value = min(phiMost, 1+1.3*(mean-1)*(1+unsure))
}

// upper is an upper bound of the error share behind counts (judge.md's q_u), about 95 %: the rule of three with no errors, two standard errors with many. 1
// without requests.
func (c Counts) upper() float64 {
	n, errors := float64(c.finished()), float64(c.Bad)
	return min(1, (errors+1+2*math.Sqrt(errors+1))/max(1, n))
}
