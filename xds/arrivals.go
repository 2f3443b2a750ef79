package xds

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/status"
)

// arrivals bound how much is taken in at once of what proxies bring that come back over delta. An Envoy beside 10,000 services names a megabyte of versions; of thousands at once more
// would come in than can be looked at, and none would be done before all are. So each waits for a place, first come, first served, as soon as it has said that it has something: most
// often its layers, which are answered before. Until it has its place no more is received of it than its window allows, and it owes no answers. What is sent to it meanwhile is
// what may be without knowing the rest: a layer that was changed goes without the parts that need its clusters.
type arrivals struct {
	bytes   int64 // fixed: all that there is
	places  *semaphore.Weighted
	waiting atomic.Int64
}

func newArrivals(bytes int) *arrivals {
	return &arrivals{bytes: int64(bytes), places: semaphore.NewWeighted(int64(bytes))}
}

const (
	// nameBytes is about what a resource takes in a request: its name and its version; of endpoints the name again.
	nameBytes = 64
	// longestStay is how long a stream keeps its place at most.
	longestStay = 3 * time.Second
)

// enter waits for a place of so many bytes, or until ctx ends.
func (a *arrivals) enter(ctx context.Context, bytes int64) (*place, error) {
	bytes = min(bytes, a.bytes)
	if !a.places.TryAcquire(bytes) {
		a.waiting.Add(1)
		err := a.places.Acquire(ctx, bytes)
		a.waiting.Add(-1)
		if err != nil {
			return nil, err
		}
	}
	p := &place{}
	release := func() {
		if p.left.CompareAndSwap(false, true) {
			a.places.Release(bytes)
		}
	}
	p.release, p.alarm = release, time.AfterFunc(longestStay, release)
	return p, nil
}

// place is a stream's share of the arrivals' bytes.
type place struct {
	left    atomic.Bool
	release func() // gives the bytes back, once
	alarm   *time.Timer
}

// leave gives the bytes back, unless the time was up.
func (p *place) leave() {
	p.alarm.Stop()
	p.release()
}

// Waiting is how many streams wait for a place.
func (s *Server) Waiting() int { return int(s.arrivals.waiting.Load()) }

// arrive has a stream wait for a place whose message r, which was applied, says that it comes back with something, unless what else it has is little. The caller is the stream's own
// goroutine.
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
	p, err := s.server.arrivals.enter(s.leash, int64(bytes))
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
