package xds

import (
	"time"
)

// beats returns a heartbeat that is due, nil if none is, and has full bodies sent where a heartbeat
// would come too late, which it reports. A heartbeat goes only where the last message of that
// resource on this stream was ACKed and is younger than half the TTL, and only for what is
// published now: a proxy that refused a newer version must not be kept on the old one. The caller
// holds group.mu.
func (s *session) beats(now time.Time) (beat *flight, late bool) {
	for key, e := range s.group.mortal {
		t := s.interest(key.Type)
		if t == nil || t.dirty.get(key.Name) != 0 {
			continue
		}
		h := t.apart.get(key.Name)
		if !h.beating(e) || !s.server.fresh(now, e.TTL) {
			continue
		}
		due := h.at.Add(e.TTL / 3)
		switch {
		case now.Before(due):
			s.lookAt(due)
		case h.beats == 0 && now.Sub(h.at) < e.TTL/2:
			beat = newFlight(t, now)
			beat.beat, beat.items = true, append(beat.items, item{name: key.Name, h: h, v: h.acked})
		default:
			// The last message is unanswered or too old: the layer may have expired at the proxy,
			// and a heartbeat of an expired layer does nothing.
			t.look(key.Name, refresh)
			late = true
		}
	}
	return beat, late
}

// beating reports whether the stream holds the present content with a TTL and nothing newer is
// under way.
func (h *holding) beating(e *entry) bool {
	return h != nil && h.acked != nil && h.acked == h.sent && h.flying == 0 && h.acked.ttl > 0 && h.acked.of.same(e)
}

// beatRejected has the full body sent at once: the layer has expired (envoy-measured.md 9). If a
// newer body went out since, that one does it.
func (s *session) beatRejected(f *flight) {
	i := f.items[0]
	if f.t.apart.get(i.name) != i.h || i.h.flying > 0 {
		return
	}
	i.h.sent, i.h.acked, i.h.earlier = nil, nil, acks{}
	f.t.look(i.name, recheck)
}

// fresh reports whether proof is young enough for a resource with this TTL to be kept alive.
func (s *Server) fresh(now time.Time, ttl time.Duration) bool {
	proof := s.proof.Load()
	return proof != nil && now.Sub(*proof) <= ttl/3
}

// proven reports whether there ever was a proof.
func (s *Server) proven() bool { return s.proof.Load() != nil }

// Prove says that at that time etcd and the leader lived. A resource with a TTL may be heartbeaten,
// or sent with its parts, only within a third of its TTL from the last proof. What was withheld or
// sent without parts for want of proof is completed at once.
func (s *Server) Prove(at time.Time) {
	s.proving.Lock()
	defer s.proving.Unlock()
	last := s.proof.Load()
	if last != nil && !at.After(*last) {
		return
	}
	s.proof.Store(&at)
	// The clock is read after the proof is stored. A stream that found the old proof stale did so
	// before, so by this clock it is stale too, and the stream is woken.
	now := s.now()
	for _, g := range s.all() {
		s.queue.add(false, g.proved(last, now)...)
	}
}

// proved has the streams look again at the resources for which the last proof was too old, and returns them.
func (g *group) proved(last *time.Time, now time.Time) (concerned []*session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var stale []Key
	for key, e := range g.mortal {
		if last == nil || now.Sub(*last) > e.TTL/3 {
			stale = append(stale, key)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	for _, s := range g.sessions {
		marked := false
		for _, key := range stale {
			marked = s.mark(key, recheck) || marked
		}
		if marked {
			concerned = append(concerned, s)
		}
	}
	return concerned
}
