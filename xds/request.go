package xds

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// wildcardName subscribes to everything of a type (xDS protocol, Wildcard subscriptions).
const wildcardName = "*"

// request applies one message of the proxy: first the answer it carries, then what it no longer
// wants, then what it wants. It returns the event to report, if any. The caller holds group.mu.
func (s *session) request(r *request, now time.Time) (Event, error) {
	t, first, limit, err := s.requested(r)
	if err != nil {
		return s.over(limit), err
	}
	// The answer comes first: what the same message subscribes to may have been waiting for it.
	happened, answered := s.answered(t, r, now)
	if !answered || r.rejected || r.subscribe+r.unsubscribe > 0 {
		s.group.losses++
	}
	if (!answered || asksAnew(t, r)) && !s.unasked.spend(s.server.limits, now, s.cost(t, r)) {
		return s.over("requests"), status.Errorf(codes.ResourceExhausted, "%s: a stream may send %d requests a second that ask for something or answer nothing (--max-requests)", r.typeURL, s.server.limits.Requests)
	}
	most, limit := s.server.limits.names(t)
	tooMany := max(r.subscribe, r.unsubscribe, r.versions) > most
	switch {
	case tooMany: // nothing of it counts
	case s.protocol == StateOfTheWorld:
		s.world(t, r, first)
	default:
		s.delta(t, r, first)
	}
	if t.hungry() {
		s.stirred |= t.bit
	}
	if tooMany || t.names.len() > most {
		return s.over(limit), status.Errorf(codes.ResourceExhausted, "subscribe to %s: a stream may name %d (--max-%s)", t.url, most, limit)
	}
	if err := s.bounded(t); err != nil {
		return s.over("requestbytes"), err
	}
	return happened, nil
}

// requested returns what a request is about, and whether it is the stream's first of this type; or which limit it exceeds.
func (s *session) requested(r *request) (t *interest, first bool, limit string, err error) {
	if r.longest > MaxName {
		return nil, false, "namebytes", status.Errorf(codes.ResourceExhausted, "a name of %d bytes: a type or a resource may have one of %d", r.longest, MaxName)
	}
	if t := s.interest(r.typeURL); t != nil {
		return t, false, "", nil
	}
	if most := s.server.limits.Types; len(s.types) >= most {
		return nil, false, "types", status.Errorf(codes.ResourceExhausted, "subscribe to %s: a stream may ask for %d types (--max-types)", r.typeURL, most)
	}
	return s.begin(r.typeURL), true, "", nil
}

// bounded fails if the names of a type would not fit in one request, which is what a proxy that comes back needs for them.
func (s *session) bounded(t *interest) error {
	most := s.server.limits.RequestBytes
	if t.names.size() <= most {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "subscribe to %s: the names of a stream may have %d bytes together, as a request has (--max-request-bytes)", t.url, most)
}

// asksAnew reports whether a request changes what the stream wants, or has it answered again; in the state of the world each names all that it wants.
func asksAnew(t *interest, r *request) bool {
	if r.protocol == Delta {
		return r.subscribe+r.unsubscribe > 0
	}
	return r.subscribe > 0 && (r.names != t.names.total() || r.everything != t.wildcard)
}

// over tells of a stream that asked for more than it may.
func (s *session) over(limit string) Event {
	return Event{Kind: LimitExceeded, Node: s.node, Group: s.group.name, Limit: limit}
}

// delta applies what a delta request subscribes to and what it takes back.
func (s *session) delta(t *interest, r *request, first bool) {
	if first {
		s.subscribeFirst(t, r)
		return
	}
	var gone, come []string
	none := false
	r.eachName(deltaUnsubscribe, func(name []byte) {
		if none = none || string(name) == wildcardName; string(name) != wildcardName {
			gone = append(gone, string(name))
		}
	})
	r.eachSubscribed(func(name []byte) {
		if string(name) != wildcardName {
			come = append(come, string(name))
		}
	})
	if none {
		s.unsubscribeAll(t)
	}
	s.unsubscribe(t, gone, come)
	s.subscribe(t, come)
	if r.everything {
		s.subscribeAll(t)
	}
}

// world applies the names of a request of the state of the world, which are all that it wants. A request that answers an older response than the newest is not
// answered, but for what it names: a proxy that drops a name and wants it anew before it has read the newest response says so only there. What it wants is sent when
// it has answered that one.
func (s *session) world(t *interest, r *request, first bool) {
	if first {
		s.comes(r.version) // all that it says of what it has from an earlier stream
		t.named = r.subscribe > 0
		s.subscribeFirst(t, r)
		return
	}
	if len(r.nonce) > 0 && nonceOf(r.nonce) != t.last && t.flying == 0 {
		return
	}
	wanted, all := s.named(t, r)
	if all == t.wildcard && wanted.total() == t.names.total() {
		return
	}
	if t.stuck {
		s.startOver(t)
	}
	gone, come := differences(t.names, wanted)
	// What comes is noted first: what the proxy wants before and after, by name or not, it keeps.
	if all && !t.wildcard {
		s.subscribeAll(t)
	}
	s.subscribe(t, come)
	if !all && t.wildcard {
		s.unsubscribeAll(t)
	}
	s.unsubscribe(t, gone, nil)
}

// named returns the names of a request of the state of the world, and whether it wants all there is. Naming none is that too, until something was named (xDS protocol,
// How the client specifies what resources to return).
func (s *session) named(t *interest, r *request) (wanted *nameSet, all bool) {
	if r.subscribe == 0 {
		return nil, !t.named
	}
	t.named = true
	return s.library(t).first(r), r.everything
}

func (s *session) library(t *interest) *library { return s.group.shelf(t.url).library }

// differences lists what is in one set only.
func differences(before, after *nameSet) (gone, come []string) {
	if before.total() == after.total() {
		return nil, nil
	}
	if before != nil {
		for name := range before.members {
			if !after.has(name) {
				gone = append(gone, name)
			}
		}
	}
	if after != nil {
		for name := range after.members {
			if !before.has(name) {
				come = append(come, name)
			}
		}
	}
	return gone, come
}

// subscribeFirst applies a stream's first request of a type.
func (s *session) subscribeFirst(t *interest, r *request) {
	t.names = s.library(t).first(r)
	t.wildcard = r.everything || r.subscribe == 0 && r.unsubscribe == 0
	if r.protocol == Delta && r.versions > 0 {
		s.resume(t, r)
		return
	}
	t.fresh, t.owed, t.brought = true, t.wildcard, len(r.version) > 0
	if t.url == EndpointType {
		s.warmingAll = false // all that it asks for is sent
	}
}

// unsubscribe takes names back, but for those that come again: the proxy may have dropped them and wants them anew, which subscribe answers.
func (s *session) unsubscribe(t *interest, gone, again []string) {
	if len(again) > 0 && len(gone) > 0 {
		stays := make(map[string]struct{}, len(again))
		for _, name := range again {
			stays[name] = struct{}{}
		}
		gone = slices.DeleteFunc(gone, func(name string) bool { _, again := stays[name]; return again })
	}
	if len(gone) == 0 {
		return
	}
	had := make([]extent, len(gone)) // what is not wanted is not had, so this comes first
	for i, name := range gone {
		had[i] = s.extent(t, name)
	}
	t.names = s.library(t).edit(t.names, gone, nil)
	for i, name := range gone {
		if t.wildcard {
			t.look(name, asked) // it still gets everything, and may have dropped this
			continue
		}
		s.drop(t, name)
		s.moved(t, name, had[i])
	}
}

// unsubscribeAll ends a wildcard: only what was asked for by name stays.
func (s *session) unsubscribeAll(t *interest) {
	t.wildcard, t.owed = false, false
	for name := range t.apart.all() {
		if !t.wants(name) {
			s.drop(t, name)
		}
	}
	for name := range t.dirty.all() {
		if !t.wants(name) {
			t.dirty.drop(name)
		}
	}
	for key := range s.leaving {
		if key.Type == t.url && !t.wants(key.Name) {
			delete(s.leaving, key)
		}
	}
	s.movedAll(t, true)
}

// subscribe adds names, each of which must be answered.
func (s *session) subscribe(t *interest, names []string) {
	if len(names) == 0 {
		return
	}
	before := t.names
	t.names = s.library(t).edit(t.names, nil, names)
	for _, name := range names {
		if t.base != nothing && !before.has(name) && !t.wildcard && t.apart.get(name) == nil {
			t.keepApart(name, &holding{})
		}
		t.look(name, asked)
		if d := s.leaving[Key{t.url, name}]; d != nil {
			d.since = time.Time{}
		}
	}
}

// subscribeAll begins a wildcard, or renews it, on a stream that goes on. Everything must be answered.
func (s *session) subscribeAll(t *interest) {
	begins := !t.wildcard
	entries := s.group.shelf(t.url).entries
	if begins && t.base != nothing {
		for name := range entries {
			if !t.names.has(name) {
				t.keepApart(name, &holding{})
			}
		}
	}
	t.wildcard, t.owed = true, true
	for name := range entries {
		t.look(name, asked)
	}
	for name := range t.apart.all() {
		if entries[name] == nil {
			s.depart(t, name)
		}
	}
	s.lookAtFlying(t)
}

// lookAtFlying has what is not published any more looked at that the proxy has not read yet: it will take it for something that it wants.
func (s *session) lookAtFlying(t *interest) {
	look := func(name string) {
		if s.group.entry(Key{t.url, name}) == nil {
			t.look(name, asked)
		}
	}
	for _, f := range s.flights {
		if f.t != t {
			continue
		}
		for _, i := range f.items {
			look(i.name)
		}
		if f.pack != nil {
			for _, e := range f.pack.plain {
				look(e.Name)
			}
		}
	}
}
