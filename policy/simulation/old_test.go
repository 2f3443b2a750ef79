package simulation_test

import (
	"math"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// old is the judge of judge.md 2a and 2d as section 3 measured it: turns of a second, the old weights of φ, the old guard rail. It is here to show that the simulator is
// the reference's.
type old struct {
	start, later [10]float64
	rest         float64
	phi          float64
	short, long  oldPairs
	seen         judge.Counts
	hold         int
	last         []judge.Turn // 10 s
	step         judge.Turn
	past         judge.Turn // the turn being added up
	ticks        int
}

const (
	oldAlpha = 0.01
	oldW0    = 0.5
	oldH     = 1.0 / 600
)

func oldRatios() [10]float64 { return [10]float64{1.25, 1.6, 2.2, 3.2, 5, 9, 20, 60, 250, 1500} }

// oldPairs are successive sums of live over a width of seconds.
type oldPairs struct {
	before, now     judge.Counts
	filled          int
	squares, weight float64
}

func (p *oldPairs) mean() float64 { return (p.squares + 4*2) / (p.weight + 4) }

func (p *oldPairs) low() float64 { return p.mean() * (1 - math.Sqrt(3/(p.weight+48))) }

func (p *oldPairs) add(live judge.Counts, width int) {
	p.now.Good += live.Good
	p.now.Bad += live.Bad
	if p.filled++; p.filled < width {
		return
	}
	n1, n2 := total(p.before), total(p.now)
	if n1 > 0 && n2 > 0 {
		c, q := n2/n1, float64(p.before.Bad+p.now.Bad)/(n1+n2)
		if den := q * n2 * (1 + c); den > 0 {
			off := float64(p.now.Bad) - c*float64(p.before.Bad)
			w := min(1, den/5)
			p.squares += w * min(off*off/den, 10*p.mean())
			p.weight += w
		}
	}
	p.before, p.now, p.filled = p.now, judge.Counts{}, 0
}

func total(c judge.Counts) float64 { return float64(c.Good + c.Bad) }

func rateOf(c judge.Counts) float64 { return float64(c.Bad) / max(1, total(c)) }

func upper(c judge.Counts) float64 {
	x := float64(c.Bad)
	return min(1, (x+1+2*math.Sqrt(x+1))/max(1, total(c)))
}

func plus(a, b judge.Counts) judge.Counts {
	return judge.Counts{Good: a.Good + b.Good, Bad: a.Bad + b.Bad}
}

func newOld() *old {
	o := &old{phi: 2}
	for i := range o.later {
		o.later[i] = math.Inf(-1)
	}
	return o
}

// add sums ticks to a second and reports whether it is full.
func (o *old) add(t judge.Turn) (judge.Turn, bool) {
	o.past.Live, o.past.Candidate = plus(o.past.Live, t.Live), plus(o.past.Candidate, t.Candidate)
	o.past.NewStep = o.past.NewStep || t.NewStep
	o.past.Share, o.past.Warming = t.Share, t.Warming
	if o.ticks++; o.ticks < 4 {
		return judge.Turn{}, false
	}
	second := o.past
	o.past, o.ticks = judge.Turn{}, 0
	return second, true
}

func (o *old) Observe(live judge.Counts, _ time.Duration) {
	if second, full := o.add(judge.Turn{Live: live}); full {
		o.watch(second)
		o.learn(second.Live)
	}
}

// watch is the incident hold.
func (o *old) watch(t judge.Turn) {
	if o.last = append(o.last, t); len(o.last) > 10 {
		o.seen = plus(o.seen, o.last[0].Live)
		o.last = o.last[1:]
	}
	var recent judge.Counts
	for _, second := range o.last {
		recent = plus(recent, second.Live)
	}
	if recent.Bad >= 10 && rateOf(recent) > o.level() {
		o.hold = 16
	}
	o.hold = max(0, o.hold-1)
}

func (o *old) level() float64 { return 5*upper(o.seen) + 0.01 }

func (o *old) learn(live judge.Counts) {
	o.short.add(live, 1)
	o.long.add(live, 10)
	o.phi = min(100, 1+1.3*(max(1, o.short.low(), o.long.low())-1))
}

func (o *old) Turn(tick judge.Turn) string {
	t, full := o.add(tick)
	if !full {
		return ""
	}
	if t.NewStep {
		o.step = judge.Turn{}
	}
	o.watch(t)
	by := ""
	switch {
	case o.rail():
		by = "guard"
	case t.Warming || o.hold > 0:
	case o.weigh(t) >= -math.Log(oldAlpha):
		by = "errors"
	}
	o.step.Live, o.step.Candidate = plus(o.step.Live, t.Live), plus(o.step.Candidate, t.Candidate)
	if o.hold == 0 {
		o.learn(t.Live)
	}
	return by
}

// weigh is one turn of 2a.
func (o *old) weigh(t judge.Turn) float64 {
	for i := range o.later {
		o.later[i] = logAdd(o.later[i], o.rest+math.Log(oldH))
	}
	o.rest += math.Log1p(-oldH)
	way := -math.Log(oldAlpha) + math.Log(10)
	c0, cs := 0.4*(way-math.Log(oldW0)), 0.4*(way-math.Log((1-oldW0)*oldH))
	sum := math.Inf(-1)
	for i, gain := range o.gains(t) {
		o.start[i] += min(gain, c0)
		o.later[i] += min(gain, cs)
		sum = logAdd(sum, math.Log(oldW0/10)+o.start[i])
		sum = logAdd(sum, math.Log((1-oldW0)/10)+o.later[i])
	}
	return logAdd(sum, math.Log(1-oldW0)+o.rest)
}

func (o *old) gains(t judge.Turn) (gains [10]float64) {
	xg, xb, n := float64(t.Candidate.Bad), float64(t.Live.Bad), total(t.Candidate)
	phi := o.phi
	if t.Share >= 1 {
		phi = max(phi, 3)
	}
	top := math.Inf(1)
	if phi > 1 {
		top = 0.7 * (1 + 4/(phi-1))
	}
	usual := (total(o.step.Candidate) + 20*t.Share) / (total(o.step.Candidate) + total(o.step.Live) + 20)
	s := (n + 20*usual) / (n + total(t.Live) + 20)
	s0 := s * 1.1 / (s*1.1 + 1 - s)
	q0 := 2 * (1.1*upper(o.seen) + 1e-4)
	for i, r := range oldRatios() {
		if t.Share >= 1 {
			r = max(1, min(r, math.Exp(top), 1/q0))
			gains[i] = (xg*math.Log(r) - n*q0*(r-1)) / phi
			continue
		}
		lb := -math.Log1p(s0 * (r - 1))
		la := lb + math.Log(r)
		if la > top {
			la = top
			lb = math.Log((1 - math.Exp(la)*s0) / (1 - s0))
		}
		gains[i] = (xg*la + xb*lb - 1e-4*n*math.Expm1(la)) / phi
	}
	return gains
}

// rail is 2d.
func (o *old) rail() bool {
	var live, candidate judge.Counts
	seconds := 0
	for _, second := range o.last {
		live, candidate = plus(live, second.Live), plus(candidate, second.Candidate)
		if second.Candidate.Bad > 0 {
			seconds++
		}
	}
	n, x := total(candidate), float64(candidate.Bad)
	return n >= 20 && x >= 0.3*n && x >= 6*o.phi && (n >= 100 || seconds >= 5) &&
		(total(live) < 20 || rateOf(live) < min(0.05+o.level()/5, rateOf(candidate)/2))
}

func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
