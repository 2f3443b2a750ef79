package xds

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/status"
)

// arrivals bound how much is taken in at once of what proxies bring that come back. An Envoy beside 10,000 services names a megabyte of versions; of thousands at once more would come
// in than can be looked at, and none would be done before all are. So each waits for a place, first come, first served, and until it has one no more is received of it than its window
// allows. What it says first, its layers, is answered before.
type arrivals struct {
	bytes   int64 // fixed: all that there is
	places  *semaphore.Weighted
	waiting atomic.Int64
}

func newArrivals(bytes int) *arrivals {
	return &arrivals{bytes: int64(bytes), places: semaphore.NewWeighted(int64(bytes))}
}

const (
	// nameBytes is about what a resource takes in a request: its name and its version.
	nameBytes = 32
	// longestStay is how long a stream keeps its place at most.
	longestStay = 5 * time.Second
)

// enter waits for a place of so many bytes, or until ctx ends.
func (a *arrivals) enter(ctx context.Context, bytes int64) (*place, error) {
	p := &place{of: a, bytes: min(bytes, a.bytes)}
	if !a.places.TryAcquire(p.bytes) {
		a.waiting.Add(1)
		err := a.places.Acquire(ctx, p.bytes)
		a.waiting.Add(-1)
		if err != nil {
			return nil, err
		}
	}
	p.alarm = time.AfterFunc(longestStay, p.leave)
	return p, nil
}

// place is a stream's share of the arrivals' bytes, until it leaves.
type place struct {
	of    *arrivals
	bytes int64
	left  atomic.Bool
	alarm *time.Timer
}

// leave gives the bytes back, once.
func (p *place) leave() {
	if p.left.CompareAndSwap(false, true) {
		p.alarm.Stop()
		p.of.places.Release(p.bytes)
	}
}

// Waiting is how many streams wait for a place.
func (s *Server) Waiting() int { return int(s.arrivals.waiting.Load()) }

// arrive has a stream whose first message was r wait for a place, if it brings something along.
func (s *session) arrive(r *request) error {
	if r.versions == 0 && len(r.version) == 0 {
		return nil
	}
	s.group.mu.Lock()
	n := s.group.size()
	s.group.mu.Unlock()
	s.unread.Store(true)
	p, err := s.server.arrivals.enter(s.leash, int64(n)*nameBytes)
	later(&s.seen, int64(s.server.now().Sub(s.server.epoch)))
	s.unread.Store(false)
	if err != nil {
		return ended(status.FromContextError(err).Err())
	}
	s.place = p
	return nil
}

// arrived has the stream leave its place when nothing large is to come of it: it has answered something, or asked for endpoints beside clusters, of which proxies have most.
func (s *session) arrived(answered bool) {
	if s.place != nil && (answered || s.ranked[rank(ClusterType)] != nil && s.ranked[rank(EndpointType)] != nil) {
		s.leavePlace()
	}
}

func (s *session) leavePlace() {
	if s.place != nil {
		s.place.leave()
		s.place = nil
	}
}
