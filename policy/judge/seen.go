package judge

import (
	"math"
	"time"
)

const (
	seenOver   = time.Second
	seenLeast  = 20   // candidate requests that should have been issued
	seenPart   = 0.25 // of them, below which the candidate is cut off
	seenRarely = 0.1  // the same where they took longer than a second
	seenEmpty  = 2    // turns in a row that may bring nothing
)

// Issued is how many tries proxies started to each arm in one turn.
type Issued struct{ Live, Candidate uint64 }

// Seen convicts a candidate that gets far less traffic than its share says: proxies have ejected it or cannot reach it, so there are hardly any errors to count.
// It may be fed only with requests from proxies that held the present share all turn long. Its zero value is ready to use.
type Seen struct {
	recent window // requests issued, as Good, in the steady turns of the last 10 s
	fresh  int    // newest turns that are of the present share, without a gap
	share  float64
	empty  int           // newest turns that brought nothing
	late   time.Duration // their time: what comes next counts as the traffic of it, too
}

// Turn takes what both arms were issued in one turn and reports whether the candidate is cut off: over at least the last second it should have been issued 20
// requests or more and was issued less than a quarter (a tenth where that many take longer than a second), while live got at least half of its part of what is usual. A turn that is not steady, of another share than
// the one before, or no reading (see Turn) says nothing, and the second begins anew after it.
//
// A turn without requests is passed over: the reports of a few proxies beat against the turns, so that some bring none and the next ones two. After more than
// two in a row the second begins anew.
func (s *Seen) Turn(length time.Duration, share float64, steady bool, issued Issued) bool {
	t, ok := Turn{Length: length, Share: share, Live: Counts{Good: issued.Live}, Candidate: Counts{Good: issued.Candidate}}.fit()
	switch {
	case !ok || !steady || t.Share != s.share:
		s.anew(t.Share)
		return false
	case t.arms().finished() == 0:
		s.pass(t.Length)
		return false
	}
	s.recent.add(fitLength(s.late+t.Length), t.arms())
	s.fresh = min(s.fresh+1, s.recent.ring.n)
	s.empty, s.late = 0, 0
	return s.cutOff()
}

// anew forgets the second, but not what traffic is usual.
func (s *Seen) anew(share float64) {
	if math.IsNaN(share) {
		share = 0
	}
	s.share, s.fresh, s.empty, s.late = share, 0, 0, 0
}

// pass passes over a turn that brought nothing.
func (s *Seen) pass(length time.Duration) {
	if s.empty == seenEmpty {
		s.fresh, s.late = 0, 0
		return
	}
	s.empty++
	s.late += length
}

// cutOff looks at the last second, and when that is too little traffic at as much of the last ten as makes enough. Over more than a second chance has more
// occasions, so there less is a sign: with a tenth it convicts one healthy candidate in 25 million looks.
func (s *Seen) cutOff() bool {
	var sum arms
	var lasted time.Duration
	part := seenPart
	for i := 0; i < s.fresh; i++ {
		if lasted >= seenOver {
			if s.share*sum.finished() >= seenLeast {
				break
			}
			part = seenRarely
		}
		turn, length := s.recent.back(i)
		sum.add(turn)
		lasted += length
	}
	should := s.share * sum.finished()
	if lasted < seenOver || should < seenLeast || float64(sum.candidate.Good) >= part*should {
		return false
	}
	// When the whole fleet's traffic falls, live gets less than usual too, and nobody is to blame.
	usual := s.recent.last(span).finished() / s.recent.ring.total.Seconds()
	return float64(sum.live.Good) >= 0.5*(1-s.share)*usual*lasted.Seconds()
}
