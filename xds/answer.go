package xds

import (
	"slices"
	"time"
)

// flight is a response that was handed to the sender and not answered yet.
type flight struct {
	t     *interest
	nonce uint64
	size  int // bytes
	at    time.Time
	beat  bool   // a heartbeat: one item, without its body
	pack  *pack  // beside the items; nil: none
	made  uint64 // of a pack that was rejected: see pack
	items []item
	one   [1]item // where items begins: most flights have one
}

// newFlight makes one that carries nothing yet.
func newFlight(t *interest, now time.Time) *flight {
	f := &flight{t: t, at: now}
	f.items = f.one[:0]
	return f
}

// item is one resource in a response. A nil v is a removal, a nil h a removal of what the stream
// never had.
type item struct {
	name string
	h    *holding
	v    *variant
}

// decision is what to do about one dirty resource: send v, remove it, keep it dirty, or nothing.
type decision struct {
	send   *variant
	asked  bool // whether the stream has all that send needs; else it said that it has send itself, or had it before
	remove bool
	wait   bool
	later  time.Time // of a wait: when it ends though nothing happens
}

// next returns what to launch next on the stream, nil if there is nothing now; then due says when
// to look again. Types go in their order, one response in flight per type, or per resource for
// layers: what changes meanwhile is coalesced, the latest wins. The caller holds group.mu.
func (s *session) next(now time.Time) *flight {
	s.due = time.Time{}
	if s.frozen() != "" {
		return nil
	}
	if s.urgent {
		if f := s.weights(now); f != nil {
			return f
		}
		s.urgent = false
	}
	s.departures(now)
	// Bodies first: a changed weight must not queue behind heartbeats, and makes one needless.
	if f := s.body(now); f != nil {
		return f
	}
	beat, late := s.beats(now)
	if late {
		if f := s.body(now); f != nil {
			return f
		}
	}
	return beat
}

// take decides about one name, and notes what the stream will hold.
func (s *session) take(t *interest, name string, now time.Time) (item, bool) {
	why := t.dirty.get(name)
	if why == 0 {
		return item{}, false
	}
	d := s.decide(t, name, now)
	if d.wait {
		if !d.later.IsZero() {
			s.lookAt(d.later)
		}
		return item{}, false
	}
	t.dirty.drop(name)
	switch {
	case d.send != nil:
		before := s.extent(t, name)
		h := s.hold(t, name)
		h.sent, h.at = d.send, now
		h.complete, h.needs = d.asked && d.send.whole, d.send.of.needs
		s.moved(t, name, before)
		return item{name: name, h: h, v: d.send}, true
	case d.remove:
		return item{name: name, h: s.withdraw(t, name)}, s.answersMissing(t)
	}
	return item{}, false
}

// withdraw forgets what the stream holds of a name, but not what it refused of what is still
// published. It returns the former holding, nil if there was none.
func (s *session) withdraw(t *interest, name string) *holding {
	key, h := Key{t.url, name}, s.holding(t, name)
	rejection, refused := s.rejections[key]
	s.drop(t, name)
	if t.url == ClusterType {
		s.unsettleEndpoints(name)
	}
	if refused && s.group.entry(key) != nil {
		put(&s.rejections, key, rejection)
		t.keepApart(name, &holding{parked: h.parked})
	}
	return h
}

// unsettleEndpoints forgets that the stream has the endpoints of a cluster that it is about to lose.
// Envoy drops them with the cluster and says so only later; by then the cluster may be back, and
// something must not be sent that relies on them.
func (s *session) unsettleEndpoints(name string) {
	t := s.interest(EndpointType)
	if t == nil {
		return
	}
	h := s.holding(t, name)
	if h == nil {
		return
	}
	before := s.extent(t, name)
	t.keepApart(name, &holding{parked: h.parked, doubtful: true})
	s.moved(t, name, before)
}

// decide is what to do about one dirty name.
func (s *session) decide(t *interest, name string, now time.Time) decision {
	why, h := t.dirty.get(name), s.holding(t, name)
	e := s.group.entry(Key{t.url, name})
	if h == nil {
		h = &holding{}
	}
	if e == nil {
		return s.decideGone(t, name, h)
	}
	v, later := s.choose(e, h, why, now)
	send := decision{send: v, asked: h.claim != e.full.content}
	switch {
	case v == nil:
		return decision{wait: !later.IsZero(), later: later}
	case slices.Contains(h.parked, v.version):
		// Sent once, never again: a proxy that refuses a version refuses it for ever, and each
		// attempt would cost it a rejected update and us a false alarm.
		return h.instead(e, why)
	// A TTL keeps running across a reconnect and may end at any moment, so a layer is sent in full
	// even to a proxy that names the right version (envoy-measured.md 9).
	case why&must != 0, why&resumed != 0 && e.TTL > 0:
		return send
	case h.sent != nil && h.sent.content == v.content:
		delete(s.rejections, Key{t.url, name}) // what it refused is no longer wanted
		s.group.losses += e.needless(h.sent)
		return decision{}
	case h.sent == nil && e.TTL == 0 && h.claim == v.content:
		h.sent, h.acked, h.ackedAt = v, v, now // the proxy said so itself
		s.group.losses += e.needless(nil)
		delete(s.rejections, Key{t.url, name})
		return decision{}
	}
	return send
}

// decideGone answers for a name that is not published. What is leaving is still there for who asks;
// where its body is not known, the answer waits for its removal or return.
func (s *session) decideGone(t *interest, name string, h *holding) decision {
	why := t.dirty.get(name)
	switch leaving := s.leaving[Key{t.url, name}] != nil; {
	case leaving && why&must != 0 && h.sent != nil:
		return decision{send: h.sent}
	case leaving:
		return decision{wait: why&must != 0}
	}
	// A response that was rejected may have left something with the proxy that only a full one without it takes away.
	return decision{remove: why&asked != 0 || t.full && why&changed != 0 || s.holding(t, name) != nil}
}

// instead is the answer to a subscription whose newest version this proxy rejected: what it
// accepted last, or of a dead-man switch the safe body.
func (h *holding) instead(e *entry, why cause) decision {
	switch {
	case why&(asked|resumed) == 0:
		return decision{}
	case e.TTL > 0 && !slices.Contains(h.parked, e.safe.version):
		return decision{send: e.safe}
	case e.TTL == 0 && h.acked != nil:
		return decision{send: h.acked}
	}
	return decision{remove: true}
}

// resumeWait is how long a proxy that goes on from an earlier stream is given to name the clusters
// it has, before what needs them is sent without them.
const resumeWait = time.Second

// choose returns the variant of e that the stream should have, or nil and when to look again; a
// zero time is when something changes.
func (s *session) choose(e *entry, h *holding, why cause, now time.Time) (*variant, time.Time) {
	if e.TTL > 0 && s.protocol == StateOfTheWorld {
		return e.safe, time.Time{} // a TTL would crash Envoy, and without one nothing would take the parts back (envoy-measured.md 9)
	}
	if e.TTL > 0 && !s.server.fresh(now, e.TTL) {
		return s.unproven(e, h, why, now)
	}
	if h.claim == e.full.content {
		return e.full, time.Time{} // it has all of it, so it has what its parts need
	}
	included, wait := s.included(e, h)
	// An Envoy that reconnects asks for its layers before its clusters. To judge its needs before
	// it could name them would take a running ramp, or a whole service, away for a moment.
	patience := s.came.Add(resumeWait)
	if wait = wait && h.claim != "" || s.regains(e, included); wait && h.sent == nil && now.Before(patience) {
		return nil, patience
	}
	if kept := s.kept(e, h, included); len(kept) > 0 {
		return e.mixed(included, kept), time.Time{}
	}
	return e.variant(included), time.Time{}
}

// regains reports whether parts are missing of what the proxy may have had whole on an earlier stream. In the state of the world it cannot say that it has what they
// need, it shows it by its ACKs.
func (s *session) regains(e *entry, included bits) bool {
	t := s.interest(e.Type)
	return t.brought && !t.full && included.count() < len(e.Parts)
}

// kept returns the parts of what the proxy accepted last that stand in for parts of e whose needs it
// does not meet.
func (s *session) kept(e *entry, h *holding, included bits) []Part {
	if e.TTL > 0 || h.acked == nil || included.count() == len(e.Parts) {
		return nil
	}
	var kept []Part
	former := h.acked.parts()
	for i, part := range e.Parts {
		if included.has(i) || part.Name == "" {
			continue
		}
		at := slices.IndexFunc(former, func(p Part) bool { return p.Name == part.Name })
		if at >= 0 && s.missing(former[at]) < 0 {
			kept = append(kept, former[at])
		}
	}
	return kept
}

// unproven chooses without fresh proof: what must be sent goes without parts and without TTL, which
// gives everything back. A server that never was proven leaves layers alone that may still live,
// until they cannot.
func (s *session) unproven(e *entry, h *holding, why cause, now time.Time) (*variant, time.Time) {
	if why&(asked|resumed|changed|suspect) == 0 {
		return nil, time.Time{}
	}
	// Whatever a proxy holds was sent before this server opened, so after one TTL it is gone.
	expired := s.server.openedAt().Add(e.TTL)
	if !s.server.proven() && why&changed == 0 && h.sent == nil && now.Before(expired) {
		return nil, expired
	}
	return e.safe, time.Time{}
}
