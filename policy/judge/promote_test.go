package judge

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Against a claim that holds, no bet of the bound may be expected to win: exactly, for independent requests.
func TestBetsAgainstAnExcessThatIsThereAreSupermartingales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := [2]int{rapid.IntRange(1, 25).Draw(t, "candidate"), rapid.IntRange(1, 25).Draw(t, "live")}
		rho, phi := rapid.Float64Range(0.5, 3).Draw(t, "ρ"), rapid.Float64Range(1, 100).Draw(t, "φ")
		b := healthyBoundary(n, rho, 1, phi)
		live, excess := rapid.Float64Range(0, 1).Draw(t, "q live"), rapid.Float64Range(0, 1).Draw(t, "excess")
		candidate := min(1, rho*live+excess)
		// Where the sum would be above 1, the excess that is there is smaller than drawn.
		there := candidate - rho*live
		for _, ratio := range claimed() {
			bet := b.against(ratio)
			bet.request *= there
			if e := expectation(bet, n, [2]float64{candidate, live}); e > 1+rounding {
				t.Fatalf("E = %.12f for the claim %v", e, ratio)
			}
		}
	})
}

func TestExcessShrinksWithHealthAndGrowsWithErrors(t *testing.T) {
	e := NewErrors(Settings{Alpha: 0.01, Ratio: 1.1})
	if got := e.Excess(); got != 1 {
		t.Fatalf("%v without evidence", got)
	}
	healthy := Turn{Length: 250 * time.Millisecond, Share: 0.5, Live: Counts{Good: 50}, Candidate: Counts{Good: 50}}
	before := 1.0
	for _, turns := range []int{1, 10, 100, 1000} {
		for range turns {
			e.Turn(healthy)
		}
		now := e.Excess()
		if now >= before {
			t.Errorf("%v after %d turns more, %v before", now, turns, before)
		}
		before = now
	}
	// The rule of three with the price of a mixture and of φ: not much more than ln(20·7)·2/55,550.
	if before > 4e-4 {
		t.Errorf("%v after 55,550 healthy requests", before)
	}
	ill := healthy
	ill.Candidate = Counts{Good: 45, Bad: 5}
	for range 20 {
		e.Turn(ill)
	}
	if now := e.Excess(); now <= before {
		t.Errorf("%v after errors, %v before", now, before)
	}
}

func TestExcessLearnsNothingInIncidentsInTheWarmUpAndWithoutControl(t *testing.T) {
	for name, turn := range map[string]Turn{
		"warming":  {Length: time.Second, Share: 0.5, Live: Counts{Good: 50}, Candidate: Counts{Good: 50}, Warming: true},
		"alone":    {Length: time.Second, Share: 1, Candidate: Counts{Good: 50}},
		"incident": {Length: time.Second, Share: 0.5, Live: Counts{Bad: 50}, Candidate: Counts{Good: 50}},
	} {
		e := NewErrors(Settings{})
		for range 60 {
			e.Observe(Counts{Good: 100}, time.Second)
		}
		for range 100 {
			e.Turn(turn)
		}
		if got := e.Excess(); got != 1 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestExcessAllocatesNothing(t *testing.T) {
	e := NewErrors(Settings{})
	e.Turn(Turn{Length: time.Second, Share: 0.5, Live: Counts{Good: 500}, Candidate: Counts{Good: 500}})
	if n := testing.AllocsPerRun(100, func() { e.Excess() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNextReleaseKeepsWhatWasLearnedOfLiveAndNothingElse(t *testing.T) {
	e := NewErrors(Settings{})
	for i := range 4 * 1800 {
		e.Observe(Counts{Good: 90, Bad: uint64(40 * (i % 80 / 79))}, 250*time.Millisecond)
	}
	for range 10 {
		e.Turn(Turn{Length: time.Second, Share: 0.5, Live: Counts{Good: 500}, Candidate: Counts{Bad: 500}})
	}
	before := e.Evidence()
	if !before.Convicted || before.Phi < 4 {
		t.Fatalf("%+v", before)
	}
	e.Anew(Settings{Alpha: 0.05})
	after := e.Evidence()
	want := Evidence{Limit: math.Log(20), Phi: after.Phi, Level: after.Level}
	if after != want || e.Excess() != 1 {
		t.Errorf("it goes on with %+v", after)
	}
	if math.Abs(after.Phi/before.Phi-1) > 0.1 || math.Abs(after.Level/before.Level-1) > 0.1 {
		t.Errorf("φ went from %v to %v, the level from %v to %v", before.Phi, after.Phi, before.Level, after.Level)
	}
}

// A service whose errors came in bursts for a day and no longer do is judged so after an hour, and not after another day.
func TestNextReleaseCanStillLearnThatLiveHasChanged(t *testing.T) {
	e := NewErrors(Settings{})
	for range 50 {
		for i := range 4 * 1800 {
			e.Observe(Counts{Good: 90, Bad: uint64(40 * (i % 80 / 79))}, 250*time.Millisecond)
		}
	}
	e.Anew(Settings{})
	before := e.Evidence().Phi
	for range 4 * 3600 {
		e.Observe(Counts{Good: 99, Bad: 1}, 250*time.Millisecond)
	}
	if now := e.Evidence().Phi; now > before/3 {
		t.Errorf("φ was %v and is %v an hour later", before, now)
	}
}

func TestZeroValueBeginsAnew(t *testing.T) {
	var e Errors
	e.Anew(Settings{})
	if found := e.Evidence(); found != NewErrors(Settings{}).Evidence() {
		t.Errorf("%+v", found)
	}
}

// The bound is the least excess that is refuted, which halving an interval finds, too.
func TestTheBoundIsTheLeastExcessThatIsRefuted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x excess
		for i := range claims {
			x.won[i] = rapid.Float64Range(-1e4, 10).Draw(t, "won")
			x.paid[i] = rapid.SampledFrom([]float64{0, 1, 30, 1e3, 1e6, 1e9}).Draw(t, "paid") * rapid.Float64Range(0, 1).Draw(t, "part")
		}
		refutes := func(d float64) bool {
			log, _ := x.wealth(d)
			return log >= -math.Log(excessAlpha)
		}
		low, high := 0.0, 1.0
		for range 60 {
			if middle := (low + high) / 2; refutes(middle) {
				high = middle
			} else {
				low = middle
			}
		}
		if refutes(0) {
			high = 0
		}
		if got := x.bound(); got < high-1e-12 || got > high+2*exactly {
			t.Fatalf("%v, not %v", got, high)
		}
	})
}
