package xds

import (
	"google.golang.org/grpc/status"
)

// nameBytes is about what a resource takes in a request: its name and its version; of endpoints the name again.
const nameBytes = 64

// arrive has a stream wait for a place whose message r, which was applied, says that it comes back with something over delta, unless what else it has is little. An Envoy beside
// 10,000 services names a megabyte of versions; of thousands at once more would come in than can be looked at. So each waits as soon as it has said that it has something: most
// often its layers, which are answered before. Until it has its place no more is received of it than its window allows, and it owes no answers. What is sent to it meanwhile is
// what may be without knowing the rest: a layer that was changed goes without the parts that need its clusters. The caller is the stream's own goroutine.
func (s *session) arrive(r *request) error {
	if r.versions == 0 || s.placed || s.asksForAll() {
		return nil
	}
	s.placed = true
	s.group.mu.Lock()
	bytes := s.group.size() * nameBytes
	s.group.mu.Unlock()
	if bytes <= streamWindow {
		return nil
	}
	r.free() // while it waits
	s.unread.Store(true)
	p, err := s.server.arrivals.enter(s.leash, bytes)
	later(&s.seen, int64(s.server.now().Sub(s.server.epoch)))
	s.unread.Store(false)
	if err != nil {
		return ended(status.FromContextError(err).Err())
	}
	s.place = p
	return nil
}

// asksForAll reports whether nothing large is to come any more: most of what a proxy has are clusters and endpoints.
func (s *session) asksForAll() bool {
	return s.ranked[rank(ClusterType)] != nil && s.ranked[rank(EndpointType)] != nil
}

// leavePlace gives the stream's place to the next.
func (s *session) leavePlace() {
	if s.place != nil {
		s.place.leave()
		s.place = nil
	}
}
