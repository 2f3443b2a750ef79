package xds

import (
	"context"
	"sync/atomic"
	"time"
)

// arrivals are the places of streams that come. An Envoy that comes back beside 10,000 services brings a megabyte of versions; of thousands at once more would come in than can be looked
// at, and none would be done before all are. So each waits for a place, first come, first served, and until it has one no more of it is received than its window allows.
type arrivals struct {
	places  chan struct{}
	waiting atomic.Int64
}

func newArrivals(places int) *arrivals { return &arrivals{places: make(chan struct{}, places)} }

// longestStay is how long a stream keeps its place at most.
const longestStay = 5 * time.Second

// enter waits for a place, or until ctx ends.
func (a *arrivals) enter(ctx context.Context) (*place, error) {
	select {
	case a.places <- struct{}{}:
		return a.taken(), nil
	default:
	}
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	select {
	case a.places <- struct{}{}:
		return a.taken(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *arrivals) taken() *place {
	p := &place{of: a}
	p.alarm = time.AfterFunc(longestStay, p.leave)
	return p
}

// Waiting is how many streams wait for a place.
func (s *Server) Waiting() int { return int(s.arrivals.waiting.Load()) }

// place is one of a stream that has it until it leaves.
type place struct {
	of    *arrivals
	left  atomic.Bool
	alarm *time.Timer
}

// leave gives the place to the next, once.
func (p *place) leave() {
	if p.left.CompareAndSwap(false, true) {
		p.alarm.Stop()
		<-p.of.places
	}
}

// arrived has the stream leave its place when nothing large is to come of it: it has answered something, or asked for endpoints beside clusters, of which proxies have most. The
// caller is the stream's own goroutine.
func (s *session) arrived(answered bool) {
	if s.place != nil && (answered || s.ranked[rank(ClusterType)] != nil && s.ranked[rank(EndpointType)] != nil) {
		s.place.leave()
		s.place = nil
	}
}
