package xds

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// longestStay is how long a stream keeps its place at most.
const longestStay = 3 * time.Second

// places bound how many bytes are under way at once between the server and streams that have much to say, or to be told: of thousands that come together none would be done
// before all are. Each has a place of as many bytes as its own are; others wait, first come, first served.
type places struct {
	bytes   int64 // fixed: all that there is
	free    *semaphore.Weighted
	waiting atomic.Int64
}

func newPlaces(bytes int) *places {
	return &places{bytes: int64(bytes), free: semaphore.NewWeighted(int64(bytes))}
}

// try takes a place of so many bytes, nil if that has to be waited for. After it was left then is called.
func (a *places) try(bytes int, then func()) *place {
	n := min(int64(bytes), a.bytes)
	if !a.free.TryAcquire(n) {
		return nil
	}
	return a.take(n, then)
}

// enter waits for a place of so many bytes, or until ctx ends.
func (a *places) enter(ctx context.Context, bytes int) (*place, error) {
	nothing := func() {}
	if p := a.try(bytes, nothing); p != nil {
		return p, nil
	}
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	n := min(int64(bytes), a.bytes)
	if err := a.free.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return a.take(n, nothing), nil
}

func (a *places) take(bytes int64, then func()) *place {
	p := &place{}
	release := func() {
		if p.left.CompareAndSwap(false, true) {
			a.free.Release(bytes)
			then()
		}
	}
	p.release, p.alarm = release, time.AfterFunc(longestStay, release)
	return p
}

// place is a stream's share of the bytes.
type place struct {
	left    atomic.Bool
	release func() // gives the bytes back, once
	alarm   *time.Timer
}

// over reports whether there is none, or none any more.
func (p *place) over() bool { return p == nil || p.left.Load() }

// leave gives the bytes back, unless the time was up.
func (p *place) leave() {
	p.alarm.Stop()
	p.release()
}

// Waiting is how many streams wait for a place: to say what they have, or to be sent all there is.
func (s *Server) Waiting() int { return int(s.arrivals.waiting.Load() + s.firsts.waiting.Load()) }
