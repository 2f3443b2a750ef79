package xds

import (
	"sync"
	"time"
)

// lingering is how long a stream that has not answered keeps its place when all was written. Some of it may still be on its way, but an Envoy with thousands of clusters thinks for
// seconds, and nobody needs to wait for that.
const lingering = 500 * time.Millisecond

// firsts are the streams that wait to be sent all clusters or endpoints, which is much. Beside 10,000 services it is megabytes: sent to thousands at once, it would reach all of them
// last; and those that take longer than a stream may owe an answer would be cut off, come back, and be sent everything again. So each waits for a place, which it has until it has
// taken what it was sent. All else goes meanwhile: layers, and weights that are taken back, wait for nothing.
type firsts struct {
	*places
	look func(urgent bool, streams ...*session) // has streams looked at

	mu   sync.Mutex
	line line // guarded by mu; those that do not wait any more are in it, too
}

// mayBegin reports whether the stream may be sent all of a type now; otherwise it is looked at again when it may. The caller holds group.mu.
func (s *session) mayBegin(t *interest) bool {
	if t.url != ClusterType && t.url != EndpointType {
		return true
	}
	size := s.group.pack(s.server.seeds, t).size
	return size <= streamWindow || s.server.firsts.begin(s, size)
}

// begin reports whether the stream has a place; otherwise it waits for one of so many bytes.
func (f *firsts) begin(s *session, bytes int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.begun.over() && s.awaits == 0 {
		s.awaits = bytes
		f.waiting.Add(1)
		f.line.push(s)
		f.admit()
	}
	return !s.begun.over()
}

// admit gives places to those that wait, as long as there is room. The caller holds mu.
func (f *firsts) admit() {
	for s := f.line.head(); s != nil; s = f.line.head() {
		if s.awaits > 0 {
			p := f.try(s.awaits, f.moveUp)
			if p == nil {
				return
			}
			s.begun = p
			f.stop(s)
			f.look(false, s)
		}
		f.line.pop()
	}
}

// moveUp is admit after a place became free.
func (f *firsts) moveUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.admit()
}

// stop has the stream wait no more. The caller holds mu.
func (f *firsts) stop(s *session) {
	if s.awaits > 0 {
		s.awaits = 0
		f.waiting.Add(-1)
	}
}

// written has the stream leave its place soon.
func (f *firsts) written(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.begun.over() {
		s.begun.alarm.Reset(lingering)
	}
}

// finish gives the place of the stream to the next.
func (f *firsts) finish(s *session) {
	f.mu.Lock()
	p := s.begun
	s.begun = nil
	f.mu.Unlock()
	if !p.over() {
		p.leave()
	}
}

// quit is finish of a stream that has ended; if it waits for its turn, it gives that up.
func (f *firsts) quit(s *session) {
	f.mu.Lock()
	f.stop(s)
	f.mu.Unlock()
	f.finish(s)
}
