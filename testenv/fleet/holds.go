package fleet

// holds is what a client has of one type: what it had before, and what a response changed in that. It is not changed once made, so clients share it. Nil is nothing.
type holds struct {
	before  *holds
	set     []held
	removed []string
	depth   int
}

// deepest bounds how long a chain of changes grows before it is written anew.
const deepest = 64

// with returns what is held after a change.
func (h *holds) with(set []held, removed []string) *holds {
	if h != nil && len(set)+len(removed) == 0 {
		return h
	}
	next := &holds{before: h, set: set, removed: removed}
	if h != nil {
		next.depth = h.depth + 1
	}
	if next.depth < deepest {
		return next
	}
	flat := &holds{}
	for name, version := range next.all() {
		flat.set = append(flat.set, held{name, version})
	}
	return flat
}

// all are the versions of what is held, by name.
func (h *holds) all() map[string]string {
	if h == nil {
		return nil
	}
	all := h.before.all()
	if all == nil {
		all = make(map[string]string, len(h.set))
	}
	for _, name := range h.removed {
		delete(all, name)
	}
	for _, one := range h.set {
		all[one.name] = one.version
	}
	return all
}
