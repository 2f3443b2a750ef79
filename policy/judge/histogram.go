package judge

import (
	"fmt"
	"strconv"
	"strings"
)

// Buckets is how many buckets a Histogram has: one below each bound, and one beyond the last.
const Buckets = 87

// Histogram counts the requests of one arm by how long they took. Bucket i holds those of at least Bounds()[i-1] and less than Bounds()[i]; the last one holds what was
// slower than every bound, and what never finished.
type Histogram [Buckets]uint64

// Bounds are the bounds of a Histogram's buckets, rising, in milliseconds. From 10 ms on they grow by about a tenth, on whole bins of Envoy's histograms: a bin is 1 ms
// wide below 100 ms, 10 ms below 1 s, and so on (envoy-measured.md §14).
func Bounds() [Buckets - 1]int {
	return [...]int{
		1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
		11, 12, 13, 14, 15, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 61, 67, 74, 81, 90, 100,
		110, 120, 130, 150, 170, 190, 210, 230, 250, 280, 310, 340, 370, 410, 450, 500, 550, 610, 670, 740, 810, 900, 1000,
		1100, 1200, 1300, 1500, 1700, 1900, 2100, 2300, 2500, 2800, 3100, 3400, 3700, 4100, 4500, 5000, 5500, 6100, 6700, 7400, 8100, 9000, 10000,
		12000, 15000, 20000, 30000, 60000, 120000,
	}
}

// Total is how many requests a histogram counts.
func (h *Histogram) Total() uint64 {
	var sum uint64
	for _, n := range h {
		sum += n
	}
	return sum
}

// Add adds another histogram.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other {
		h[i] += n
	}
}

// Sample is what requests reported of one quantity in one interval: the sum over Count of them. Count is 0 when nothing came, and 1 for a gauge that was read once.
type Sample struct {
	Sum   float64 `json:"sum"`
	Count uint64  `json:"count"`
}

// Mean is a sample's mean; it has none without a count, and is 0 then.
func (s Sample) Mean() float64 {
	if s.Count == 0 {
		return 0
	}
	return s.Sum / float64(s.Count)
}

// MarshalText writes the buckets that hold something, as "17:3 18:240": most are empty.
func (h Histogram) MarshalText() ([]byte, error) {
	var text []byte
	for i, n := range h {
		if n == 0 {
			continue
		}
		if len(text) > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendInt(text, int64(i), 10)
		text = append(text, ':')
		text = strconv.AppendUint(text, n, 10)
	}
	return text, nil
}

// UnmarshalText reads what MarshalText wrote. Anything else is an error and changes nothing.
func (h *Histogram) UnmarshalText(text []byte) error {
	var read Histogram
	for word := range strings.FieldsSeq(string(text)) {
		bucket, count, _ := strings.Cut(word, ":")
		i, err := strconv.ParseUint(bucket, 10, 16)
		if err != nil || i >= Buckets {
			return fmt.Errorf("read a histogram: %q is not a bucket below %d and its count", word, Buckets)
		}
		if read[i], err = strconv.ParseUint(count, 10, 64); err != nil {
			return fmt.Errorf("read a histogram: %q is not a bucket below %d and its count", word, Buckets)
		}
	}
	*h = read
	return nil
}
