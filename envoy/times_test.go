package envoy

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// bin is the bin of Envoy's histograms that a time lies in: [from, to). The rounding errors are Envoy's.
func bin(ms int) (from, to float64) {
	if ms == 0 {
		return 0, 0
	}
	unit, digits := 0.1, 10*ms
	for digits >= 100 {
		unit, digits = 10*unit, digits/10
	}
	return float64(digits) / 10 * (math.Round(100*unit) / 10), float64(digits+1) * unit
}

// reported is what an Envoy of that version reports of times, as measured with the detailed histograms of its admin interface beside what its sink sent.
func reported(v version, bounds []float64, times []int) *buckets {
	b := &buckets{bounds: bounds, total: uint64(len(times))}
	for _, le := range bounds {
		var n uint64
		for _, ms := range times {
			from, to := bin(ms)
			if v.before(38) && to <= le+1e-9 || !v.before(38) && from <= le {
				n++
			}
		}
		b.counts = append(b.counts, n)
	}
	return b
}

// exactly is a histogram of times.
func exactly(times []int) *judge.Histogram {
	var h judge.Histogram
	bounds := judge.Bounds()
	for _, ms := range times {
		i, found := slices.BinarySearch(bounds[:], ms)
		if found {
			i++
		}
		h[i]++
	}
	return &h
}

func drawTimes(t *rapid.T) []int {
	return rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 120), rapid.IntRange(90, 1200), rapid.IntRange(900, 200_000)), 0, 60).Draw(t, "times")
}

func TestTimesByOurBoundsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := drawTimes(t)
		s := scale{version: version{1, 40}}
		var got judge.Histogram
		if err := s.convert(reported(s.version, asked(), times), &got); err != nil {
			t.Fatal(err)
		}
		if !s.exact || got != *exactly(times) {
			t.Fatalf("got %v, want %v", got, *exactly(times))
		}
	})
}

func TestTimesByOtherBoundsAreNeverLostAndNeverFarOff(t *testing.T) {
	envoys := []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}
	rapid.Check(t, func(t *rapid.T) {
		times := drawTimes(t)
		s := scale{version: version{1, rapid.SampledFrom([]uint64{36, 37, 38, 40}).Draw(t, "minor")}}
		bounds := rapid.SampledFrom([][]float64{envoys, asked(), {12.5, 99, 101, 110, 120, 5000}, {100}, nil}).Draw(t, "bounds")
		b := reported(s.version, bounds, times)
		var got judge.Histogram
		if err := s.convert(b, &got); err != nil {
			t.Fatal(err)
		}
		if got.Total() != uint64(len(times)) {
			t.Fatalf("%d of %d are left", got.Total(), len(times))
		}
		// At a bound that both have the counts are the same.
		var below, want uint64
		for i, bound := range judge.Bounds() {
			below, want = below+got[i], want+exactly(times)[i]
			if slices.Contains(s.ends, float64(bound)) && below != want {
				t.Fatalf("%d took less than %d ms, want %d (bounds %v mean %v)", below, bound, want, s.bounds, s.ends)
			}
		}
	})
}

func TestBetweenOtherBoundsTimesAreSpreadEvenly(t *testing.T) {
	s := scale{version: version{1, 40}}
	var got judge.Histogram
	// 100 of at least 10 and less than 20 ms, and 7 that took longer than anything.
	if err := s.convert(&buckets{bounds: []float64{9, 19}, counts: []uint64{0, 100}, total: 107}, &got); err != nil {
		t.Fatal(err)
	}
	same(t, "from 10 to 15", got[10:15], []uint64{10, 10, 10, 10, 10})
	same(t, "15 and 16", got[15], 20)
	same(t, "from 17 to 20", got[16]+got[17], 30)
	same(t, "slower than anything", got[judge.Buckets-1], 7)
}

func TestWhatIsNoHistogramIsRefused(t *testing.T) {
	for name, b := range map[string]buckets{
		"counts that fall":       {[]float64{1, 2}, []uint64{3, 2}, 5},
		"bounds that fall":       {[]float64{2, 1}, []uint64{1, 2}, 5},
		"a bound that is none":   {[]float64{1, math.NaN()}, []uint64{1, 2}, 5},
		"a bound below zero":     {[]float64{-1}, []uint64{1}, 5},
		"more than there were":   {[]float64{1}, []uint64{6}, 5},
		"more than there can be": {[]float64{1}, []uint64{6}, 1 << 63},
	} {
		var s scale
		var got judge.Histogram
		if err := s.convert(&b, &got); err == nil || got != (judge.Histogram{}) {
			t.Errorf("%s: %v, %v", name, err, got)
		}
	}
}
