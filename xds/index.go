package xds

import (
	"bytes"
	mathbits "math/bits"
	"slices"
	"sync"
	"time"
)

// group is what one group of proxies gets, and the streams that get it. Its mutex guards the group,
// its entries and all state of its sessions; it is never held across a send or a call-back.
// Server.mu may be taken while it is held, never the other way round.
type group struct {
	name string // fixed

	mu      sync.Mutex
	entries map[string]map[string]*entry // guarded by mu: type, then name
	// dependents tells which resources have parts that need a key. Guarded by mu.
	dependents map[Key]map[Key]struct{}
	// mortal are the resources with a TTL. Guarded by mu.
	mortal map[Key]*entry
	// sessions are ordered by stream number. Guarded by mu.
	sessions []*session
	// dead: nothing was published and the last stream left, so the server forgot the group. Guarded
	// by mu.
	dead bool
}

func newGroup(name string) *group {
	return &group{
		name: name, entries: map[string]map[string]*entry{}, dependents: map[Key]map[Key]struct{}{}, mortal: map[Key]*entry{},
	}
}

// entry is one published content of one resource. Everything but until and variants is fixed.
type entry struct {
	Resource
	cluster  string
	revision int64 // at which this content was first published
	hash     string
	full     *variant // with all parts
	safe     *variant // the body alone, without TTL: what may be sent without proof

	// Guarded by the group's mu.
	until    int64               // the last revision at which this content was still the published one; meaningless while it is
	variants map[string]*variant // the subsets that streams got, by their bits; at most maxVariants are kept
}

// maxVariants bounds how many encodings of one entry are kept. Streams in the same state of warming
// get the same subset, so few are ever live at once.
const maxVariants = 16

// variant is one encoding of an entry, shared by all streams that get these parts of it. The
// encodings are made when first sent.
type variant struct {
	of       *entry // fixed
	version  string // fixed
	content  string // fixed: the version without its origin; equal content is not sent again
	whole    bool   // fixed: all parts are in
	ttl      time.Duration
	included bits   // fixed
	kept     []Part // fixed: former contents of parts whose needs the stream does not meet yet

	body []byte // guarded by the group's mu: field `resources` of the response, ready to send; nil until first sent
	beat []byte // guarded by the group's mu: the same without the resource's body
}

func newEntry(r Resource, cluster string, revision int64) *entry {
	e := &entry{Resource: r, cluster: cluster, revision: revision, hash: hashOf(r), variants: map[string]*variant{}}
	e.full = e.make("", allBits(len(r.Parts)), r.TTL)
	e.full.whole = true
	e.safe = e.full
	if r.TTL > 0 || len(r.Parts) > 0 {
		e.safe = e.make(noParts, nil, 0)
	}
	return e
}

// variant returns the encoding with the included parts. One with none of several parts carries no
// TTL, there is nothing in it to take back.
func (e *entry) variant(included bits) *variant {
	if included.count() == len(e.Parts) {
		return e.full
	}
	if included.count() == 0 {
		return e.safe
	}
	if v := e.variants[string(included)]; v != nil {
		return v
	}
	v := e.make(subsetOf(e.pick(included)), slices.Clone(included), e.TTL)
	if len(e.variants) < maxVariants {
		e.variants[string(included)] = v
	}
	return v
}

// mixed returns an encoding with former parts beside the included ones. It is one stream's own, and
// not kept.
func (e *entry) mixed(included bits, kept []Part) *variant {
	v := e.make(subsetOf(append(e.pick(included), kept...)), included, e.TTL)
	v.kept = kept
	return v
}

func (e *entry) pick(included bits) []Part {
	picked := make([]Part, 0, len(e.Parts))
	for i, part := range e.Parts {
		if included.has(i) {
			picked = append(picked, part)
		}
	}
	return picked
}

// parts are the parts that are in, as they are encoded.
func (v *variant) parts() []Part { return append(v.of.pick(v.included), v.kept...) }

func (e *entry) make(subset string, included bits, ttl time.Duration) *variant {
	content := contentOf(e.hash, subset, e.Tag)
	written := version{cluster: e.cluster, revision: e.revision, content: content}
	return &variant{of: e, version: written.String(), content: content, ttl: ttl, included: included}
}

// same reports whether publishing r would change nothing that a proxy or another replica can see.
// The needs may differ.
func (e *entry) same(other *entry) bool { return e.hash == other.hash && e.Tag == other.Tag }

// set publishes a resource and reports whether that changed what proxies see. The caller holds mu.
func (g *group) set(r Resource, origin version) bool {
	named := g.entries[r.Type]
	if named == nil {
		named = map[string]*entry{}
		g.entries[r.Type] = named
	}
	old := named[r.Name]
	if old != nil && old.repeats(r) {
		return false
	}
	fresh := newEntry(r, origin.cluster, origin.revision)
	if old != nil {
		// It was right up to the revision before this one. A local rollback has no revision of its
		// own: then the old content is no longer right even at the one it was published with.
		g.unlink(old)
		old.until = origin.revision - 1
		if old.same(fresh) {
			// Only the needs changed: the content keeps its version, and streams that hold it need
			// nothing.
			fresh = newEntry(r, origin.cluster, old.revision)
		}
	}
	named[r.Name] = fresh
	g.link(fresh)
	return true
}

// repeats reports whether r is what is published already, needs included. It compares bytes, which
// is cheaper than hashing them, above all when they are the same bytes.
func (e *entry) repeats(r Resource) bool {
	return e.TTL == r.TTL && e.Tag == r.Tag && bytes.Equal(e.Body, r.Body) && slices.EqualFunc(e.Parts, r.Parts, func(a, b Part) bool {
		return a.Name == b.Name && bytes.Equal(a.Body, b.Body) && slices.Equal(a.Needs, b.Needs)
	})
}

// remove unpublishes a resource and reports whether it was there. The caller holds mu.
func (g *group) remove(key Key, revision int64) bool {
	old := g.entries[key.Type][key.Name]
	if old == nil {
		return false
	}
	old.until = revision - 1
	g.unlink(old)
	delete(g.entries[key.Type], key.Name)
	return true
}

// entry returns what is published under a key, or nil. The caller holds mu.
func (g *group) entry(key Key) *entry { return g.entries[key.Type][key.Name] }

func (g *group) link(e *entry) {
	if e.TTL > 0 {
		g.mortal[e.Key] = e
	}
	for _, part := range e.Parts {
		for _, need := range part.Needs {
			if g.dependents[need.Key] == nil {
				g.dependents[need.Key] = map[Key]struct{}{}
			}
			g.dependents[need.Key][e.Key] = struct{}{}
		}
	}
}

func (g *group) unlink(e *entry) {
	delete(g.mortal, e.Key)
	for _, part := range e.Parts {
		for _, need := range part.Needs {
			delete(g.dependents[need.Key], e.Key)
			if len(g.dependents[need.Key]) == 0 {
				delete(g.dependents, need.Key)
			}
		}
	}
}

// publish applies an update and has every stream that wants what changed look at it. The caller
// holds mu.
func (g *group) publish(u Update, origin version) {
	var set, gone []Key
	for _, r := range u.Set {
		if g.set(r, origin) {
			set = append(set, r.Key)
		}
	}
	for _, key := range u.Remove {
		if g.remove(key, origin.revision) {
			gone = append(gone, key)
		}
	}
	if len(set)+len(gone) == 0 {
		return
	}
	for _, s := range g.sessions {
		s.published(set, gone)
	}
}

// published has the stream look at what changed.
func (s *session) published(set, gone []Key) {
	for _, key := range set {
		delete(s.leaving, key)
		s.mark(key, changed)
	}
	for _, key := range gone {
		if t := s.interest(key.Type); t != nil {
			s.depart(t, key.Name)
		}
	}
	s.poke()
}

// bits is a set of part numbers.
type bits []byte

func allBits(n int) bits {
	b := make(bits, (n+7)/8)
	for i := range n {
		b.add(i)
	}
	return b
}

func (b bits) count() int {
	n := 0
	for _, eight := range b {
		n += mathbits.OnesCount8(eight)
	}
	return n
}

func (b bits) add(i int)      { b[i/8] |= 1 << (i % 8) }
func (b bits) has(i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }
