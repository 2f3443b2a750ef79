package envoy

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Envoy counts whole milliseconds, in bins on two significant digits: 10 to 99 are bins of their own, 100 to 109 is one. What it reports of a bound le is
// (envoy-measured.md §14)
//
//   - from 1.38 on, all bins that begin at le or below it, the bin that le lies in included;
//   - before, the bins that end at le or below it.
//
// The bound that it means is the end of the last bin counted, and that is what is compared here. A bootstrap asks for the middles of the bins before the bounds of
// judge.Histogram: where a bin begins Envoy says with a rounding error, so that le 110 may or may not be in the bin from 110 on.

// fine is where bins of 1 ms begin. Below, Envoy's are a tenth of that, so each whole millisecond has one to itself.
const fine = 10

// maxBound is beyond every bound in use: some 30 years.
const maxBound = 1e12

// binWidth is how wide the bin is that a time of at least fine lies in.
func binWidth(ms float64) float64 {
	width := 1.0
	for limit := 100.0; ms >= limit && limit < maxBound; limit *= 10 {
		width *= 10
	}
	return width
}

// meant is the bound, in whole milliseconds, that an Envoy means by le.
func meant(le float64, v version) float64 {
	switch {
	case le >= maxBound:
		return maxBound
	case le < fine && v.before(38):
		return math.Floor(le-0.1) + 1 // the bin of n ms ends at n.1
	case le < fine:
		return math.Floor(le) + 1
	}
	width := binWidth(le)
	bin := math.Floor(le / width)
	if v.before(38) || bin/10*(10*width) > le { // reckoned as Envoy does
		return bin * width
	}
	return (bin + 1) * width
}

// asked are the bounds to ask an Envoy for so that it means judge.Bounds.
func asked() []float64 {
	var bounds []float64
	for _, bound := range judge.Bounds() {
		switch last := float64(bound - 1); {
		case last == 0:
			bounds = append(bounds, 0.5) // Envoy takes no bound of 0
		case last < fine:
			bounds = append(bounds, last+0.05)
		default:
			width := binWidth(last)
			bounds = append(bounds, math.Floor(last/width)*width+width/2)
		}
	}
	return bounds
}

// timeBuckets are the bounds of a bootstrap's histograms.
func timeBuckets() string {
	var words []string
	for _, bound := range asked() {
		words = append(words, strconv.FormatFloat(bound, 'f', -1, 64))
	}
	return strings.Join(words, ", ")
}

// buckets is one histogram as it was reported: how many took less than each bound. It is reused.
type buckets struct {
	bounds []float64 // le
	counts []uint64  // cumulative
	total  uint64
}

func (b *buckets) reset() { b.bounds, b.counts, b.total = b.bounds[:0], b.counts[:0], 0 }

var errBuckets = errors.New("a histogram whose bounds or counts do not rise, or go beyond reason")

// check refuses what is no histogram.
func (b *buckets) check() error {
	last, below := 0.0, uint64(0)
	for i, bound := range b.bounds {
		if !(bound > last) || b.counts[i] < below {
			return errBuckets
		}
		last, below = bound, b.counts[i]
	}
	if b.total < below || b.total >= maxCount {
		return errBuckets
	}
	return nil
}

// scale turns the histograms of one Envoy into ours.
type scale struct {
	version version
	bounds  []float64 // le, as they came last
	ends    []float64 // what is meant by them
	exact   bool      // they are ours
}

// learn notes the bounds of a histogram. Those of one Envoy are always the same.
func (s *scale) learn(bounds []float64) {
	if s.bounds != nil && slices.Equal(s.bounds, bounds) {
		return
	}
	ours := judge.Bounds()
	s.bounds, s.ends, s.exact = append(s.bounds[:0], bounds...), s.ends[:0], len(bounds) == len(ours)
	for i, le := range bounds {
		end := meant(le, s.version)
		s.ends = append(s.ends, end)
		s.exact = s.exact && end == float64(ours[i])
	}
}

// convert fills h. Bounds that are not ours are interpolated between, as if the times in a bucket were spread evenly; beyond the last one all is as slow as can be.
func (s *scale) convert(b *buckets, h *judge.Histogram) error {
	if err := b.check(); err != nil {
		return err
	}
	s.learn(b.bounds)
	var below uint64 // of the bound before
	at := 0
	for i, bound := range judge.Bounds() {
		var upTo uint64
		if s.exact {
			upTo = b.counts[i]
		} else {
			upTo, at = s.below(b, float64(bound), at)
		}
		h[i] = upTo - below
		below = upTo
	}
	h[len(h)-1] = b.total - below
	return nil
}

// below is how many took less than a bound. It starts to look at the bucket that the bound before was in, and returns its own.
func (s *scale) below(b *buckets, bound float64, at int) (uint64, int) {
	for at < len(s.ends) && s.ends[at] <= bound {
		at++
	}
	var begin float64
	var before uint64
	if at > 0 {
		begin, before = s.ends[at-1], b.counts[at-1]
	}
	if at == len(s.ends) {
		return before, at
	}
	inside := b.counts[at] - before
	part := float64(inside) * (bound - begin) / (s.ends[at] - begin)
	return before + min(uint64(math.Round(part)), inside), at
}
