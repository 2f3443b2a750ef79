package judge

import "time"

// tail counts from the slow end: element i holds the requests of bucket i and of all slower ones. Element 0 is all of them.
type tail [Buckets]uint64

func (h *Histogram) tail() tail {
	var t tail
	var sum uint64
	for i := Buckets - 1; i >= 0; i-- {
		sum += h[i]
		t[i] = sum
	}
	return t
}

// counts takes what reached a bound for bad.
func (t *tail) counts(bound int) Counts {
	return Counts{Good: t[0] - t[bound+1], Bad: t[bound+1]}
}

// credible reports whether a histogram can be what one turn brought.
func (h *Histogram) credible() bool {
	var sum uint64
	for _, n := range h {
		if n > mostRequests {
			return false
		}
		sum += n
	}
	return sum <= mostRequests
}

// boundFrom is the first bound at or above so many milliseconds, Buckets-1 when none is. What is above by rounding only is not above: 1.1·100 is 110.
func boundFrom(ms float64) int {
	for i, bound := range Bounds() {
		if float64(bound) >= ms*(1-1e-9) {
			return i
		}
	}
	return Buckets - 1
}

// above is the bound nearest above a quantile, Buckets-1 when none is.
func (h *Histogram) above(q float64) int {
	below, of := 0.0, q*float64(h.Total())
	for i, n := range h {
		if below += float64(n); below >= of*(1-1e-9) {
			return i
		}
	}
	return Buckets - 1
}

// Quantile is the time in milliseconds below which the share q of the requests lies, interpolated within its bucket; 0 without requests. The last bucket has no end:
// there it is the last bound, which stands for longer, and for never.
func (h *Histogram) Quantile(q float64) float64 {
	total := h.Total()
	if total == 0 {
		return 0
	}
	bounds := Bounds()
	of := min(max(q, 0), 1) * float64(total)
	below, from := 0.0, 0.0
	for i, bound := range bounds {
		n := float64(h[i])
		if n > 0 && below+n >= of {
			return from + (float64(bound)-from)*max(0, of-below)/n
		}
		below += n
		from = float64(bound)
	}
	return from
}

const (
	lateSlots = 5
	lateSlot  = span / lateSlots
)

// lately holds the times of the last 8 to 10 s.
type lately struct {
	slots  [lateSlots]times
	newest int
	filled time.Duration // of the newest slot
}

func (l *lately) add(t LatencyTurn) {
	for l.filled += t.Length; l.filled >= lateSlot; l.filled -= lateSlot {
		l.newest = (l.newest + 1) % lateSlots
		l.slots[l.newest] = times{}
	}
	l.slots[l.newest].add(t.Live, t.Candidate)
}

func (l *lately) sum() times {
	var sum times
	for i := range l.slots {
		sum.add(&l.slots[i].live, &l.slots[i].candidate)
	}
	return sum
}
