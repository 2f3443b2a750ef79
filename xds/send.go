package xds

import (
	"fmt"
	"time"
)

// neverWaits is how many unanswered bytes a stream may have for the next send to return at once: grpc-go queues a message, whatever its size, while less than 64 KiB
// of those before it are not written yet, and what is answered was written.
const neverWaits = 60 << 10

// sendAll is one of the senders: it sends what streams have to send, until the queue is closed.
func (s *Server) sendAll() {
	for one := s.queue.take(); one != nil; one = s.queue.take() {
		one.serve()
	}
}

// serve sends what there is to send.
func (s *session) serve() { s.guard(s.sendOut) }

// guard runs a piece of sending, and ends the stream if that panics.
func (s *session) guard(run func()) {
	if err := s.server.contain(s.node, func() error { run(); return nil }); err != nil {
		s.kick(err)
		s.server.queue.rest(s)
	}
}

// sendOut sends until there is nothing more. A send that may wait for the proxy is left to a goroutine of its own: a sender waits for nobody.
func (s *session) sendOut() {
	for {
		now := s.server.now()
		f, m, mayWait := s.upcoming(now)
		switch {
		case f == nil && s.server.queue.rest(s):
			continue
		case f == nil:
			return
		case mayWait:
			go s.guard(func() {
				if s.deliver(f, m, now) {
					s.sendOut()
				}
			})
			return
		}
		if !s.deliver(f, m, now) {
			return
		}
	}
}

// deliver sends one message, made at this time, and reports whether the stream lives.
func (s *session) deliver(f *flight, m *frame, now time.Time) bool {
	s.writing.Store(int64(now.Sub(s.server.epoch)) | 1) // never 0
	err := s.stream.SendMsg(m)
	s.writing.Store(0)
	if err != nil {
		s.kick(ended(fmt.Errorf("send to %s: %w", s.node, err)))
		s.server.queue.rest(s)
		return false
	}
	s.server.report(Event{Kind: ResponseSent, Node: s.node, Group: s.group.name, Type: f.t.url, Heartbeat: f.beat})
	return true
}

// upcoming returns the next message, and whether to send it may have to wait for the proxy. When there is none, it has the stream looked at when something is due.
func (s *session) upcoming(now time.Time) (f *flight, m *frame, mayWait bool) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	if s.gone {
		return nil, m, false
	}
	before := s.unanswered
	if f := s.next(now); f != nil {
		if !f.beat {
			s.group.moves.moved(f.t.url)
		}
		return f, s.launch(f), before > neverWaits
	}
	s.arm(now)
	return nil, m, false
}

// arm sets the alarm for what is due. One that goes off too early does no harm, so it is not moved back at each step.
func (s *session) arm(now time.Time) {
	if !s.armed.After(now) {
		s.armed = time.Time{}
	}
	if s.due.IsZero() || !s.armed.IsZero() && !s.armed.After(s.due) {
		return
	}
	s.armed = s.due
	wait := max(s.due.Sub(now), 0)
	if s.alarm != nil {
		s.alarm.Reset(wait)
		return
	}
	s.alarm = time.AfterFunc(wait, func() { s.server.queue.add(false, s) })
}
