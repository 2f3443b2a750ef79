package xds

import (
	"iter"
	"time"
)

// holding is what a stream has of one resource.
type holding struct {
	sent     *variant  // the last body sent and not rejected
	acked    *variant  // the last body ACKed, or found to be what the proxy holds
	flying   int       // bodies in flight
	beats    int       // heartbeats in flight
	needs    uint64    // the needs of the body that complete is about: see entry
	complete bool      // what needs says was met when a body was sent with all parts, and nothing of it was lost since
	accepted bool      // some version was ACKed, here or before
	doubtful bool      // the proxy may have it, but nothing must rely on that
	claim    string    // the content that the proxy named when it came, never sent here
	at       time.Time // of the last message, body or heartbeat
	fed      time.Time // of the last message that was ACKed
	ackedAt  time.Time // when acked came
	earlier  acks      // the ACKs before it; only of resources with parts
	early    *variant  // what went in a bulk that is not answered yet
	parked   []string  // versions that were rejected
}

// ack is a body that was ACKed, and when.
type ack struct {
	v  *variant
	at time.Time
}

// acks are the last maxEarlier of them, written over in place: who climbs for long must not leave garbage at each step.
type acks struct {
	ring []ack
	next int // that is written over, once there are maxEarlier
}

// maxEarlier bounds the memory of ACKs. Forgetting one can only make a proxy seem to have met a
// requirement later than it did.
const maxEarlier = 8

func (a *acks) add(one ack) {
	if len(a.ring) < maxEarlier {
		a.ring = append(a.ring, one)
		return
	}
	a.ring[a.next] = one
	a.next = (a.next + 1) % maxEarlier
}

// backward begins with the newest.
func (a *acks) backward() iter.Seq[ack] {
	return func(yield func(ack) bool) {
		for i := range a.ring {
			if !yield(a.ring[(a.next+len(a.ring)-1-i)%len(a.ring)]) {
				return
			}
		}
	}
}

// maxParked bounds how many rejected versions are remembered of one resource. Only those of the
// present content can come up again.
const maxParked = 8

// foldAfter is how long what a stream has stays noted by itself, with the time of its ACK, before it counts with the rest.
const foldAfter = 10 * time.Second

// extent says how much of a resource a stream has, as far as Needs care.
type extent int

const (
	nothing extent = iota
	sent
	accepted
)

func (h *holding) extent() extent {
	switch {
	case h == nil || !h.accepted && h.sent == nil:
		return nothing
	case h.accepted:
		return accepted
	default:
		return sent
	}
}

// void reports whether nothing is known of it but that the stream does not have it.
func (h *holding) void() bool {
	return h.claim == "" && !h.accepted && h.sent == nil && h.acked == nil && h.flying == 0 && h.beats == 0 && len(h.parked) == 0 && !h.doubtful
}

// implied returns what the stream has of a name that is not apart: nothing, or what is published.
func (s *session) implied(t *interest, name string) *entry {
	if t.base == nothing || !t.wants(name) {
		return nil
	}
	if e := s.group.entry(Key{t.url, name}); e != nil && e.plain() {
		return e
	}
	return nil
}

// extent is how much the stream has of a name.
func (s *session) extent(t *interest, name string) extent {
	if h := t.apart.get(name); h != nil {
		return h.extent()
	}
	if s.implied(t, name) == nil {
		return nothing
	}
	return t.base
}

// holding returns what the stream has of a name, nil if that is nothing. It is for reading.
func (s *session) holding(t *interest, name string) *holding {
	if h := t.apart.get(name); h != nil {
		if h.void() {
			return nil
		}
		return h
	}
	if e := s.implied(t, name); e != nil {
		return t.of(e)
	}
	return nil
}

// hold returns the stream's own note of a name, a new one if there is none.
func (s *session) hold(t *interest, name string) *holding {
	h := t.apart.get(name)
	if h != nil {
		return h
	}
	if e := s.implied(t, name); e != nil {
		return t.keepApart(name, t.of(e))
	}
	return t.keepApart(name, &holding{})
}

func (t *interest) keepApart(name string, h *holding) *holding {
	t.apart.set(name, h)
	return h
}

// of is what a stream has of a resource of which it has as much as of the rest.
func (t *interest) of(e *entry) *holding {
	if t.base == sent {
		return &holding{sent: e.full, early: e.full, at: t.bulk.at, flying: 1}
	}
	return &holding{sent: e.full, acked: e.full, accepted: true, at: t.settled, fed: t.settled, ackedAt: t.settled}
}

// clear makes the stream have nothing of a name.
func (s *session) clear(t *interest, name string) {
	t.apart.drop(name)
	if s.implied(t, name) != nil {
		t.keepApart(name, &holding{})
	}
}

// leaveBase notes what the stream has of a name by itself, because what is published of it is about to be another than old.
func (s *session) leaveBase(t *interest, name string, old *entry) {
	if t.base == nothing || t.apart.get(name) != nil {
		return
	}
	if old != nil && old.plain() {
		t.keepApart(name, t.of(old))
		return
	}
	t.keepApart(name, &holding{})
}

// fold ends the separate notes of what has long been as it is published.
func (s *session) fold(now time.Time) {
	for _, t := range s.types {
		t.dirty.shrink()
		if t.base != accepted {
			continue
		}
		for name, h := range t.apart.all() {
			if s.folds(t, name, h, now) {
				t.settled = latest(t.settled, h.ackedAt)
				t.apart.drop(name)
			}
		}
		t.apart.shrink()
	}
	if len(s.leaving) == 0 {
		s.leaving = nil
	}
	if len(s.warming) == 0 {
		s.warming = nil
	}
}

// folds reports whether a note says no more than what is published does.
func (s *session) folds(t *interest, name string, h *holding, now time.Time) bool {
	e := s.group.entry(Key{t.url, name})
	if e == nil || !e.plain() || h.acked == nil || h.acked.content != e.full.content || h.sent != h.acked || now.Sub(h.ackedAt) < foldAfter {
		return false
	}
	_, refused := s.rejections[Key{t.url, name}]
	_, warms := s.warming[name]
	return !refused && !warms && h.flying == 0 && h.beats == 0 && len(h.parked) == 0 && t.dirty.get(name) == 0 && t.wants(name)
}
