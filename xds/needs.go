package xds

import (
	"slices"
)

// maxCovered bounds for how many sets of names that is remembered.
const maxCovered = 64

// coverKey is whom a resource may be covered for: see covers.
type coverKey struct {
	url   string
	names *nameSet // nil: a wildcard
}

// covered is whether all that a resource's parts need of a type is published, and named in a set.
type covered struct {
	changes uint64 // the shelf's, when it was found out
	all     bool
}

// included returns the parts whose needs the stream meets, and whether one is missing of a type
// that the stream has not asked for yet.
func (s *session) included(e *entry, h *holding) (included bits, wait bool) {
	if h.complete && h.needs == e.needs || s.meetsAll(e) {
		return e.all, false
	}
	included = make(bits, (len(e.Parts)+7)/8)
	for i, part := range e.Parts {
		missing := s.missing(part)
		if missing < 0 {
			included.add(i)
			continue
		}
		wait = wait || s.interest(ClusterType) == nil || s.interest(part.Needs[missing].Type) == nil
	}
	return included, wait
}

// missing returns the place of the first need of a part that the stream does not meet, -1 if it
// meets all.
func (s *session) missing(part Part) int {
	return slices.IndexFunc(part.Needs, func(n Need) bool { return !s.meets(n) })
}

// meets reports whether the stream has what a part needs.
func (s *session) meets(n Need) bool {
	t := s.interest(n.Type)
	if t == nil {
		return false
	}
	if n.Type == EndpointType && !s.clusterOf(n.Name) {
		return false
	}
	if n.Accepted {
		return s.extent(t, n.Name) == accepted
	}
	return s.extent(t, n.Name) >= sent
}

// clusterOf reports whether nothing speaks against the stream having the cluster of endpoints that it has. In the state of the world a proxy names the endpoints of
// clusters from an earlier stream, and loses those clusters by the first response that they are not in.
func (s *session) clusterOf(name string) bool {
	if s.protocol == Delta {
		return true
	}
	t := s.interest(ClusterType)
	return t == nil || s.extent(t, name) >= sent
}

// clustersOf is clusterOf for all endpoints; false means nothing.
func (s *session) clustersOf() bool {
	if s.protocol == Delta {
		return true
	}
	t := s.interest(ClusterType)
	return t == nil || t.wildcard && t.base == accepted && t.apart.len() == 0
}

// meetsAll reports whether the stream obviously has what all parts need; false means nothing. It costs as much as the stream differs from what is published.
func (s *session) meetsAll(e *entry) bool {
	for _, url := range e.needed {
		t := s.interest(url)
		if t == nil || t.base != accepted || !s.group.covers(e, t) || url == EndpointType && !s.clustersOf() {
			return false
		}
		for name, h := range t.apart.all() {
			if h.extent() < accepted && s.group.dependents[Key{url, name}][e.Key] > 0 {
				return false
			}
		}
	}
	return true
}

// covers reports whether all that e's parts need of a type is published and wanted. The caller holds mu.
func (g *group) covers(e *entry, t *interest) bool {
	key := coverKey{url: t.url, names: t.names}
	if t.wildcard {
		key.names = nil
	}
	changes := g.shelf(t.url).changes
	if known, found := e.covered[key]; found && known.changes == changes {
		return known.all
	}
	all := true
	for _, part := range e.Parts {
		for _, need := range part.Needs {
			all = all && (need.Type != t.url || t.wants(need.Name) && g.entry(need.Key).alone())
		}
	}
	if len(e.covered) >= maxCovered {
		clear(e.covered) // they keep sets of names alive that nobody may use any more
	}
	put(&e.covered, key, covered{changes, all})
	return all
}

// neededTypes lists the types that parts need.
func neededTypes(parts []Part) (urls []string) {
	for _, part := range parts {
		for _, need := range part.Needs {
			if !slices.Contains(urls, need.Type) {
				urls = append(urls, need.Type)
			}
		}
	}
	return urls
}
