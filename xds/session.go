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
	id       uint64
	node     string
	version  string // of the proxy: "Envoy 1.40.0"
	protocol Protocol
	server   *Server
	group    *group
	peer     *node
	stream   stream
	came     time.Time

	leash  *leash
	reason atomic.Pointer[error] // why the server ends the stream; nil: it does not
	seen   atomic.Int64          // when anything last came from this node, as time since Server.epoch
	turn   turn                  // guarded by Server.queue.mu: whether a sender has it, or is to have it

	// writing is since when a send that may wait is under way, as time since Server.epoch; 0: none is.
	writing atomic.Int64

	// Guarded by group.mu.
	gone       bool                // the stream has ended
	types      []*interest         // in the order in which they are sent
	ranked     [unranked]*interest // those of them that have a rank, by it
	flights    []*flight           // unanswered responses
	unanswered int                 // bytes of them
	launched   uint64              // responses so far
	floor      int64               // the newest revision the proxy named; nothing is sent before it is published here
	foreign    map[string]struct{} // other etcd clusters whose versions the proxy named
	leaving    map[Key]*departure  // unpublished clusters and endpoints that it still has
	warming    map[string]struct{} // clusters sent whose endpoints were not sent since
	warmingAll bool                // the same of all clusters there were when it came
	rejections map[Key]Rejection   // what it refused last, by key
	due        time.Time           // when to look again though nothing happens; zero: never
	alarm      *time.Timer         // has it looked at
	armed      time.Time           // when alarm goes off; zero: it does not
	urgent     bool                // weights go first
	stirred    uint8               // a bit by rank: of that type there may be something to send
	unasked    allowance           // of requests that answer nothing
}

// interest is what a stream wants and has of one type.
type interest struct {
	session *session
	url     string
	bit     uint8 // in session.stirred
	solo    bool  // one response per resource with a TTL, in flight per resource: runtime layers, so that none waits for another
	full    bool  // a response holds all there is, and what is not in it is gone (xDS protocol, Deleting resources, of the state of the world)

	wildcard bool
	named    bool     // it has named resources, so that naming none means none
	names    *nameSet // shared; nil: none

	// base is what the stream has of everything plain that it wants and that is not apart; settled is since when at the latest.
	base    extent
	settled time.Time
	bulk    *flight // while base is sent: what it was sent in
	fresh   bool    // all of that is yet to be sent

	apart    map[string]*holding // what differs from base
	dirty    map[string]cause    // what to look at
	suspects [][]string          // pieces of rejected responses, to be sent apart until the rejected resource is alone
	flying   int                 // bodies in flight
	owed     bool                // an answer even if it is empty
	brought  bool                // the proxy has something of an earlier stream, and cannot say what
	took     bool                // it has accepted a response on this one
	stuck    bool                // it refused the first, which must not be sent in pieces: see stick
	last     uint64              // the newest nonce
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
	s.types = append(s.types, t)
	slices.SortStableFunc(s.types, func(a, b *interest) int { return cmp.Compare(rank(a.url), rank(b.url)) })
	return t
}

func (t *interest) wants(name string) bool { return t.wildcard || t.names.has(name) }

// look notes that a resource must be looked at.
func (t *interest) look(name string, why cause) {
	if t.dirty == nil {
		t.dirty = map[string]cause{}
	}
	t.dirty[name] |= why
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

// lookAt moves the time of the next look forward to at.
func (s *session) lookAt(at time.Time) {
	if s.due.IsZero() || at.Before(s.due) {
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
	if h := other.apart[key.Name]; h != nil && less {
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

// put writes to a map that is made when it is first needed: most streams never need most of theirs.
func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}
