package xds

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Held is what a proxy has of one resource.
type Held struct {
	Key
	Version string     // that it has accepted; empty: none
	Since   time.Time  // when it did, or when what it has was last seen to be all that is published
	Sent    string     // version that it was sent and has not answered; empty: none
	Refused *Rejection // the newest version that it rejected, unless it has accepted one since
	Missing bool       // it asked for it, and it is not published

	has *variant // that it has accepted; nil: none
}

// Held lists what one of the streams has, ordered by type, as the types are sent, and name.
func (s *Server) Held(stream uint64) (held []Held, found bool) {
	for _, g := range s.all() {
		if held, found = g.held(stream); found {
			return held, true
		}
	}
	return nil, false
}

func (g *group) held(stream uint64) (held []Held, found bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, here := slices.BinarySearchFunc(g.sessions, stream, func(s *session, id uint64) int { return cmp.Compare(s.id, id) })
	if !here {
		return nil, false
	}
	return g.sessions[at].heldAll(), true
}

func (s *session) heldAll() (all []Held) {
	for _, t := range s.types {
		names := map[string]struct{}{}
		if t.names != nil {
			maps.Copy(names, t.names.members)
		}
		if t.wildcard {
			for name := range s.group.shelf(t.url).entries {
				names[name] = struct{}{}
			}
		}
		for name := range t.apart.all() {
			names[name] = struct{}{}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			all = append(all, s.heldOf(t, name))
		}
	}
	return all
}

// heldOf is what the stream has of one name.
func (s *session) heldOf(t *interest, name string) Held {
	one := Held{Key: Key{t.url, name}, Missing: s.group.entry(Key{t.url, name}) == nil}
	h := s.holding(t, name)
	if h == nil {
		return one
	}
	if h.acked != nil {
		one.has, one.Version, one.Since = h.acked, h.acked.version, h.ackedAt
	}
	if h.sent != nil && h.sent != h.acked {
		one.Sent = h.sent.version
	}
	if refused, did := s.rejections[one.Key]; did {
		one.Refused = &refused
	}
	return one
}
