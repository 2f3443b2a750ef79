package xds

import (
	"sync"
)

// turn says where a stream is between having something to send and having sent it. The zero value is at rest.
type turn uint8

const (
	resting    turn = iota
	waiting         // in the queue
	working         // a sender has it
	again           // a sender has it, and it is to be looked at once more
	againFirst      // the same, with weights to take back
)

// queue holds the streams that may have something to send. A few senders share it, so that a change wakes them and not a goroutine of each stream.
type queue struct {
	senders int // fixed: who share it

	mu    sync.Mutex
	some  sync.Cond // of mu: there is one, or it is closed
	lines [2]line   // guarded by mu: those with weights to take back go before all others
	over  bool      // guarded by mu
}

// line is a first-in, first-out of streams.
type line struct {
	streams []*session
	first   int
}

func (l *line) push(s *session) {
	if l.first > 1024 && l.first > len(l.streams)/2 { // it may never be empty
		kept := copy(l.streams, l.streams[l.first:])
		clear(l.streams[kept:])
		l.streams, l.first = l.streams[:kept], 0
	}
	l.streams = append(l.streams, s)
}

// head is who is popped next, nil if nobody is.
func (l *line) head() *session {
	if l.first == len(l.streams) {
		return nil
	}
	return l.streams[l.first]
}

func (l *line) len() int { return len(l.streams) - l.first }

func (l *line) pop() *session {
	s := l.head()
	if s == nil {
		return nil
	}
	l.streams[l.first] = nil
	if l.first++; l.first == len(l.streams) {
		l.streams, l.first = l.streams[:0], 0
	}
	return s
}

func newQueue(senders int) *queue {
	q := &queue{senders: senders}
	q.some.L = &q.mu
	return q
}

// add has streams looked at. The urgent are looked at before all others, those that wait already included.
func (q *queue) add(urgent bool, streams ...*session) {
	if len(streams) == 0 {
		return
	}
	q.mu.Lock()
	for _, s := range streams {
		switch {
		case s.turn == resting, s.turn == waiting && urgent:
			s.turn = waiting
			q.lines[lineOf(urgent)].push(s)
		case s.turn >= working && urgent:
			s.turn = againFirst
		case s.turn == working:
			s.turn = again
		}
	}
	q.mu.Unlock()
	if len(streams) == 1 {
		q.some.Signal()
	} else {
		q.some.Broadcast()
	}
}

func lineOf(urgent bool) int {
	if urgent {
		return 0
	}
	return 1
}

// take waits for streams to send to, and adds as many as there is room for, but leaves the other senders their share; none: no more.
func (q *queue) take(to []*session) []*session {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.over {
		share := (q.lines[0].len() + q.lines[1].len() + q.senders - 1) / q.senders
		for i := range q.lines {
			for len(to) < min(share, cap(to)) {
				s := q.lines[i].pop()
				if s == nil {
					break
				}
				if s.turn == waiting { // else it had its turn in the other line
					s.turn = working
					to = append(to, s)
				}
			}
		}
		if len(to) > 0 {
			return to
		}
		q.some.Wait()
	}
	return nil
}

// rest ends a stream's turn, unless it is to be looked at once more: then it reports that, and the stream is to go back.
func (q *queue) rest(s *session) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.turn > working {
		return true
	}
	s.turn = resting
	return false
}

// back has streams that a sender has wait for another turn.
func (q *queue) back(streams ...*session) {
	if len(streams) == 0 {
		return
	}
	q.mu.Lock()
	for _, s := range streams {
		line := lineOf(s.turn == againFirst)
		s.turn = waiting
		q.lines[line].push(s)
	}
	q.mu.Unlock()
	q.some.Broadcast()
}

// close lets the senders go.
func (q *queue) close() {
	q.mu.Lock()
	q.over = true
	q.mu.Unlock()
	q.some.Broadcast()
}
