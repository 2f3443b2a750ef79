package policy

import "time"

// Rung is one weight of a plan and the least time a release stays there.
type Rung struct {
	Weight Weight
	Dwell  time.Duration
}

// linearRungs is how many rungs a linear plan is climbed in: steps of 5 %.
const linearRungs = 20

// Rungs returns the weights that a plan climbs, strictly rising; the last one is full weight less the holdback, where the release bakes. The plan must
// have its defaults. Steps above the last rung are left out: a holdback takes precedence. Of a climb by evidence only the last one is known beforehand.
func (p Plan) Rungs() []Rung {
	top := p.top()
	var rungs []Rung
	for _, rung := range p.shape() {
		if rung.Weight < top {
			rungs = append(rungs, rung)
		}
	}
	return append(rungs, Rung{Weight: top, Dwell: p.Bake.Std()})
}

// top is the most a release weighs before it is committed.
func (p Plan) top() Weight { return min(Full-*p.Holdback, MaxRunning) }

// shape lists the rungs below the top, and perhaps some above it.
func (p Plan) shape() []Rung {
	switch {
	case p.Linear != nil:
		return p.Linear.rungs()
	case p.Exponential != nil:
		return p.Exponential.rungs()
	case p.Evidence != nil || p.Cutover != nil:
		return nil
	}
	rungs := make([]Rung, len(p.Steps))
	for i, weight := range p.Steps {
		rungs[i] = Rung{Weight: weight, Dwell: p.Soak.Std()}
	}
	return rungs
}

func (l Linear) rungs() []Rung {
	rungs := make([]Rung, linearRungs)
	for i := range rungs {
		rungs[i] = Rung{Weight: Full * Weight(i+1) / linearRungs, Dwell: l.Over.Std() / linearRungs}
	}
	return rungs
}

func (e Exponential) rungs() []Rung {
	var rungs []Rung
	for weight := float64(e.From); weight < float64(Full); weight *= e.Factor {
		// Rounding may repeat a weight when the factor is close to 1.
		if next := Weight(weight); len(rungs) == 0 || next > rungs[len(rungs)-1].Weight {
			rungs = append(rungs, Rung{Weight: next, Dwell: e.Every.Std()})
		}
	}
	return rungs
}

// first returns the weight a plan starts with.
func (p Plan) first() Weight {
	if p.Evidence != nil {
		return p.Evidence.From
	}
	return p.Rungs()[0].Weight
}

// Above returns the next weight of the plan above one, and whether there is one; of a climb by evidence the most that it may step to. It goes by weight, not by number, so
// that a plan may be edited while it is climbed.
func (p Plan) Above(weight Weight) (Weight, bool) {
	if p.Evidence != nil {
		return p.Evidence.above(weight, p.top())
	}
	for _, rung := range p.Rungs() {
		if rung.Weight > weight {
			return rung.Weight, true
		}
	}
	return 0, false
}

// dwell returns how long a release stays at weight at least, without the warm-up. A weight that is no step of the plan, because another plan led to it, lasts a soak, and
// one above the top bakes like the top.
func (p Plan) dwell(weight Weight) time.Duration {
	switch {
	case p.Evidence != nil:
		return p.climbDwell(weight)
	case p.tops(weight):
		return p.Bake.Std()
	}
	for _, rung := range p.Rungs() {
		if rung.Weight == weight {
			return rung.Dwell
		}
	}
	return p.Soak.Std()
}

// climbDwell is dwell for a climb by evidence. With half of the traffic held back, where the climb ends is where the release bakes: first the one, then the other.
func (p Plan) climbDwell(weight Weight) time.Duration {
	switch {
	case p.tops(weight) && weight > climbTop:
		return p.Bake.Std()
	case p.tops(weight):
		return climbSteady + p.Bake.Std()
	case weight >= climbTop:
		return climbSteady
	}
	return climbPause
}

// tops reports whether weight is the plan's last: the next move is the commit.
func (p Plan) tops(weight Weight) bool {
	_, more := p.Above(weight)
	return !more
}
