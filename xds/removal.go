package xds

import (
	"slices"
	"time"
)

// departure is a cluster or an endpoint resource that is unpublished and that a stream still has.
type departure struct {
	since time.Time // when routes and layers were first seen settled without it; zero: not yet
}

// depart has a stream lose a resource that is not published any more. Clusters and endpoints stay
// until nothing can name them (make before break).
func (s *session) depart(t *interest, name string) {
	if s.holding(t, name) == nil {
		return
	}
	if t.url != ClusterType && t.url != EndpointType {
		t.look(name, changed)
		return
	}
	key := Key{t.url, name}
	if s.leaving[key] == nil {
		put(&s.leaving, key, &departure{})
	}
}

// departures removes what the stream ACKed routes and layers without, Grace ago.
func (s *session) departures(now time.Time) {
	if len(s.leaving) == 0 {
		return
	}
	settled := s.settled(RouteType) && s.settled(RuntimeType)
	for key, d := range s.leaving {
		if s.needs(key.Name) {
			d.since = time.Time{}
			continue
		}
		// Seen settled once is enough: later changes cannot name again what is not published.
		if d.since.IsZero() && settled {
			d.since = now
		}
		if d.since.IsZero() {
			continue
		}
		if gone := d.since.Add(s.server.grace); now.Before(gone) {
			s.lookAt(gone)
			continue
		}
		delete(s.leaving, key)
		s.mark(key, changed)
	}
}

// needs reports whether the stream keeps a former part of routes that needs a cluster.
func (s *session) needs(cluster string) bool {
	t := s.interest(RouteType)
	if t == nil {
		return false
	}
	for _, h := range t.apart.all() {
		for _, v := range []*variant{h.acked, h.sent} {
			if v == nil {
				continue
			}
			for _, part := range v.kept {
				if slices.ContainsFunc(part.Needs, func(n Need) bool { return n.Name == cluster }) {
					return true
				}
			}
		}
	}
	return false
}

// settled reports whether the stream has ACKed the newest it was to get of a type.
func (s *session) settled(url string) bool {
	t := s.interest(url)
	if t == nil {
		return true
	}
	if t.dirty.len() > 0 || len(t.suspects) > 0 || t.flying > 0 || t.fresh {
		return false
	}
	for name, h := range t.apart.all() {
		if _, rejected := s.rejections[Key{url, name}]; rejected || h.acked != h.sent {
			return false
		}
	}
	return true
}
