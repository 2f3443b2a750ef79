package judge

import "time"

const (
	shortest     = 100 * time.Millisecond // a turn counts as at least this long, so that rings of fixed size hold their spans
	longest      = 5 * time.Second
	span         = 10 * time.Second // what windows hold
	slots        = int(span / shortest)
	mostRequests = 1 << 32 // more requests than this in one turn are no count but a counter that went backwards
)

// ring numbers the newest turns that together last no longer than a span. What belongs to a turn lies in an array of its owner, at the turn's number modulo
// the array's length, so that one ring serves arrays of different sizes.
type ring struct {
	lengths [slots]time.Duration
	next    uint64 // number of the turn that comes
	n       int    // turns held: next-n to next-1
	total   time.Duration
}

// drop makes room for a turn of the given length. The turns dropped are those from first to before end.
func (r *ring) drop(length, span time.Duration) (first, end uint64) {
	first = r.next - uint64(r.n)
	for r.n > 0 && r.total+length > span {
		r.total -= r.length(r.next - uint64(r.n))
		r.n--
	}
	return first, r.next - uint64(r.n)
}

// push adds a turn and returns its number. The newest turn is held even if it alone is longer than the span.
func (r *ring) push(length, span time.Duration) uint64 {
	r.drop(length, span)
	number := r.next
	r.lengths[number%uint64(slots)] = length
	r.next++
	r.n++
	r.total += length
	return number
}

// back is the number of the turn i turns before the newest; i is below n.
func (r *ring) back(i int) uint64 { return r.next - 1 - uint64(i) }

// length is how long a turn that is held lasted.
func (r *ring) length(number uint64) time.Duration { return r.lengths[number%uint64(slots)] }

// arms are what both arms finished in one turn.
type arms struct{ live, candidate Counts }

func (a *arms) add(b arms) {
	a.live.add(b.live)
	a.candidate.add(b.candidate)
}

func (a *arms) take(b arms) {
	a.live.take(b.live)
	a.candidate.take(b.candidate)
}

// window holds the counts of the last ten seconds, turn by turn.
type window struct {
	ring  ring
	turns [slots]arms
	sum   arms // of the turns held
}

// drop makes room for a turn of the given length. The turns dropped are those from first to before end.
func (w *window) drop(length time.Duration) (first, end uint64) {
	first, end = w.ring.drop(length, span)
	for number := first; number < end; number++ {
		w.sum.take(w.turns[number%uint64(slots)])
	}
	return first, end
}

func (w *window) add(length time.Duration, a arms) {
	w.drop(length)
	w.turns[w.ring.push(length, span)%uint64(slots)] = a
	w.sum.add(a)
}

// back is the turn i turns before the newest.
func (w *window) back(i int) (arms, time.Duration) {
	number := w.ring.back(i)
	return w.turns[number%uint64(slots)], w.ring.length(number)
}

// last sums the turns that lie wholly in the last d, and the newest in any case.
func (w *window) last(d time.Duration) arms {
	if d >= w.ring.total {
		return w.sum
	}
	var sum arms
	var length time.Duration
	for i := range w.ring.n {
		turn, lasted := w.back(i)
		if length += lasted; length > d && i > 0 {
			break
		}
		sum.add(turn)
	}
	return sum
}
