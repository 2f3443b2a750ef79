package xds

import "math/rand/v2"

// launch counts a flight as sent and returns its message.
func (s *session) launch(f *flight) *frame {
	s.launched++
	f.nonce = secretNonce()
	f.t.last = f.nonce
	m := s.message(f)
	f.size = m.size
	// It counts as in flight from here, before the send: the answer cannot come earlier.
	s.flights = append(s.flights, f)
	s.unanswered += f.size
	if f.beat {
		f.items[0].h.beats++
		f.items[0].h.at = f.at
		return m
	}
	f.t.flying++
	f.t.owed = false
	for _, i := range f.items {
		if i.h != nil {
			i.h.flying++
		}
		s.followed(f.t, i)
	}
	if f.pack != nil {
		s.followedAll(f.t, f.pack)
	}
	return m
}

// secretNonce is one that only who has read the response knows: what is answered was read, or a client could pretend that it reads and hold up the senders. math/rand/v2's
// own source is ChaCha8 with a secret seed.
func secretNonce() uint64 { return rand.Uint64() | 1 }

// followed has the endpoints go right behind their cluster, without waiting for its ACK, which
// Envoy holds back until the cluster is warm; and notes that they went.
func (s *session) followed(t *interest, i item) {
	switch {
	case i.v == nil:
	case t.url == EndpointType:
		delete(s.warming, i.name)
	case t.url == ClusterType && s.group.entry(Key{EndpointType, i.name}) != nil:
		if !s.mark(Key{EndpointType, i.name}, follows) {
			put(&s.warming, i.name, struct{}{})
		}
	}
}

// followedAll is followed for a pack.
func (s *session) followedAll(t *interest, p *pack) {
	switch t.url {
	case EndpointType:
		for name := range s.warming {
			if t.wants(name) && s.group.entry(Key{EndpointType, name}).alone() {
				delete(s.warming, name)
			}
		}
	case ClusterType:
		if s.interest(EndpointType) == nil {
			s.warmingAll = true
			return
		}
		for _, e := range p.plain {
			s.followed(t, item{name: e.Name, v: e.full})
		}
	}
}
