package xds

import (
	"fmt"
	"time"
)

// neverWaits is how many unanswered bytes a stream may have for the next send to return at once: grpc-go queues a message, whatever its size, while less than 64 KiB
// of those before it are not written yet, and what is answered was written.
const neverWaits = 60 << 10

// together is how many streams a sender has at once at most: it finds out what to send to all of them before it sends, so that it holds the group's lock once, and stays in the
// same code.
const together = 32

// longestHold is after how long a sender lets others have the group's lock.
const longestHold = time.Millisecond

// sendAll is one of the senders: it sends what streams have to send, until the queue is closed.
func (s *Server) sendAll() {
	streams, room := make([]*session, 0, together), make([]outgoing, 0, together)
	for streams = s.queue.take(streams[:0]); len(streams) > 0; streams = s.queue.take(streams[:0]) {
		s.sendTo(streams, room)
		clear(streams)
		clear(room[:len(streams)]) // what was sent may be large, and streams end
	}
}

// sendTo sends one message to each of the streams that have one. Who has more waits in the queue again, so that no stream keeps a sender from others. A send that may wait
// for the proxy is left to a goroutine of its own: a sender waits for nobody.
func (s *Server) sendTo(streams []*session, room []outgoing) {
	now, more := s.now(), streams[:0]
	for _, o := range s.upcoming(streams, now, room[:0]) {
		switch {
		case o.mayWait:
			go func() {
				if s.send(o, now) {
					s.queue.back(o.to)
				}
			}()
		case s.send(o, now):
			more = append(more, o.to)
		}
	}
	s.queue.back(more...)
}

// outgoing is what a stream is sent next.
type outgoing struct {
	to      *session
	flight  *flight // nil: nothing
	frame   *frame
	mayWait bool // for the proxy
	last    bool // nothing is behind it
}

// upcoming adds what each of the streams is sent next. There is at least one.
func (s *Server) upcoming(streams []*session, now time.Time, to []outgoing) []outgoing {
	g, since := streams[0].group, now
	g.mu.Lock()
	for _, one := range streams {
		// Streams that come back may take long, and a rollback must not wait for all of them.
		if at := s.now(); one.group != g || at.Sub(since) > longestHold {
			g.mu.Unlock()
			g, since = one.group, at
			g.mu.Lock()
		}
		s.guard(one, func() { to = append(to, one.upcoming(now)) })
	}
	g.mu.Unlock()
	return to
}

// guard runs a piece of sending, and ends the stream if that panics.
func (s *Server) guard(one *session, run func()) {
	if err := s.contain(one.node, func() error { run(); return nil }); err != nil {
		one.kick(err)
		s.queue.rest(one)
	}
}

// send sends a message that was made at this time, and reports whether the stream is to be looked at once more.
func (s *Server) send(o outgoing, now time.Time) (more bool) {
	s.guard(o.to, func() {
		if o.flight != nil && !o.to.deliver(o, now) {
			s.queue.rest(o.to)
			return
		}
		more = !o.last || s.queue.rest(o.to)
	})
	return more
}

// deliver hands a message over, and reports whether the stream lives.
func (s *session) deliver(o outgoing, now time.Time) bool {
	s.writing.Store(int64(now.Sub(s.server.epoch)) | 1) // never 0
	err := s.stream.SendMsg(o.frame)
	s.writing.Store(0)
	if err != nil {
		s.kick(ended(fmt.Errorf("send to %s: %w", s.node, err)))
		return false
	}
	s.server.report(Event{Kind: ResponseSent, Node: s.node, Group: s.group.name, Type: o.flight.t.url, Heartbeat: o.flight.beat})
	return true
}

// upcoming returns the next message. When there is none, it has the stream looked at when something is due. The caller holds group.mu.
func (s *session) upcoming(now time.Time) outgoing {
	if s.gone {
		return outgoing{to: s, last: true}
	}
	before, due := s.unanswered, s.due
	f := s.next(now)
	if f == nil {
		s.arm(now)
		return outgoing{to: s, last: true}
	}
	if !f.beat {
		s.group.moves.moved(f.t.url)
	}
	o := outgoing{to: s, flight: f, frame: s.launch(f), mayWait: before > neverWaits}
	s.lookAt(due) // next has not come so far as to find it out anew
	o.last = !f.beat && s.sated(now)
	return o
}

// sated reports whether there obviously is nothing more to send, and the alarm is set; false means nothing. The heartbeat of what was just sent is due only once that is
// answered, and thought of then.
func (s *session) sated(now time.Time) bool {
	for r, t := range s.ranked {
		switch {
		case s.stirred&(1<<r) == 0:
		case t.hungry():
			return false
		default:
			s.stirred &^= t.bit
		}
	}
	return s.stirred == 0 && !s.urgent && len(s.leaving) == 0 && s.armed.After(now) && (s.due.IsZero() || !s.due.Before(s.armed))
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
