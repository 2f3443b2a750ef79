package judge_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

func TestHistogramsComeBackFromTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h, back judge.Histogram
		for range rapid.IntRange(0, 5).Draw(t, "buckets") {
			h[rapid.IntRange(0, judge.Buckets-1).Draw(t, "bucket")] = rapid.Uint64().Draw(t, "count")
		}
		text, err := h.MarshalText()
		if err == nil {
			err = back.UnmarshalText(text)
		}
		if err != nil || back != h {
			t.Fatalf("%v became %q became %v, %v", h, text, back, err)
		}
	})
}

func TestTextThatIsNoHistogramChangesNothing(t *testing.T) {
	for _, text := range []string{"87:1", "-1:1", "1", "1:", ":1", "1:-1", "1:18446744073709551616", "1:1.5", "a:b", "1:2:3"} {
		h := judge.Histogram{3: 5}
		if err := h.UnmarshalText([]byte(text)); err == nil || h != (judge.Histogram{3: 5}) {
			t.Errorf("%q: %v, %v", text, h, err)
		}
	}
}

func TestBoundsRiseByAboutATenth(t *testing.T) {
	bounds := judge.Bounds()
	for i := 1; i < len(bounds); i++ {
		if ratio := float64(bounds[i]) / float64(bounds[i-1]); bounds[i] <= bounds[i-1] || bounds[i-1] >= 10 && bounds[i-1] < 10000 && ratio > 1.16 {
			t.Errorf("%d ms follows %d ms", bounds[i], bounds[i-1])
		}
	}
}
