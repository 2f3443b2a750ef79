package fleet

import (
	"maps"
	"slices"
	"sync"
)

// state is how far a client has come with what it was sent. It is not changed once made: clients that were sent the same share it, and what to do next is found out
// once for all of them.
type state struct {
	layers []string            // that each client has
	has    map[string]*holds   // by type
	asked  map[string][]string // names by type, sorted; a wildcard has none
	cold   map[string]struct{} // layers without an answer
	warm   map[string]struct{} // clusters that wait for endpoints
	owes   bool                // the answer to the newest clusters waits until nothing does

	again    sync.Once
	messages []request // guarded by again
}

// request is what a client asks, framed; or its body, when the node goes with it.
type request struct {
	framed message
	body   []byte // nil: framed is all
}

// reaction is what a client does about a response.
type reaction struct {
	to       *state
	releases bool      // the answer that it owes about clusters goes first
	asks     []message // then these
	holds    bool      // and its own answer at last, unless it owes that
}

// fresh is a client that has asked for its layers and nothing else.
func fresh(layers []string) *state {
	s := &state{layers: layers, has: map[string]*holds{}, asked: map[string][]string{Layers: layers}, cold: map[string]struct{}{}}
	for _, name := range layers {
		s.cold[name] = struct{}{}
	}
	return s
}

// react is what follows from a response.
func (s *state) react(c *content) *reaction {
	next := &state{layers: s.layers, has: maps.Clone(s.has), asked: maps.Clone(s.asked), cold: s.cold, warm: s.warm, owes: s.owes}
	next.has[c.typeURL] = s.has[c.typeURL].with(c.set, c.removed)
	r := &reaction{to: next}
	switch c.typeURL {
	case Layers:
		r.layers(c)
	case Clusters:
		r.clusters(c)
	case Endpoints:
		r.endpoints(c)
	case Listeners:
		r.listeners(c)
	}
	return r
}

// layers: an Envoy asks for nothing else until each layer has an answer.
func (r *reaction) layers(c *content) {
	if len(r.to.cold) == 0 {
		return
	}
	cold := maps.Clone(r.to.cold)
	for _, name := range c.names() {
		delete(cold, name)
	}
	r.to.cold = cold
	if len(cold) == 0 {
		r.ask(Clusters, nil, nil)
	}
}

// clusters: their answer waits until the endpoints of each have come; those of new ones are asked for.
func (r *reaction) clusters(c *content) {
	asked := r.to.asked[Endpoints]
	var more, less []string
	for _, name := range c.waits {
		if _, known := slices.BinarySearch(asked, name); !known {
			more = append(more, name)
		}
	}
	for _, name := range c.removed {
		if _, known := slices.BinarySearch(asked, name); known {
			less = append(less, name)
		}
	}
	if len(more)+len(less) > 0 {
		r.ask(Endpoints, more, less)
		r.to.has[Endpoints] = r.to.has[Endpoints].with(nil, less)
	}
	warm := maps.Clone(r.to.warm)
	if warm == nil {
		warm = map[string]struct{}{}
	}
	for _, name := range c.waits {
		warm[name] = struct{}{}
	}
	for _, name := range c.removed {
		delete(warm, name)
	}
	r.to.warm = warm
	r.holds = len(warm) > 0
	r.to.owes = r.holds
	if !r.holds {
		r.listen()
	}
}

// endpoints: that there are none is an answer, too.
func (r *reaction) endpoints(c *content) {
	if len(r.to.warm) == 0 {
		return
	}
	warm := maps.Clone(r.to.warm)
	for _, name := range c.names() {
		delete(warm, name)
	}
	r.to.warm = warm
	if len(warm) == 0 {
		r.releases, r.to.owes = r.to.owes, false
		r.listen()
	}
}

// listen asks for listeners once the first clusters are there.
func (r *reaction) listen() {
	if _, asked := r.to.asked[Listeners]; !asked {
		r.ask(Listeners, nil, nil)
	}
}

// listeners: routes are asked for by the names that listeners give. Those of a listener that goes are kept: ours never moves to others.
func (r *reaction) listeners(c *content) {
	var more []string
	for _, name := range c.needs {
		if _, known := slices.BinarySearch(r.to.asked[Routes], name); !known && !slices.Contains(more, name) {
			more = append(more, name)
		}
	}
	if len(more) > 0 {
		r.ask(Routes, more, nil)
	}
}

// ask adds a request for names, or for everything.
func (r *reaction) ask(typeURL string, more, less []string) {
	names := slices.DeleteFunc(slices.Clone(r.to.asked[typeURL]), func(name string) bool { return slices.Contains(less, name) })
	names = append(names, more...)
	slices.Sort(names)
	r.to.asked[typeURL] = names
	r.asks = append(r.asks, frameMessage(encodeRequest(typeURL, more, less, nil)))
}

// names are all that a response says something about.
func (c *content) names() []string {
	names := slices.Clone(c.removed)
	for _, one := range c.set {
		names = append(names, one.name)
	}
	return names
}

// settled reports whether a client has all that it asks for at its start.
func (s *state) settled() bool {
	if len(s.cold)+len(s.warm) > 0 || s.has[Listeners] == nil {
		return false
	}
	return len(s.asked[Routes]) == 0 || s.has[Routes] != nil
}
