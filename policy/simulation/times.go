package simulation

import (
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Times is how long the requests of a healthy arm take: they are log-normal, which two quantiles settle. P99 is not below P50, and P50 is above 0.
type Times struct{ P50, P99 time.Duration }

// normal99 is the 99 % quantile of the standard normal distribution.
const normal99 = 2.3263478740408408

// shape is a distribution of times: for each bucket of a judge.Histogram, the part of the requests that are in it or below.
type shape [judge.Buckets]float64

// shape is the distribution when a part of the requests takes so many times as long.
func (t Times) shape(part, slower float64) *shape {
	s := &shape{}
	for i, bound := range judge.Bounds() {
		s[i] = (1-part)*t.below(float64(bound)) + part*t.below(float64(bound)/slower)
	}
	s[judge.Buckets-1] = 1
	return s
}

// below is the part of the requests that take less than so many milliseconds.
func (t Times) below(ms float64) float64 {
	median := float64(t.P50) / float64(time.Millisecond)
	sigma := math.Log(float64(t.P99)/float64(t.P50)) / normal99
	if !(sigma > 0) {
		return pick(ms > median, 1, 0)
	}
	return 0.5 * math.Erfc(-math.Log(ms/median)/sigma/math.Sqrt2)
}

func pick(first bool, a, b float64) float64 {
	if first {
		return a
	}
	return b
}

// oneByOne is up to how many requests are drawn each by itself; of more, each bucket's count is.
const oneByOne = 64

// draw adds the times of so many requests. Of many, their number is met on average only.
func (s *shape) draw(random *rand.Rand, n uint64, into *judge.Histogram) {
	if n <= oneByOne {
		for range n {
			into[sort.SearchFloat64s(s[:], random.Float64())]++
		}
		return
	}
	below := 0.0
	for i, upTo := range s {
		if mean := float64(n) * (upTo - below); mean > 0 {
			into[i] += poisson(random, mean)
		}
		below = upTo
	}
}
