package xds

import (
	"time"
)

// uptake is how far an entry that is not plain has come with the streams of its group, counted as their ACKs come, so that who asks does not look at each of them.
type uptake struct {
	begun  bool      // some stream was found to have it, or a part of it
	whole  int       // streams that ACKed all of it
	losses uint64    // the group's, when it was published: if there are more, whole is not to be relied on
	fed    time.Time // when the first of those that ACKed it were sent it, so that it lives with all of them for a TTL from then
	last   time.Time // when the last of them ACKed it
}

// takenBy counts a stream, which has h, that ACKs v, and returns how many losses that is.
func (v *variant) takenBy(h *holding, now time.Time) (losses uint64) {
	u, had := &v.of.uptake, h.acked
	u.begun = true
	switch {
	case had != nil && had.of == v.of && had.whole == v.whole:
		return 0 // sent again
	case had != nil && had.of == v.of && had.whole:
		return 1
	case v.whole:
		u.whole++
		if had != nil && had.content == v.content {
			now = h.ackedAt // it has it since then
		}
		u.last = latest(u.last, now)
		if u.fed.IsZero() || h.fed.Before(u.fed) {
			u.fed = h.fed
		}
	}
	return 0
}

// unseen reports whether what is wanted is so new that no stream can have it: none was found to have taken it yet, and nothing before it will do.
func (w sought) unseen() bool {
	return w.e != nil && !w.e.plain() && !w.e.uptake.begun && w.Revision >= w.e.revision
}

// counted reports whether the count of those that have all of what is wanted is right; false means nothing. The caller holds mu.
func (g *group) counted(w sought, reached int64, now time.Time) bool {
	if w.e == nil || w.e.plain() || w.Revision < w.e.revision || reached < w.Revision {
		return false
	}
	u := &w.e.uptake
	return u.whole > 0 && u.losses == g.losses && now.Before(u.until(w.e))
}

// until is until when none of those that ACKed it can have lost it by its TTL.
func (u *uptake) until(e *entry) time.Time {
	if e.TTL == 0 {
		return u.last.Add(verdictKept)
	}
	return u.fed.Add(e.TTL)
}

// standCounted is the Standing of streams that have all else that is wanted, by the count of those that have the layer. The caller holds mu.
func (g *group) standCounted(want []Requirement, layer *sought, others *verdict) Standing {
	u := &layer.e.uptake
	standing := others.standing
	standing.Met, standing.LastAck = u.whole, latest(standing.LastAck, u.last)
	waiting := min(maxWaiting, standing.Connected-standing.Met)
	for _, one := range g.sessions {
		if len(standing.Waiting) < waiting && !one.took(layer) {
			standing.waits(one)
		}
		if one.refuses(want) {
			standing.Rejected++
		}
	}
	g.remember(want, standing, earliest(others.until, u.until(layer.e)))
	return standing
}

// took reports whether the stream was counted among those that have the layer.
func (s *session) took(layer *sought) bool {
	t := s.interest(layer.Type)
	if t == nil {
		return false
	}
	h := t.apart.get(layer.Name)
	return h != nil && h.acked != nil && h.acked.of == layer.e && h.acked.whole
}

// needless notes that a stream is not sent an entry because it was sent the same before, and returns how many losses that is: it will not be counted.
func (e *entry) needless(before *variant) (losses uint64) {
	e.uptake.begun = true
	if before == nil || before.of != e {
		return 1
	}
	return 0
}
