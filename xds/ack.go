package xds

import (
	"slices"
	"strings"
	"time"
)

// maxWords bounds what is kept of a proxy's own words.
const maxWords = 1024

// answered applies the ACK or NACK in a request. A nonce that was never sent, was answered already
// or belongs to another type is ignored. The caller holds group.mu.
func (s *session) answered(t *interest, r *request, now time.Time) (happened Event, answered bool) {
	nonce := nonceOf(r.nonce)
	at := slices.IndexFunc(s.flights, func(f *flight) bool { return f.nonce == nonce && f.t == t })
	if at < 0 {
		return Event{}, false
	}
	f := s.flights[at]
	s.flights = slices.Delete(s.flights, at, at+1)
	s.unanswered -= f.size
	if f.size > streamWindow {
		s.server.firsts.finish(s)
	}
	happened = Event{Kind: ResponseAccepted, Node: s.node, Group: s.group.name, Type: t.url, Heartbeat: f.beat, Took: now.Sub(f.at)}
	if !r.rejected {
		s.landed(f)
		s.accept(f, now)
		return happened, true
	}
	words := strings.ToValidUTF8(string(r.words[:min(len(r.words), maxWords)]), "")
	happened.Kind, happened.Words = ResponseRejected, words
	s.unpack(f)
	s.landed(f)
	if f.beat {
		s.beatRejected(f)
	} else {
		s.rejected(t, f, words)
	}
	return happened, true
}

// landed counts a flight as answered.
func (s *session) landed(f *flight) {
	if f.beat {
		f.items[0].h.beats--
		return
	}
	f.t.flying--
	for _, i := range f.items {
		if i.h != nil {
			i.h.flying--
		}
	}
}

// unpack notes for each resource of a rejected pack what the stream was sent.
func (s *session) unpack(f *flight) {
	if f.pack == nil {
		return
	}
	for _, e := range f.pack.plain {
		h := f.t.apart.get(e.Name)
		switch {
		case !f.t.wants(e.Name), h != nil && h.early == nil:
			h = &holding{flying: 1} // it was unsubscribed since, and still may be what was refused
		case h == nil:
			h = f.t.keepApart(e.Name, &holding{sent: e.full, at: f.at, flying: 1})
		}
		h.early = nil
		f.items = append(f.items, item{name: e.Name, h: h, v: e.full})
	}
	f.made, f.pack = f.pack.made, nil
	f.t.base, f.t.bulk, f.t.settled = accepted, nil, f.at // of what is not apart, which is nothing
}

// acceptAll notes that the proxy has what was sent to it in a pack.
func (s *session) acceptAll(f *flight, now time.Time) {
	t := f.t
	t.base, t.bulk, t.settled = accepted, nil, now
	for name, h := range t.apart.all() {
		if h.early != nil {
			early := h.early
			h.early = nil
			h.flying--
			s.acceptItem(f, item{name: name, h: h, v: early}, now)
		}
	}
	s.movedAll(t, false)
}

// accept notes that the proxy has what was sent.
func (s *session) accept(f *flight, now time.Time) {
	f.t.took = true
	if f.pack != nil {
		s.acceptAll(f, now)
	}
	for _, i := range f.items {
		s.acceptItem(f, i, now)
	}
}

func (s *session) acceptItem(f *flight, i item, now time.Time) {
	if i.v == nil || f.t.apart.get(i.name) != i.h {
		return // removed, or unsubscribed meanwhile
	}
	if !f.beat && i.v.ttl > 0 && !i.h.fed.IsZero() && f.at.Sub(i.h.fed) > i.v.ttl {
		i.h.earlier = acks{} // it had expired in between
		i.h.acked = nil
		s.group.losses++
	}
	i.h.fed = f.at
	if i.v.ttl > 0 {
		s.lookAt(i.h.at.Add(i.v.ttl / 3)) // its heartbeat
	}
	if f.beat {
		return
	}
	before := i.h.extent()
	s.group.losses += i.v.takenBy(i.h, now)
	i.h.note(i.v, now)
	delete(s.rejections, Key{f.t.url, i.name})
	if i.h.extent() != before {
		s.moved(f.t, i.name, before)
	}
}

// note makes v what the stream holds since now, unless it held that all along.
func (h *holding) note(v *variant, now time.Time) {
	h.accepted = true
	if h.acked != nil && h.acked.content == v.content {
		h.acked = v // sent again, for a subscription or as a refresh: nothing changed at the proxy
		return
	}
	if h.acked != nil && len(v.of.Parts) > 0 {
		h.earlier.add(ack{h.acked, h.ackedAt})
	}
	h.acked, h.ackedAt = v, now
}

// rejected finds out which resource of a rejected response is to blame, or has its halves sent apart
// to find out.
func (s *session) rejected(t *interest, f *flight, words string) {
	var bodies []item
	blame := 0
	for _, i := range f.items {
		switch {
		case i.v == nil:
			continue
		case t.apart.get(i.name) == i.h: // else it was unsubscribed meanwhile
			bodies = append(bodies, i)
		}
		blame++
	}
	if blame > 0 {
		s.removeAgain(t, f)
	}
	switch {
	case len(bodies) == 0:
	case t.full && t.brought && !t.took:
		s.stick(f, bodies, words)
	case blame == 1:
		s.park(t, bodies[0], words)
	default:
		s.split(t, bodies)
	}
	if t.url == ClusterType && t.full {
		s.bereft(bodies)
	}
}

// bereft notes that the next response of the state of the world takes clusters away that the proxy may have had, and their endpoints with them.
func (s *session) bereft(clusters []item) {
	for _, i := range clusters {
		if i.h.sent == nil {
			s.unsettleEndpoints(i.name)
		}
	}
}

// stick leaves a proxy with all that it has of an earlier stream, until something else is published. In the state of the world a response without a resource deletes
// it, so a part of what was rejected would take away what the proxy has and uses.
func (s *session) stick(f *flight, bodies []item, words string) {
	t := f.t
	for _, i := range bodies {
		before := i.h.extent()
		i.h.back(i.v)
		s.moved(t, i.name, before)
		key := Key{t.url, i.name}
		put(&s.rejections, key, Rejection{Key: key, Version: i.v.version, Words: words})
	}
	for key := range s.leaving {
		if key.Type == t.url {
			delete(s.leaving, key)
		}
	}
	if t.stuck = f.made == s.group.shelf(t.url).changes; !t.stuck {
		s.startOver(t) // something else was published meanwhile
	}
}

// startOver has everything of a type sent anew.
func (s *session) startOver(t *interest) {
	for key := range s.rejections {
		if key.Type == t.url {
			delete(s.rejections, key)
		}
	}
	s.group.losses++
	t.apart, t.dirty, t.suspects, t.base = notes[*holding]{}, notes[cause]{}, nil, nothing
	t.stuck, t.fresh, t.owed = false, true, t.wildcard
	s.stirred |= t.bit
	s.movedAll(t, true)
}

// removeAgain repeats the removals of a response that was rejected for its bodies: whether the proxy
// carried them out is not known.
func (s *session) removeAgain(t *interest, f *flight) {
	for _, i := range f.items {
		if i.v == nil && t.wants(i.name) && s.group.entry(Key{t.url, i.name}) == nil {
			t.look(i.name, asked)
		}
	}
}

// park notes a version that the proxy refused when it was alone in its response: it is not sent to
// this stream again.
func (s *session) park(t *interest, i item, words string) {
	before := i.h.extent()
	i.h.parked = append(i.h.parked, i.v.version)
	i.h.parked = i.h.parked[max(0, len(i.h.parked)-maxParked):]
	i.h.back(i.v)
	key := Key{t.url, i.name}
	put(&s.rejections, key, Rejection{Key: key, Version: i.v.version, Words: words})
	s.moved(t, i.name, before)
}

// back makes the holding what it was before a body was sent, unless another one went since.
func (h *holding) back(v *variant) {
	if h.sent == v {
		h.sent = h.acked
	}
}

// split has the halves of a rejected response sent apart. Its words do not say which resource was
// meant (envoy-measured.md 11), and the others must not suffer.
func (s *session) split(t *interest, bodies []item) {
	var names []string
	for _, i := range bodies {
		before := i.h.extent()
		i.h.back(i.v)
		s.moved(t, i.name, before)
		names = append(names, i.name)
	}
	// Halving finds one bad resource among n in log n responses, and lets the good ones through on
	// the way.
	half := (len(names) + 1) / 2
	pieces := [][]string{names[:half]}
	if half < len(names) {
		pieces = append(pieces, names[half:])
	}
	t.suspects = append(pieces, t.suspects...)
}
