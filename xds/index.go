package xds

import (
	"bytes"
	mathbits "math/bits"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/mem"
)

// group is what one group of proxies gets, and the streams that get it. Its mutex guards the group,
// its entries and all state of its sessions; it is never held across a send or a call-back.
// Server.mu may be taken while it is held, never the other way round.
type group struct {
	name  string // fixed
	seeds seeds  // fixed

	mu      sync.Mutex
	shelves map[string]*shelf // guarded by mu: by type, those of which something was ever published
	nowhere *shelf            // of all other types; never anything is on it
	// dependents counts the parts of each resource that need a key. Guarded by mu.
	dependents map[Key]map[Key]int
	// partial are the resources with parts, mortal those with a TTL. Guarded by mu.
	partial, mortal map[Key]*entry
	// packs are those whose bytes may be there. Guarded by mu.
	packs []*pack
	// sessions are ordered by stream number. Guarded by mu.
	sessions []*session
	// moves counts what may have changed how far a stream has come, and verdicts what was found last.
	// Guarded by mu.
	moves    moves
	verdicts map[asking]*verdict
	// losses counts what may have made a stream have less than it was found to have, or one more, or one less. Guarded by mu.
	losses uint64
	// dead: nothing was published and the last stream left, so the server forgot the group. Guarded
	// by mu.
	dead bool
}

// shelf is what a group publishes of one type.
type shelf struct {
	library *library // fixed

	// Guarded by the group's mu.
	entries map[string]*entry // by name
	changes uint64            // how often they changed
	pack    *pack             // the newest of what is sent to those who come and want all
}

func newShelf(s seeds) *shelf { return &shelf{library: newLibrary(s), entries: map[string]*entry{}} }

func newGroup(name string, s seeds) *group {
	return &group{
		name: name, seeds: s, shelves: map[string]*shelf{}, nowhere: newShelf(s),
		dependents: map[Key]map[Key]int{}, partial: map[Key]*entry{}, mortal: map[Key]*entry{},
	}
}

// shelf returns that of a type. The caller holds mu.
func (g *group) shelf(url string) *shelf {
	if h := g.shelves[url]; h != nil {
		return h
	}
	return g.nowhere
}

// size is how many resources are published. The caller holds mu.
func (g *group) size() (resources int) {
	for _, h := range g.shelves {
		resources += len(h.entries)
	}
	return resources
}

// empty reports whether nothing is published. The caller holds mu.
func (g *group) empty() bool { return g.size() == 0 }

// entry is one published content of one resource. Everything that is not guarded is fixed once it is published.
type entry struct {
	Resource
	cluster  string
	revision int64 // at which this content was first published
	hash     string
	all      bits     // every part
	needed   []string // types that the parts need
	needs    uint64   // a number of all that the parts need: those of one resource that need the same have the same
	full     *variant // with all parts
	safe     *variant // the body alone, without TTL: what may be sent without proof

	// Guarded by the group's mu.
	until    int64                // the last revision at which this content was still the published one; meaningless while it is
	variants map[string]*variant  // the subsets that streams got, by their bits; at most maxVariants are kept
	covered  map[coverKey]covered // who has what all its parts need
	uptake   uptake               // how far it has come
}

// plain reports whether all streams get the same of it, for as long as it is published.
func (e *entry) plain() bool { return len(e.Parts) == 0 && e.TTL == 0 }

// alone reports whether it is published, and plain.
func (e *entry) alone() bool { return e != nil && e.plain() }

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

	bodies [2]mem.Buffer // guarded by the group's mu: see encoded; nil until first sent alone
	beat   mem.Buffer    // guarded by the group's mu: the same without the resource itself; nil until first sent
}

func newEntry(r Resource, cluster string, revision int64) *entry {
	e := &entry{Resource: r, cluster: cluster, revision: revision, hash: hashOf(r), all: allBits(len(r.Parts)), needed: neededTypes(r.Parts)}
	e.full = e.make("", e.all, r.TTL)
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
		put(&e.variants, string(included), v)
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

// change is a resource whose publication changed, and what it was before: nil for one that is new.
type change struct {
	Key
	old *entry
}

// set publishes a resource and reports whether that changed what proxies see, and what it was. The
// caller holds mu.
func (g *group) set(r Resource, origin version) (old *entry, changed bool) {
	shelf := g.shelves[r.Type]
	if shelf == nil {
		shelf = newShelf(g.seeds)
		g.shelves[r.Type] = shelf
	}
	old = shelf.entries[r.Name]
	if old != nil && old.repeats(r) {
		return old, false
	}
	fresh := newEntry(r, origin.cluster, origin.revision)
	if old != nil {
		// It was right up to the revision before this one. A local rollback has no revision of its
		// own: then the old content is no longer right even at the one it was published with.
		old.until = origin.revision - 1
		if old.same(fresh) {
			// Only the needs changed: the content keeps its version, and streams that hold it need
			// nothing.
			fresh = newEntry(r, origin.cluster, old.revision)
			fresh.uptake.begun = old.uptake.begun
		}
	}
	fresh.needs, fresh.uptake.losses = old.needsOf(fresh, shelf.changes), g.losses
	shelf.entries[r.Name] = fresh
	shelf.changes++
	if old != nil {
		g.unlink(old, fresh)
	}
	g.link(fresh, old)
	return old, true
}

// repeats reports whether r is what is published already, needs included. It compares bytes, which
// is cheaper than hashing them, above all when they are the same bytes.
func (e *entry) repeats(r Resource) bool {
	return e.TTL == r.TTL && e.Tag == r.Tag && bytes.Equal(e.Body, r.Body) && slices.EqualFunc(e.Parts, r.Parts, func(a, b Part) bool {
		return a.Name == b.Name && bytes.Equal(a.Body, b.Body) && slices.Equal(a.Needs, b.Needs)
	})
}

// remove unpublishes a resource and returns what it was, nil if it was not there. The caller holds
// mu.
func (g *group) remove(key Key, revision int64) *entry {
	shelf := g.shelf(key.Type)
	old := shelf.entries[key.Name]
	if old == nil {
		return nil
	}
	old.until = revision - 1
	g.unlink(old, nil)
	delete(shelf.entries, key.Name)
	shelf.changes++
	return old
}

// entry returns what is published under a key, or nil. The caller holds mu.
func (g *group) entry(key Key) *entry { return g.shelf(key.Type).entries[key.Name] }

func (g *group) link(e, before *entry) {
	if e.TTL > 0 {
		g.mortal[e.Key] = e
	}
	if len(e.Parts) > 0 {
		g.partial[e.Key] = e
	}
	for i, part := range e.Parts {
		if before != nil && before.needsAlike(i, part) {
			continue
		}
		for _, need := range part.Needs {
			if g.dependents[need.Key] == nil {
				g.dependents[need.Key] = map[Key]int{}
			}
			g.dependents[need.Key][e.Key]++
		}
	}
}

func (g *group) unlink(e, after *entry) {
	delete(g.mortal, e.Key)
	delete(g.partial, e.Key)
	for i, part := range e.Parts {
		if after != nil && after.needsAlike(i, part) {
			continue
		}
		for _, need := range part.Needs {
			on := g.dependents[need.Key]
			if on[e.Key]--; on[e.Key] == 0 {
				delete(on, e.Key)
			}
			if len(on) == 0 {
				delete(g.dependents, need.Key)
			}
		}
	}
}

// needsAlike reports whether the part in the same place needs the same.
func (e *entry) needsAlike(i int, part Part) bool {
	return i < len(e.Parts) && slices.Equal(e.Parts[i].Needs, part.Needs)
}

// needsOf is the number of what the next entry of the same resource needs.
func (e *entry) needsOf(next *entry, fresh uint64) uint64 {
	if e != nil && slices.EqualFunc(e.Parts, next.Parts, func(a, b Part) bool { return slices.Equal(a.Needs, b.Needs) }) {
		return e.needs
	}
	return fresh
}

// publish applies an update and has every stream that wants what changed look at it. It returns the
// streams that must be looked at. The caller holds mu.
func (g *group) publish(u Update, origin version) []*session {
	var set, gone []change
	for _, r := range u.Set {
		if old, changed := g.set(r, origin); changed {
			set = append(set, change{r.Key, old})
		}
	}
	for _, key := range u.Remove {
		if old := g.remove(key, origin.revision); old != nil {
			gone = append(gone, change{key, old})
		}
	}
	if len(set)+len(gone) == 0 {
		return nil
	}
	for _, c := range slices.Concat(set, gone) {
		g.moves.moved(c.Type)
	}
	concerned := make([]*session, 0, len(g.sessions))
	for _, s := range g.sessions {
		if s.takes(set, gone) {
			s.urgent = s.urgent || u.Urgent
			concerned = append(concerned, s)
		}
	}
	return concerned
}

// takes is published; a stream that it panics on ends, and no other.
func (s *session) takes(set, gone []change) (concerned bool) {
	if err := s.server.contain(s.node, func() error { concerned = s.published(set, gone); return nil }); err != nil {
		s.kick(err)
	}
	return concerned
}

// published has the stream look at what changed, and reports whether it wants any of it.
func (s *session) published(set, gone []change) (concerned bool) {
	for _, c := range set {
		t := s.interest(c.Type)
		if t == nil || !t.wants(c.Name) {
			continue
		}
		concerned = true
		if t.stuck {
			s.startOver(t)
		}
		if t.fresh {
			continue // it gets all there is
		}
		s.leaveBase(t, c.Name, c.old)
		delete(s.leaving, c.Key)
		t.look(c.Name, changed)
	}
	for _, c := range gone {
		t := s.interest(c.Type)
		if t == nil || !t.wants(c.Name) {
			continue
		}
		concerned = true
		if t.stuck {
			s.startOver(t)
		}
		if t.fresh {
			continue
		}
		s.leaveBase(t, c.Name, c.old)
		s.depart(t, c.Name)
	}
	return concerned
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
