package xds

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/grpc/mem"
)

// pack is all that streams which want the same get of a type when they come, encoded once for all of them.
type pack struct {
	of      *shelf   // fixed
	made    uint64   // fixed: the shelf's changes when it was made
	plain   []*entry // fixed: ordered by name
	odd     []string // fixed: published with parts or a TTL, so that each stream gets its own; ordered
	missing []string // fixed: named and not published; ordered
	claims  sum      // fixed: of the plain ones' names and contents
	size    int      // fixed: bytes of the plain ones, less what frames them

	// Guarded by the group's mu.
	encoded [2]mem.Buffer // by protocol; nil: not now
	used    time.Time
}

// packKept is how long the bytes of a pack are kept after their last use.
const packKept = 5 * time.Second

// pack returns what a stream that comes gets of a type. The caller holds mu.
func (g *group) pack(s seeds, t *interest) *pack {
	shelf := g.shelf(t.url)
	at := &shelf.pack
	if !t.wildcard {
		if t.names == nil {
			return &pack{}
		}
		at = &t.names.pack
	}
	// Types of which nothing was published when they were asked for share their sets of names.
	if *at == nil || (*at).of != shelf || (*at).made != shelf.changes {
		*at = shelf.assemble(s, t)
	}
	return *at
}

// bytes returns the encoded resources of a pack. The caller holds mu.
func (g *group) bytes(p *pack, protocol Protocol, now time.Time) mem.Buffer {
	p.used = now
	if p.encoded[Delta] == nil && p.encoded[StateOfTheWorld] == nil {
		g.packs = append(g.packs, p)
	}
	if p.encoded[protocol] == nil {
		size := 0
		for _, e := range p.plain {
			size += len(e.Body) + len(e.Name) + len(e.full.version) + len(e.Type) + 24
		}
		all := make([]byte, 0, size)
		for _, e := range p.plain {
			all = e.full.append(all, protocol)
		}
		p.encoded[protocol] = mem.SliceBuffer(all)
	}
	return p.encoded[protocol]
}

// tidy forgets the bytes of packs that nobody has come for lately. The caller holds mu.
func (g *group) tidy(now time.Time) {
	g.packs = slices.DeleteFunc(g.packs, func(p *pack) bool {
		if now.Sub(p.used) < packKept {
			return false
		}
		p.encoded = [2]mem.Buffer{}
		return true
	})
}

// assemble makes a pack.
func (h *shelf) assemble(s seeds, t *interest) *pack {
	p, claim := &pack{of: h, made: h.changes}, []byte(nil)
	add := func(e *entry) {
		if !e.plain() {
			p.odd = append(p.odd, e.Name)
			return
		}
		p.plain = append(p.plain, e)
		p.size += len(e.Body)
		claim = appendClaim(claim[:0], e.Name, e.full.content)
		p.claims = p.claims.plus(s.of(claim))
	}
	if t.wildcard {
		for _, e := range h.entries {
			add(e)
		}
	} else {
		for name := range t.names.members {
			if e := h.entries[name]; e != nil {
				add(e)
			} else {
				p.missing = append(p.missing, name)
			}
		}
	}
	slices.SortFunc(p.plain, func(a, b *entry) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(p.odd)
	slices.Sort(p.missing)
	return p
}
