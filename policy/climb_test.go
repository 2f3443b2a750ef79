package policy

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// climbing is a climb at 1 % with enough seen to step.
func climbing(rate, excess float64) Climbed {
	return Climbed{Weight: 100, Rate: rate, Excess: excess, Elapsed: 2 * time.Second, Requests: 10}
}

func TestClimbStepsAsTheEvidenceAllows(t *testing.T) {
	for name, test := range map[string]struct {
		at   Climbed
		want Weight
	}{
		"doubles at most":                         {climbing(100, 0.001), 200},
		"without evidence to 5 % at most":         {Climbed{Weight: 400, Rate: 100, Excess: 1, Elapsed: 2 * time.Second, Requests: 10}, 500},
		"and no further":                          {Climbed{Weight: 500, Rate: 100, Excess: 1, Elapsed: 2 * time.Second, Requests: 10}, 0},
		"a tenth of a second of outage":           {Climbed{Weight: 1000, Rate: 10000, Excess: 0.4, Elapsed: 2 * time.Second, Requests: 10}, 1250},
		"one request whatever the rate":           {Climbed{Weight: 2000, Rate: 1, Excess: 0.125, Elapsed: 60 * time.Second, Requests: 10}, 4000},
		"never beyond half":                       {Climbed{Weight: 4000, Rate: 100, Excess: 0, Elapsed: 2 * time.Second, Requests: 10}, 5000},
		"never beyond the plan's top":             {Climbed{Weight: 2000, Top: 3000, Rate: 100, Excess: 0, Elapsed: 2 * time.Second, Requests: 10}, 3000},
		"not for less than a tenth more":          {Climbed{Weight: 1000, Rate: 10000, Excess: 0.46, Elapsed: 2 * time.Second, Requests: 10}, 0},
		"but the last step may be small":          {Climbed{Weight: 4800, Rate: 10000, Excess: 0.001, Elapsed: 2 * time.Second, Requests: 10}, 5000},
		"never down":                              {Climbed{Weight: 2000, Rate: 10000, Excess: 0.5, Elapsed: 2 * time.Second, Requests: 10}, 0},
		"stays at the top":                        {Climbed{Weight: 5000, Rate: 100, Excess: 0, Elapsed: time.Hour, Requests: 10}, 0},
		"stays above the top, where an edit left": {Climbed{Weight: 7000, Rate: 100, Excess: 0, Elapsed: time.Hour, Requests: 10}, 0},
		"not before a second and a half":          {Climbed{Weight: 100, Rate: 100, Excess: 0, Elapsed: 1499 * time.Millisecond, Requests: 10}, 0},
		"not before five requests":                {Climbed{Weight: 100, Rate: 100, Excess: 0, Elapsed: time.Hour, Requests: 4}, 0},
		"not on hold":                             {Climbed{Weight: 100, Rate: 100, Excess: 0, Elapsed: time.Hour, Requests: 10, Hold: true}, 0},
		"not without a rate":                      {climbing(0, 0), 0},
		"not when the rate is no number":          {climbing(math.NaN(), 0), 0},
		"not when the excess is no number":        {climbing(100, math.NaN()), 0},
	} {
		if got := (Climb{From: 100}).Next(test.at); got != test.want {
			t.Errorf("%s: %s, not %s", name, got, test.want)
		}
	}
}

func TestClimbIsReadyAtTheTopWithNoExcessLeft(t *testing.T) {
	ready := Climbed{Weight: 5000, Rate: 100, Excess: 0.005, Elapsed: 5 * time.Second, Requests: 10}
	if !(Climb{}).Ready(ready) {
		t.Error("it is not")
	}
	for name, spoil := range map[string]func(at *Climbed){
		"below the top":   func(at *Climbed) { at.Weight = 4999 },
		"excess":          func(at *Climbed) { at.Excess = 0.0051 },
		"no number":       func(at *Climbed) { at.Excess = math.NaN() },
		"too early":       func(at *Climbed) { at.Elapsed-- },
		"on hold":         func(at *Climbed) { at.Hold = true },
		"no requests yet": func(at *Climbed) { at.Requests = 4 },
	} {
		at := ready
		spoil(&at)
		if (Climb{}).Ready(at) {
			t.Errorf("ready with %s", name)
		}
	}
}

func TestClimbStartsHigherWhereTrafficIsLow(t *testing.T) {
	climb := Climb{From: 100}
	for rate, want := range map[float64]Weight{0: 1000, 4.9: 1000, 5: 100, 1e4: 100} {
		if got := climb.First(rate); got != want {
			t.Errorf("%v requests/s: %s, not %s", rate, got, want)
		}
	}
	if got := climb.First(math.NaN()); got != 100 {
		t.Errorf("a rate that is no number: %s", got)
	}
	if got := (Climb{From: 2000}).First(1); got != 2000 {
		t.Errorf("the plan's own is more, but it starts at %s", got)
	}
}

// Whatever the climb is told, a step is up, at most doubles, stays below the top and costs no more than its budget.
func TestClimbKeepsItsPromisesOnAnyInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1), rapid.Float64Range(0, 1e6), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}))
		at := Climbed{
			Weight: Weight(rapid.IntRange(-10, 20000).Draw(t, "weight")), Top: Weight(rapid.IntRange(-10, 20000).Draw(t, "top")),
			Rate: number.Draw(t, "rate"), Excess: number.Draw(t, "excess"),
			Elapsed: time.Duration(rapid.Int64().Draw(t, "elapsed")), Requests: rapid.Uint64Range(0, 20).Draw(t, "requests"), Hold: rapid.Bool().Draw(t, "hold"),
		}
		next := Climb{From: 100}.Next(at)
		if next == 0 {
			return
		}
		cost := at.Rate * next.Share() * climbReact.Seconds() * at.Excess
		if next <= at.Weight || next > 2*at.Weight || next > climbTop || at.Top > 0 && next > at.Top || at.Hold || cost > max(1, 0.1*at.Rate)*(1+1e-9) {
			t.Fatalf("%+v: to %s", at, next)
		}
	})
}
