package xds

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// session is one stream: what it subscribed to, what it holds, what it was sent and has not answered. Requests change it (request.go), answer.go decides what to
// send next, and send.go sends it.
//
// A stream that has all that is published costs the same whatever that is: names are in sets that streams share (names.go), and of what it holds only that is noted
// which differs from what is published (holding.go).
type session struct {
	// Fixed at the stream's first message.
	server   *Server
	group    *group
	node     string
	stream   stream
	protocol Protocol

	// writing is since when a send that may wait is under way, as time since Server.epoch; 0: none is.
	writing atomic.Int64
	seen    atomic.Int64 // when anything last came from this node, as time since Server.epoch
	unread  atomic.Bool  // nothing is received from it: it waits for a place
	turn    turn         // guarded by Server.queue.mu: whether a sender has it, or is to have it

	// Guarded by Server.firsts.mu.
	begun  *place // on which it is, or was last, sent all there is, which is much; nil: none
	awaits int    // bytes of the place that it waits for; 0: of none

	// Guarded by group.mu. What each response and each answer needs comes first: a step of thousands of streams reads it from memory, and not from a cache.
	gone       bool                // the stream has ended
	urgent     bool                // weights go first
	stirred    uint8               // a bit by rank: of that type there may be something to send
	ranked     [unranked]*interest // what it wants of the types that have a rank, by it
	flights    []*flight           // unanswered responses
	unanswered int                 // bytes of them
	launched   uint64              // responses so far
	floor      int64               // the newest revision the proxy named; nothing is sent before it is published here
	due        time.Time           // when to look again though nothing happens; zero: never
	armed      time.Time           // when alarm goes off; zero: it does not
	foreign    map[string]struct{} // other etcd clusters whose versions the proxy named
	leaving    map[Key]*departure  // unpublished clusters and endpoints that it still has
	rejections map[Key]Rejection   // what it refused last, by key
	types      []*interest         // all that it asked for, in the order in which they are sent
	warming    map[string]struct{} // clusters sent whose endpoints were not sent since
	warmingAll bool                // the same of all clusters there were when it came
	alarm      *time.Timer         // has it looked at
	unasked    allowance           // of requests that ask for something or answer nothing

	// Fixed at the stream's first message.
	id      uint64
	version string // of the proxy: "Envoy 1.40.0"
	peer    *node
	came    time.Time

	leash  *leash
	place  *place                // of its own goroutine: while it comes back
	placed bool                  // of its own goroutine: it has, or had, a place, or needs none
	reason atomic.Pointer[error] // why the server ends the stream; nil: it does not
}

// interest is what a stream wants and has of one type. As in a session, what each response and each answer needs comes first.
type interest struct {
	url  string
	bit  uint8 // in session.stirred
	solo bool  // one response per resource with a TTL, in flight per resource: runtime layers, so that none waits for another
	full bool  // a response holds all there is, and what is not in it is gone (xDS protocol, Deleting resources, of the state of the world)

	wildcard bool
	fresh    bool            // all that it has is yet to be sent: see base
	owed     bool            // an answer even if it is empty
	took     bool            // it has accepted a response on this stream
	stuck    bool            // it refused the first, which must not be sent in pieces: see stick
	dirty    notes[cause]    // what to look at
	apart    notes[*holding] // what it has that differs from base
	names    *nameSet        // shared; nil: none
	suspects [][]string      // pieces of rejected responses, to be sent apart until the rejected resource is alone
	flying   int             // bodies in flight
	last     uint64          // the newest nonce
	session  *session

	// base is what the stream has of everything plain that it wants and that is not apart; settled is since when at the latest.
	base    extent
	settled time.Time
	bulk    *flight // while base is sent: what it was sent in

	named   bool // it has named resources, so that naming none means none
	brought bool // the proxy has something of an earlier stream, and cannot say what
}

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

// rank orders the types within a stream: make before break (xDS protocol, Eventual consistency
// considerations).
func rank(url string) int {
	switch url {
	case ClusterType:
		return 0
	case EndpointType:
		return 1
	case ListenerType:
		return 2
	case RouteType:
		return 3
	case RuntimeType:
		return 4
	}
	return unranked
}

// unranked is the rank of all other types.
const unranked = 5

// interest returns what the stream wants of a type, nil if it never asked.
func (s *session) interest(url string) *interest {
	if r := rank(url); r < unranked {
		return s.ranked[r]
	}
	for _, t := range s.types {
		if t.url == url {
			return t
		}
	}
	return nil
}

func (s *session) begin(url string) *interest {
	t := &interest{session: s, url: url, bit: 1 << rank(url)}
	if s.protocol == StateOfTheWorld {
		t.full = url == ClusterType || url == ListenerType
	} else {
		t.solo = url == RuntimeType
	}
	if r := rank(url); r < unranked {
		s.ranked[r] = t
	}
	behind, _ := slices.BinarySearchFunc(s.types, rank(url)+1, func(other *interest, r int) int { return cmp.Compare(rank(other.url), r) })
	s.types = slices.Insert(s.types, behind, t)
	return t
}

func (t *interest) wants(name string) bool { return t.wildcard || t.names.has(name) }

// look notes that a resource must be looked at.
func (t *interest) look(name string, why cause) {
	t.dirty.set(name, t.dirty.get(name)|why)
	t.session.stirred |= t.bit
}

// mark has a resource looked at, if the stream wants it, and reports whether it does.
func (s *session) mark(key Key, why cause) bool {
	t := s.interest(key.Type)
	if t == nil || !t.wants(key.Name) {
		return false
	}
	t.look(key.Name, why)
	return true
}

// kick ends the stream. Only the first reason counts; it reports whether this is it.
func (s *session) kick(err error) (first bool) {
	if first = s.reason.CompareAndSwap(nil, &err); first {
		s.leash.end()
	}
	return first
}

// lookAt moves the time of the next look forward to at; zero is never.
func (s *session) lookAt(at time.Time) {
	if s.due.IsZero() || !at.IsZero() && at.Before(s.due) {
		s.due = at
	}
}

// moved tells the resources whose parts need this one that the stream now has more, or less, of it
// than before.
func (s *session) moved(t *interest, name string, before extent) {
	after := s.extent(t, name)
	if before == after {
		return
	}
	for key := range s.group.dependents[Key{t.url, name}] {
		s.reconsider(key, after < before)
	}
	if t.url == ClusterType && s.protocol == StateOfTheWorld {
		for key := range s.group.dependents[Key{EndpointType, name}] {
			s.reconsider(key, after < before)
		}
	}
}

// movedAll is moved for everything of a type.
func (s *session) movedAll(t *interest, less bool) {
	for key, e := range s.group.partial {
		if slices.Contains(e.needed, t.url) || t.url == ClusterType && s.protocol == StateOfTheWorld {
			s.reconsider(key, less)
		}
	}
}

// reconsider has a resource with parts looked at, for its needs are met by more than before, or less.
func (s *session) reconsider(key Key, less bool) {
	other := s.interest(key.Type)
	if other == nil {
		return
	}
	if h := other.apart.get(key.Name); h != nil && less {
		h.claim = "" // what the proxy said it holds may now name what it does not have
		h.complete = false
	}
	s.mark(key, recheck)
}

// drop forgets what the stream holds of a name.
func (s *session) drop(t *interest, name string) {
	before := s.extent(t, name)
	s.group.losses++
	s.clear(t, name)
	t.dirty.drop(name)
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

// put writes to a map that is made when it is first needed: most streams never need most of theirs.
func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}
