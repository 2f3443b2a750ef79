package xds

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// session is one stream: what it subscribed to, what it holds, what it was sent and has not
// answered. Requests change it (request.go), answer.go decides what to send next.
type session struct {
	// Fixed at the stream's first message.
	id      uint64
	node    string
	version string // of the proxy: "Envoy 1.40.0"
	server  *Server
	group   *group
	peer    *node
	came    time.Time

	wake   chan struct{} // capacity 1: there may be something to send
	kicked chan error    // capacity 1: why the server ends the stream
	seen   atomic.Int64  // when anything last came from this node, as time since Server.epoch

	// Guarded by group.mu.
	types      []*interest         // in the order in which they are sent
	flights    map[string]*flight  // unanswered responses, by nonce
	nonces     uint64              // responses so far
	floor      int64               // the newest revision the proxy named; nothing is sent before it is published here
	foreign    map[string]struct{} // other etcd clusters whose versions the proxy named
	leaving    map[Key]*departure  // unpublished clusters and endpoints that it still has
	warming    map[string]struct{} // clusters sent whose endpoints were not sent since
	rejections map[Key]Rejection   // what it refused last, by key
	due        time.Time           // when to look again though nothing happens; zero: never
}

// interest is what a stream wants and has of one type.
type interest struct {
	url  string
	solo bool // one response per resource, in flight per resource: runtime layers, so that none waits for another

	wildcard bool
	names    map[string]struct{}
	held     map[string]*holding
	dirty    map[string]cause // what to look at
	suspects [][]string       // pieces of rejected responses, to be sent apart until the rejected resource is alone
	flying   int              // bodies in flight
	owed     bool             // an answer even if it is empty
}

// holding is what a stream has of one resource.
type holding struct {
	claim    string    // the content that the proxy named when it came, never sent here
	accepted bool      // some version was ACKed, here or before
	sent     *variant  // the last body sent and not rejected
	acked    *variant  // the last body ACKed, or found to be what the proxy holds
	at       time.Time // of the last message, body or heartbeat
	fed      time.Time // of the last message that was ACKed
	ackedAt  time.Time // when acked came
	earlier  []ack     // the ACKs before it, newest last; only of resources with parts, at most maxEarlier
	flying   int       // bodies in flight
	beats    int       // heartbeats in flight
	parked   []string  // versions that were rejected
}

// ack is a body that was ACKed, and when.
type ack struct {
	v  *variant
	at time.Time
}

// maxEarlier bounds the memory of ACKs. Forgetting one can only make a proxy seem to have met a
// requirement later than it did.
const maxEarlier = 8

// maxParked bounds how many rejected versions are remembered of one resource. Only those of the
// present content can come up again.
const maxParked = 8

// cause is why a resource is looked at.
type cause uint8

const (
	asked   cause = 1 << iota // the proxy subscribed: it must be answered
	resumed                   // the proxy subscribed and named the version it holds
	changed                   // something else was published
	follows                   // its cluster was just sent: endpoints go right behind it
	suspect                   // it was in a response that was rejected: sent apart
	refresh                   // a heartbeat would come too late
	recheck                   // needs or proof changed
)

// must are the causes for which even content that the stream has is sent.
const must = asked | follows | suspect | refresh

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

// rank orders the types within a stream: make before break (xDS protocol, Eventual consistency
// considerations).
func rank(url string) int {
	order := []string{ClusterType, EndpointType, ListenerType, RouteType, RuntimeType}
	if i := slices.Index(order, url); i >= 0 {
		return i
	}
	return len(order)
}

func newInterest(url string) *interest {
	return &interest{
		url: url, solo: url == RuntimeType,
		names: map[string]struct{}{}, held: map[string]*holding{}, dirty: map[string]cause{},
	}
}

// interest returns what the stream wants of a type, nil if it never asked.
func (s *session) interest(url string) *interest {
	for _, t := range s.types {
		if t.url == url {
			return t
		}
	}
	return nil
}

func (s *session) begin(url string) *interest {
	t := newInterest(url)
	s.types = append(s.types, t)
	slices.SortStableFunc(s.types, func(a, b *interest) int { return cmp.Compare(rank(a.url), rank(b.url)) })
	return t
}

func (t *interest) wants(name string) bool {
	if t.wildcard {
		return true
	}
	_, named := t.names[name]
	return named
}

// hold returns the holding of a name, a new one if there is none.
func (t *interest) hold(name string) *holding {
	h := t.held[name]
	if h == nil {
		h = &holding{}
		t.held[name] = h
	}
	return h
}

// mark has a resource looked at, if the stream wants it, and reports whether it does.
func (s *session) mark(key Key, why cause) bool {
	t := s.interest(key.Type)
	if t == nil || !t.wants(key.Name) {
		return false
	}
	t.dirty[key.Name] |= why
	return true
}

// poke wakes the sender.
func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// kick ends the stream. Only the first reason counts.
func (s *session) kick(err error) {
	select {
	case s.kicked <- err:
	default:
	}
}

// lookAt moves the time of the next look forward to at.
func (s *session) lookAt(at time.Time) {
	if s.due.IsZero() || at.Before(s.due) {
		s.due = at
	}
}

// moved tells the resources whose parts need this one that the stream now has more, or less, of it
// than before.
func (s *session) moved(t *interest, name string, before extent) {
	after := t.held[name].extent()
	if before == after {
		return
	}
	for key := range s.group.dependents[Key{t.url, name}] {
		other := s.interest(key.Type)
		if other == nil {
			continue
		}
		if h := other.held[key.Name]; h != nil && after < before {
			h.claim = "" // what the proxy said it holds may now name what it does not have
		}
		s.mark(key, recheck)
	}
}

// drop forgets what the stream holds of a name.
func (s *session) drop(t *interest, name string) {
	before := t.held[name].extent()
	delete(t.held, name)
	delete(t.dirty, name)
	delete(s.leaving, Key{t.url, name})
	delete(s.rejections, Key{t.url, name})
	if t.url == ClusterType || t.url == EndpointType {
		delete(s.warming, name)
	}
	s.moved(t, name, before)
}

// frozen says why nothing may be sent to this stream now; empty: it may.
func (s *session) frozen() string {
	for cluster := range s.foreign {
		if !s.server.adopts(cluster) {
			return "holds what etcd cluster " + cluster + " published, this server follows " + s.server.cluster + ": nothing is sent until that is adopted"
		}
	}
	if published := s.server.reached(); s.floor > published {
		return "holds a newer revision than this server has seen: nothing is sent until it caught up"
	}
	return ""
}
