package xds

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// maxWaiting bounds how many proxies a Standing names.
const maxWaiting = 3

// Standing tells how many of a group's proxies meet all of want. What is not published, now or any
// more, is met by none. A resource with a TTL that was not kept alive counts as gone. Proxies that
// none of want is for are not counted.
func (s *Server) Standing(groupName string, want []Requirement) Standing {
	g := s.find(groupName)
	if g == nil {
		return Standing{}
	}
	now, reached := s.now(), s.reached()
	g.mu.Lock()
	defer g.mu.Unlock()
	standing := Standing{}
	for _, one := range g.sessions {
		if !one.concerned(want) {
			continue
		}
		standing.Connected++
		since, met := one.metSince(want, reached, now)
		if met {
			standing.Met++
			standing.LastAck = latest(standing.LastAck, since)
		} else if len(standing.Waiting) < maxWaiting {
			standing.Waiting = append(standing.Waiting, one.proxy())
		}
		if one.refuses(want) {
			standing.Rejected++
		}
	}
	return standing
}

// MetSince tells for each node of the group that meets all of want since when it has done so
// without a break: the ACK of the requirement it met last. A node with several streams is named
// only if all of them do.
func (s *Server) MetSince(groupName string, want []Requirement) map[string]time.Time {
	met := map[string]time.Time{}
	g := s.find(groupName)
	if g == nil {
		return met
	}
	now, reached := s.now(), s.reached()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range g.sessions {
		if since, ok := one.metSince(want, reached, now); ok && one.concerned(want) {
			met[one.node] = latest(met[one.node], since)
		}
	}
	for _, one := range g.sessions {
		if _, ok := one.metSince(want, reached, now); !ok {
			delete(met, one.node)
		}
	}
	return met
}

// Concerned tells for each node of the group how many streams it has that any of want is for.
func (s *Server) Concerned(groupName string, want []Requirement) map[string]int {
	streams := map[string]int{}
	g := s.find(groupName)
	if g == nil {
		return streams
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range g.sessions {
		if one.concerned(want) {
			streams[one.node]++
		}
	}
	return streams
}

// concerned reports whether any of want is for this stream. Nothing wanted is for all.
func (s *session) concerned(want []Requirement) bool {
	return len(want) == 0 || slices.ContainsFunc(want, s.owes)
}

// owes reports whether a requirement is for this stream.
func (s *session) owes(w Requirement) bool {
	t := s.interest(w.Given.Type)
	return w.Given == (Key{}) || t != nil && t.wants(w.Given.Name)
}

// find returns a group, nil if nobody ever spoke of it.
func (s *Server) find(name string) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups[name]
}

// metSince reports whether the stream meets all of want, and since when. Without any requirement it
// has since it came.
func (s *session) metSince(want []Requirement, reached int64, now time.Time) (since time.Time, met bool) {
	since = s.came
	for _, w := range want {
		if !s.owes(w) {
			continue
		}
		e, t := s.group.entry(w.Key), s.interest(w.Type)
		if e == nil || t == nil {
			return time.Time{}, false
		}
		at, ok := s.hasSince(t, w, max(reached, e.revision), now)
		if !ok {
			return time.Time{}, false
		}
		since = latest(since, at)
	}
	return since, true
}

// hasSince reports whether the stream has a resource that is published, and since when.
func (s *session) hasSince(t *interest, w Requirement, reached int64, now time.Time) (time.Time, bool) {
	e, h := s.group.entry(w.Key), t.apart[w.Name]
	if h == nil {
		return t.settled, t.base == accepted && e.plain() && reached >= w.Revision && t.wants(w.Name)
	}
	since, ok := h.metSince(e, reached, w.Revision)
	return since, ok && !h.expired(now)
}

// metSince reports whether the holding is whole and as it was published at the revision or later,
// and since when it has been. Content that is published now is good up to the revision that was
// reached.
func (h *holding) metSince(e *entry, reached, revision int64) (time.Time, bool) {
	good := func(v *variant) bool {
		if v.of.same(e) {
			return v.whole && reached >= revision
		}
		return v.whole && v.of.until >= revision
	}
	if h.acked == nil || !good(h.acked) {
		return time.Time{}, false
	}
	// Other services' changes of a shared resource came between, but what was asked for held
	// through them.
	since := h.ackedAt
	for _, before := range slices.Backward(h.earlier) {
		if !good(before.v) {
			break
		}
		since = before.at
	}
	return since, true
}

// expired reports whether the proxy has lost the resource because its TTL ran out.
func (h *holding) expired(now time.Time) bool {
	return h.acked.ttl > 0 && now.Sub(h.fed) > h.acked.ttl
}

// refuses reports whether the stream rejected one of the wanted resources and has accepted nothing
// of it since.
func (s *session) refuses(want []Requirement) bool {
	return slices.ContainsFunc(want, func(w Requirement) bool {
		_, refused := s.rejections[w.Key]
		return refused
	})
}

// Proxies lists the streams, ordered by number.
func (s *Server) Proxies() []Proxy {
	var proxies []Proxy
	s.each(func(one *session) { proxies = append(proxies, one.proxy()) })
	slices.SortFunc(proxies, func(a, b Proxy) int { return cmp.Compare(a.Stream, b.Stream) })
	return proxies
}

// proxy is the stream as operators see it. The caller holds group.mu.
func (s *session) proxy() Proxy {
	p := Proxy{
		Stream: s.id, Node: s.node, Group: s.group.name, Version: s.version, Connected: s.came, LastSeen: s.lastSeen(),
		Frozen: s.frozen(), Pending: len(s.flights), Duplicate: s.server.duplicate(s.peer),
	}
	if t := s.interest(RuntimeType); t != nil {
		p.Layers = t.names.len()
	}
	p.Rejections = slices.SortedFunc(maps.Values(s.rejections), func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return p
}

// Foreign lists the other etcd clusters whose versions the connected proxies brought along, sorted.
func (s *Server) Foreign() []string {
	found := map[string]struct{}{}
	s.each(func(one *session) { maps.Copy(found, one.foreign) })
	return slices.Sorted(maps.Keys(found))
}

func (s *Server) duplicate(n *node) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return n.streams > 1
}
