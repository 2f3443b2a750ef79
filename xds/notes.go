package xds

import (
	"iter"
	"maps"
	"slices"
)

// notes are what is noted of some names. Most often that is one name, which takes no map: what a step reads and writes of each of thousands of streams is what it
// costs. A zero V is no note.
type notes[V comparable] struct {
	name string
	of   V            // of name; zero: it is free
	more map[string]V // of all others
}

func (n *notes[V]) get(name string) V {
	var none V
	if n.of != none && n.name == name {
		return n.of
	}
	return n.more[name]
}

func (n *notes[V]) set(name string, v V) {
	var none V
	switch {
	case n.of != none && n.name == name:
		n.of = v
	case n.of == none && len(n.more) == 0:
		n.name, n.of = name, v
	default:
		put(&n.more, name, v)
	}
}

func (n *notes[V]) drop(name string) {
	var none V
	if n.of != none && n.name == name {
		n.name, n.of = "", none
		return
	}
	delete(n.more, name)
}

func (n *notes[V]) len() int {
	var none V
	if n.of == none {
		return len(n.more)
	}
	return 1 + len(n.more)
}

// all is in no particular order. What is dropped meanwhile does not come any more.
func (n *notes[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		var none V
		if n.of != none && !yield(n.name, n.of) {
			return
		}
		for name, v := range n.more {
			if !yield(name, v) {
				return
			}
		}
	}
}

// names are those with a note, ordered.
func (n *notes[V]) names() []string {
	var none V
	switch {
	case n.of == none:
		return slices.Sorted(maps.Keys(n.more))
	case len(n.more) == 0:
		return []string{n.name}
	}
	all := slices.AppendSeq([]string{n.name}, maps.Keys(n.more))
	slices.Sort(all)
	return all
}

// shrink gives back what a map keeps for what it once took.
func (n *notes[V]) shrink() {
	if len(n.more) == 0 {
		n.more = nil
	}
}
