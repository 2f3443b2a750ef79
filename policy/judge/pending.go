package judge

import (
	"math"
	"slices"
	"time"
)

const (
	pendingSlots = 16               // of the time within which what is in progress may be young
	lasting      = 6                // turns that a loss must last
	calmOver     = 10 * time.Second // what was counted is forgotten after so long, and twice that at most, when it is over
)

// Pending finds the requests of one arm that no time is ever reported for: those that hang and those whose clients gave up. Its zero value is ready to use, but counts
// nothing that hangs before After has said from when on.
//
// With all that was issued, finished and is in progress known, I - F - min(A, Y) requests are lost, where Y were issued lately, within After and what reports may be
// late: if A ≤ Y, all that is in progress may be young, and what is neither that nor finished was given up; if A > Y, at least A - Y have gone on for too long. For a
// healthy arm this is never above 0, whatever its rate and however its proxies' reports are split and delayed, as long as the three numbers of one report come
// together. A rise is counted once, and only if it lasts for six turns: a turn in which numbers do not fit together counts
// nothing, and statistics have time to tell that a request has ended of which load reports say nothing.
//
// A proxy that vanishes with requests in progress looks like its clients gave up. After a change of leader Pending begins anew.
type Pending struct {
	after  time.Duration
	late   time.Duration
	width  time.Duration            // of a slot
	issued [pendingSlots + 1]uint64 // by slot; together they hold what was issued within after+late, and up to a slot more
	young  uint64                   // their sum
	newest int
	filled time.Duration // of the newest slot

	begun   bool
	open    int64          // issued and not finished
	lost    [lasting]int64 // of the newest turns
	counted int64          // of the lost, those that were counted
	most    int64          // lost at most, since calm began
	calm    time.Duration
	due     uint64 // counted, and not yet settled
}

// After sets how long a request may go on before it counts; 0 is for ever, and more than an hour is an hour. See Latency.HungAfter. Before every turn is not too often.
func (p *Pending) After(after time.Duration) {
	if after = min(max(0, after), time.Hour); after != p.after {
		p.after = after
		p.widen()
	}
}

// widen takes all that was issued for young: with other slots it is not known any more when it was.
func (p *Pending) widen() {
	p.width = max(1, (p.after+p.late+pendingSlots-1)/pendingSlots)
	p.issued = [pendingSlots + 1]uint64{p.young}
	p.newest, p.filled = 0, 0
}

// Turn takes what was issued and what finished in one turn, and what is in progress at its end, and returns how many requests it newly counts as slow. A turn without
// a length or with numbers above 2^32 is no reading: what was in progress before it is not known any more.
func (p *Pending) Turn(length time.Duration, issued, finished, active uint64) (slow uint64) {
	if length <= 0 || max(issued, finished, active) > mostRequests {
		p.begun = false
		return 0
	}
	length = fitLength(length)
	p.age(length)
	if !p.begun {
		p.begin(active)
		return 0
	}
	p.issued[p.newest] += issued
	p.young += issued
	p.open += int64(issued) - int64(finished)
	return p.count(length, p.open-p.progress(active))
}

// begin takes all that is in progress for young.
func (p *Pending) begin(active uint64) {
	p.begun, p.open, p.young = true, int64(active), active
	p.widen()
	p.lost, p.counted, p.most, p.calm, p.due = [lasting]int64{}, 0, 0, 0, 0
}

// progress is how many of those in progress may be young.
func (p *Pending) progress(active uint64) int64 {
	if p.after == 0 {
		return int64(active)
	}
	return int64(min(active, p.young))
}

// age moves what was issued towards being old.
func (p *Pending) age(length time.Duration) {
	// What a report tells is up to three turns old. Whole seconds, so that turns that are never of quite the same length do not widen again and again.
	if late := (3*length + time.Second - 1).Truncate(time.Second); late > p.late {
		p.late = late
		p.widen()
	}
	for p.filled += length; p.filled >= p.width; p.filled -= p.width {
		p.newest = (p.newest + 1) % len(p.issued)
		p.young -= p.issued[p.newest]
		p.issued[p.newest] = 0
	}
}

// count notes how many are lost and returns how many of them are new.
func (p *Pending) count(length time.Duration, lost int64) (slow uint64) {
	copy(p.lost[1:], p.lost[:])
	p.lost[0] = lost
	if least := slices.Min(p.lost[:]); least > p.counted {
		slow = uint64(least - p.counted)
		p.counted = least
	}
	p.due += slow
	p.most = max(p.most, lost)
	if p.calm += length; p.calm >= calmOver {
		p.counted = min(p.counted, p.most)
		p.most, p.calm = math.MinInt64, 0
	}
	return slow
}

// Settle puts what Turn counted since the last Settle into the last bucket of the arm's times. Counted requests that have ended since then show up among the times,
// if late: so many as have ended are taken out of the buckets beyond After, so that each counts once.
func (p *Pending) Settle(h *Histogram) {
	if ended := p.counted - slices.Max(p.lost[:]); ended > 0 && p.after > 0 {
		p.counted -= h.drop(boundFrom(milliseconds(p.after))+1, ended)
	}
	h[Buckets-1] += p.due
	p.due = 0
}

// drop takes at most so many requests out of the buckets from first on, the slowest first, and returns how many.
func (h *Histogram) drop(first int, most int64) (dropped int64) {
	for i := Buckets - 1; i >= first && dropped < most; i-- {
		out := min(h[i], uint64(most-dropped))
		h[i] -= out
		dropped += int64(out)
	}
	return dropped
}
