package testenv

import (
	"math"
	"time"
)

const (
	bucketsPerDoubling = 16                      // so a quantile is at most 4.5 % too high
	smallestLatency    = 50 * time.Microsecond   // what is shorter counts as this long
	latencyBuckets     = 22 * bucketsPerDoubling // up to 50 µs × 2²², 210 s
)

// Histogram counts latencies in buckets whose bounds grow by 2^(1/16). Its zero value is empty; a copy is a snapshot.
type Histogram struct {
	counts [latencyBuckets]int64
	total  int64
}

func (h *Histogram) add(d time.Duration) {
	bucket := 0
	if d > smallestLatency {
		bucket = int(math.Ceil(math.Log2(float64(d)/float64(smallestLatency)) * bucketsPerDoubling))
	}
	h.counts[min(bucket, latencyBuckets-1)]++
	h.total++
}

// minus is what was added since an earlier snapshot.
func (h *Histogram) minus(earlier *Histogram) {
	for i := range h.counts {
		h.counts[i] -= earlier.counts[i]
	}
	h.total -= earlier.total
}

// Total is how many latencies were counted.
func (h *Histogram) Total() int64 { return h.total }

// Quantile is a latency that the share q of all latencies does not exceed: the upper bound of its bucket. It is 0 when nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := max(int64(math.Ceil(q*float64(h.total))), 1)
	seen := int64(0)
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return bucketBound(i)
		}
	}
	return bucketBound(latencyBuckets - 1)
}

func bucketBound(bucket int) time.Duration {
	return time.Duration(float64(smallestLatency) * math.Exp2(float64(bucket)/bucketsPerDoubling))
}
