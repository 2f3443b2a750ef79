package xds

import (
	"slices"
	"time"
)

// maxOvertaking bounds how many bodies of one resource are unanswered while another one overtakes them.
const maxOvertaking = 8

// weights returns the next response with weights, whatever else waits or is not answered yet.
func (s *session) weights(now time.Time) *flight {
	for _, url := range []string{RuntimeType, RouteType} {
		t := s.interest(url)
		if t == nil || len(t.suspects) > 0 || t.fresh {
			continue
		}
		for _, name := range t.dirty.names() {
			if t.dirty.get(name)&changed == 0 || s.group.entry(Key{url, name}) == nil {
				continue
			}
			if h := t.apart.get(name); h != nil && h.flying >= maxOvertaking {
				continue // it answers nothing: the latest waits for it
			}
			if i, ok := s.take(t, name, now); ok {
				f := newFlight(t, now)
				f.items = append(f.items, i)
				return f
			}
		}
	}
	return nil
}

// body returns the next response with bodies or removals. Types that nothing stirred are not even read.
func (s *session) body(now time.Time) *flight {
	for r, t := range s.ranked {
		if s.stirred&(1<<r) == 0 || t == nil {
			continue
		}
		if f := s.pick(t, now); f != nil {
			return f
		}
		if !t.hungry() {
			s.stirred &^= t.bit
		}
	}
	if s.stirred&(1<<unranked) == 0 {
		return nil
	}
	hungry := false
	for _, t := range s.types {
		if t.bit != 1<<unranked {
			continue
		}
		if f := s.pick(t, now); f != nil {
			return f
		}
		hungry = hungry || t.hungry()
	}
	if !hungry {
		s.stirred &^= 1 << unranked
	}
	return nil
}

// pick collects a type's next response.
func (s *session) pick(t *interest, now time.Time) *flight {
	if !t.hungry() {
		return nil
	}
	if s.spares(t, now) {
		return nil
	}
	if t.fresh && t.flying == 0 {
		if !s.mayBegin(t) {
			return nil
		}
		if f := s.pickAll(t, now); f != nil {
			return f
		}
	}
	switch {
	case t.solo:
		return s.pickOne(t, now)
	case t.flying > 0:
		return nil
	}
	return s.pickSome(t, now)
}

// hungry reports whether there may be something to send.
func (t *interest) hungry() bool {
	return t.dirty.len() > 0 || t.fresh || t.owed || len(t.suspects) > 0
}

// spares reports whether clusters that are not published any more are left to a proxy that comes back a moment longer. Its routes of an earlier stream may name them, and
// a response of the state of the world without them takes them away; the new routes go meanwhile.
func (s *session) spares(t *interest, now time.Time) bool {
	until := s.came.Add(resumeWait)
	if t.url != ClusterType || !t.full || !t.fresh || !t.brought || t.wildcard || !now.Before(until) {
		return false
	}
	if len(s.group.pack(s.server.seeds, t).missing) == 0 {
		return false
	}
	s.lookAt(until)
	return true
}

// pickSome collects what is to be looked at.
func (s *session) pickSome(t *interest, now time.Time) *flight {
	// Pieces of a rejected response may turn out to hold nothing to send any more; then the next
	// piece, or what else is dirty, has its turn.
	for {
		names, apart := t.batch()
		f := newFlight(t, now)
		for _, name := range names {
			if i, ok := s.take(t, name, now); ok {
				f.items = append(f.items, i)
			}
		}
		if len(f.items) > 0 || t.owed && !apart {
			return f
		}
		if !apart {
			return nil
		}
	}
}

// pickAll collects a type's first response: all that the stream wants and that every stream gets alike. It returns nil if there is nothing of that.
func (s *session) pickAll(t *interest, now time.Time) *flight {
	p := s.group.pack(s.server.seeds, t)
	t.fresh = false
	if t.full && len(p.odd) > 0 {
		s.pickEach(t, p, now) // a response without those would delete them
		return nil
	}
	for name := range t.dirty.all() {
		if s.group.entry(Key{t.url, name}).alone() {
			t.dirty.drop(name)
		}
	}
	for _, name := range p.odd {
		t.look(name, asked)
	}
	f := newFlight(t, now)
	missing := p.missing
	if t.wildcard && t.names != nil {
		missing = s.unpublished(t)
	}
	for _, name := range missing {
		t.dirty.drop(name)
		if s.answersMissing(t) {
			f.items = append(f.items, item{name: name})
		}
	}
	if len(p.plain) == 0 {
		t.base, t.settled = accepted, now // of nothing
		if len(f.items) > 0 || t.owed {
			return f
		}
		return nil
	}
	f.pack, t.base, t.bulk = p, sent, f
	s.movedAll(t, false)
	return f
}

// pickEach has all of a pack looked at one by one.
func (s *session) pickEach(t *interest, p *pack, now time.Time) {
	t.base, t.settled = accepted, now // of what is not apart, which is nothing
	for _, e := range p.plain {
		t.keepApart(e.Name, &holding{})
		t.look(e.Name, asked)
	}
	for _, name := range p.odd {
		t.look(name, asked)
	}
}

// unpublished lists the names that the stream asked for beside everything and that are not there.
func (s *session) unpublished(t *interest) (missing []string) {
	for name := range t.names.members {
		if s.group.entry(Key{t.url, name}) == nil {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}

// answersMissing reports whether a response of a type can say that a resource is not there.
func (s *session) answersMissing(t *interest) bool { return s.protocol == Delta || t.full }

// pickOne collects one layer's response, or one with all layers that have no TTL.
func (s *session) pickOne(t *interest, now time.Time) *flight {
	// As in pickSome: what is left of a piece may be nothing.
	for {
		names, apart := t.batch()
		names = slices.DeleteFunc(names, func(name string) bool { h := t.apart.get(name); return h != nil && h.flying > 0 })
		if f := s.pickLayers(t, names, now); len(f.items) > 0 || t.owed {
			return f
		}
		if !apart {
			return nil
		}
	}
}

// pickLayers collects the first layer with a TTL that is to be sent or, if there is none, all others.
func (s *session) pickLayers(t *interest, names []string, now time.Time) *flight {
	f := newFlight(t, now)
	for _, name := range names {
		if e := s.group.entry(Key{t.url, name}); e == nil || e.plain() {
			continue
		}
		if i, ok := s.take(t, name, now); ok {
			f.items = append(f.items, i)
			return f
		}
	}
	for _, name := range names {
		if e := s.group.entry(Key{t.url, name}); e != nil && !e.plain() {
			continue
		}
		if i, ok := s.take(t, name, now); ok {
			f.items = append(f.items, i)
		}
	}
	return f
}

// batch returns the names to look at next, and whether they are a piece of a rejected response that
// must go apart from the rest.
func (t *interest) batch() (names []string, apart bool) {
	if len(t.suspects) > 0 {
		names, t.suspects = t.suspects[0], t.suspects[1:]
		for _, name := range names {
			if t.wants(name) { // else it was unsubscribed since
				t.look(name, suspect)
			}
		}
		return names, true
	}
	return t.dirty.names(), false
}
