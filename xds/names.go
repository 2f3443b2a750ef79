package xds

import (
	"hash/maphash"
	"maps"
	"runtime"
	"sync"
	"weak"
)

// sum is a hash of a set that changes with one member in constant time: the sum of its members' hashes. With 128 bits of a secret seed, equal sums are equal sets.
type sum struct{ a, b uint64 }

func (s sum) plus(other sum) sum  { return sum{s.a + other.a, s.b + other.b} }
func (s sum) minus(other sum) sum { return sum{s.a - other.a, s.b - other.b} }

// seeds are the secret of a server's sums.
type seeds struct{ a, b maphash.Seed }

func newSeeds() seeds { return seeds{maphash.MakeSeed(), maphash.MakeSeed()} }

// of hashes a member.
func (s seeds) of(member []byte) sum {
	return sum{maphash.Bytes(s.a, member), maphash.Bytes(s.b, member)}
}

func (s seeds) ofString(member string) sum {
	return sum{maphash.String(s.a, member), maphash.String(s.b, member)}
}

// nameSet is a set of names that streams subscribed to. It is shared by all that named the same, and never changes.
type nameSet struct {
	members map[string]struct{} // fixed
	sum     sum                 // fixed
	bytes   int                 // fixed: of all names together
	pack    *pack               // guarded by the group's mu: the newest of what is sent to those who come
}

// has reports whether a name is in the set; nil is empty.
func (n *nameSet) has(name string) bool {
	if n == nil {
		return false
	}
	_, has := n.members[name]
	return has
}

func (n *nameSet) len() int {
	if n == nil {
		return 0
	}
	return len(n.members)
}

func (n *nameSet) size() (bytes int) {
	if n == nil {
		return 0
	}
	return n.bytes
}

func (n *nameSet) total() sum {
	if n == nil {
		return sum{}
	}
	return n.sum
}

// library holds the sets of names that streams of one group have of one type, one of each. A set that nobody uses any more leaves it.
type library struct {
	seeds seeds // fixed

	mu   sync.Mutex
	sets map[sum]weak.Pointer[nameSet] // guarded by mu
}

func newLibrary(s seeds) *library { return &library{seeds: s, sets: map[sum]weak.Pointer[nameSet]{}} }

// find returns the set with a sum, nil if there is none yet.
func (l *library) find(total sum) *nameSet {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, known := l.sets[total]; known {
		return p.Value()
	}
	return nil
}

// keep returns the set that holds these members, which must have this sum.
func (l *library) keep(members map[string]struct{}, total sum) *nameSet {
	if len(members) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, known := l.sets[total]; known {
		if set := p.Value(); set != nil {
			return set
		}
	}
	set := &nameSet{members: members, sum: total}
	for name := range members {
		set.bytes += len(name)
	}
	l.sets[total] = weak.Make(set)
	runtime.AddCleanup(set, l.forget, total)
	return set
}

// forget removes a set that is gone, unless its like has come since.
func (l *library) forget(total sum) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, known := l.sets[total]; known && p.Value() == nil {
		delete(l.sets, total)
	}
}

// edit returns the set with names taken away and others added.
func (l *library) edit(set *nameSet, gone, come []string) *nameSet {
	total, changed := set.total(), map[string]bool{}
	for _, name := range gone {
		if _, seen := changed[name]; !seen && set.has(name) {
			total, changed[name] = total.minus(l.seeds.ofString(name)), false
		}
	}
	for _, name := range come {
		if stays, seen := changed[name]; !stays && (seen || !set.has(name)) {
			total, changed[name] = total.plus(l.seeds.ofString(name)), true
		}
	}
	switch {
	case total == set.total():
		return set
	case total == (sum{}):
		return nil
	}
	if known := l.find(total); known != nil {
		return known
	}
	return l.keep(set.with(changed), total)
}

// with are the members of the set with changes: true for those that come, false for those that go.
func (n *nameSet) with(changes map[string]bool) map[string]struct{} {
	members := make(map[string]struct{}, n.len()+len(changes))
	if n != nil {
		maps.Copy(members, n.members)
	}
	for name, stays := range changes {
		if stays {
			members[name] = struct{}{}
		} else {
			delete(members, name)
		}
	}
	return members
}

// first returns the set of the names that a stream's first request of a type subscribes to. When another stream has named the same, no name is copied.
func (l *library) first(r *request) *nameSet {
	if r.named == 0 {
		return nil
	}
	if known := l.find(r.names); known != nil {
		return known
	}
	names := make([]string, 0, r.named)
	r.eachSubscribed(func(name []byte) {
		if string(name) != wildcardName {
			names = append(names, string(name))
		}
	})
	return l.edit(nil, nil, names)
}
