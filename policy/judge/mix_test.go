package judge_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

func TestAMixtureIsTheWeightedMeanOfWealth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []judge.Part
		want, left := 0.0, 1.0
		for range rapid.IntRange(0, 6).Draw(t, "parts") {
			p := judge.Part{Weight: rapid.Float64Range(0, left).Draw(t, "weight"), Log: rapid.Float64Range(-30, 30).Draw(t, "log")}
			left -= p.Weight
			want += p.Weight * math.Exp(p.Log)
			parts = append(parts, p)
		}
		want = math.Log(want + left)
		if got := judge.Mix(parts); math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
			t.Fatalf("%v mix to %v, want %v", parts, got, want)
		}
	})
}

func TestOnePartConvictsAllTogetherAtItsShareOfTheRisk(t *testing.T) {
	limit := math.Log(100)
	silent := judge.Part{Weight: 0.6}
	for _, c := range []struct {
		log  float64
		over bool
	}{{limit + math.Log(1/0.4) + 0.001, true}, {limit, false}, {math.Inf(-1), false}, {-math.MaxFloat64 / 2, false}, {800, true}} {
		mixed := judge.Mix([]judge.Part{{Weight: 0.4, Log: c.log}, silent})
		if math.IsNaN(mixed) || mixed >= limit != c.over {
			t.Errorf("ln M = %v with weight 0.4 mixes to %v", c.log, mixed)
		}
	}
}
