package xds

import (
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// wildcardName subscribes to everything of a type (xDS protocol, Wildcard subscriptions).
const wildcardName = "*"

// request applies one message of the proxy: first the answer it carries, then what it no longer
// wants, then what it wants. It returns the events to report. The caller holds group.mu.
func (s *session) request(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) ([]Event, error) {
	t := s.interest(r.TypeUrl)
	first := t == nil
	if first {
		if len(s.types) >= maxTypes {
			return nil, status.Errorf(codes.ResourceExhausted, "subscribe to %s: a stream may ask for %d types", r.TypeUrl, maxTypes)
		}
		t = s.begin(r.TypeUrl)
	}
	// The answer comes first: what the same message subscribes to may have been waiting for it.
	events := s.answered(t, r, now)
	if first {
		s.resume(t, r)
	}
	s.unsubscribe(t, r)
	if err := s.subscribe(t, r, first); err != nil {
		return events, err
	}
	return events, nil
}

// resume notes what the proxy brings from an earlier stream: how new it is, whose it is, what it
// is.
func (s *session) resume(t *interest, r *discoveryv3.DeltaDiscoveryRequest) {
	for name, text := range r.InitialResourceVersions {
		h := t.hold(name)
		h.accepted = true
		v, ours := parseVersion(text)
		switch {
		case !ours:
			// Another control plane's. What it holds is unknown, so everything is sent.
		case v.cluster != s.server.cluster:
			s.foreign[v.cluster] = struct{}{}
		default:
			h.claim = v.content
			s.floor = max(s.floor, v.revision)
			later(&s.server.floor, v.revision)
		}
	}
	for name := range r.InitialResourceVersions {
		s.moved(t, name, nothing)
	}
}

func (s *session) unsubscribe(t *interest, r *discoveryv3.DeltaDiscoveryRequest) {
	again := make(map[string]struct{}, len(r.ResourceNamesSubscribe))
	if len(r.ResourceNamesUnsubscribe) > 0 {
		for _, name := range r.ResourceNamesSubscribe {
			again[name] = struct{}{}
		}
	}
	for _, name := range r.ResourceNamesUnsubscribe {
		if name == wildcardName {
			s.unsubscribeAll(t)
			continue
		}
		delete(t.names, name)
		_, back := again[name]
		switch {
		case back:
			// The proxy may have dropped it and wants it again: subscribe answers.
		case t.wildcard:
			t.dirty[name] |= asked // it still gets everything, and may have dropped this
		default:
			s.drop(t, name)
		}
	}
}

// unsubscribeAll ends a wildcard: only what was asked for by name stays.
func (s *session) unsubscribeAll(t *interest) {
	t.wildcard, t.owed = false, false
	for name := range t.held {
		if !t.wants(name) {
			s.drop(t, name)
		}
	}
	for name := range t.dirty {
		if !t.wants(name) {
			delete(t.dirty, name)
		}
	}
}

func (s *session) subscribe(t *interest, r *discoveryv3.DeltaDiscoveryRequest, first bool) error {
	if first && len(r.ResourceNamesSubscribe) == 0 && len(r.ResourceNamesUnsubscribe) == 0 {
		s.subscribeAll(t, first)
	}
	for _, name := range r.ResourceNamesSubscribe {
		if name == wildcardName {
			s.subscribeAll(t, first)
			continue
		}
		t.names[name] = struct{}{}
		t.dirty[name] |= s.reason(t, name, first)
		if d := s.leaving[Key{t.url, name}]; d != nil {
			d.since = time.Time{}
		}
	}
	if most := t.mostNames(); len(t.names) > most {
		return status.Errorf(codes.ResourceExhausted, "subscribe to %s: a stream may name %d", t.url, most)
	}
	if first {
		s.forgetUnwanted(t)
	}
	return nil
}

// subscribeAll begins a wildcard, or renews it.
func (s *session) subscribeAll(t *interest, first bool) {
	t.wildcard = true
	// A proxy that starts waits for an answer even if there is nothing to answer with. One that
	// goes on has what it waits for.
	t.owed = t.owed || !first || len(t.held) == 0
	for name := range s.group.entries[t.url] {
		t.dirty[name] |= s.reason(t, name, first)
	}
	for name := range t.held {
		if s.group.entries[t.url][name] == nil {
			s.depart(t, name)
		}
	}
}

// reason tells a subscription that must be answered from one of a stream that goes on where an
// earlier one ended.
func (s *session) reason(t *interest, name string, first bool) cause {
	h := t.held[name]
	_, warming := s.warming[name]
	if !first || h == nil || t.url == EndpointType && warming {
		return asked
	}
	if s.group.entries[t.url][name] == nil {
		s.depart(t, name)
	}
	return resumed
}

// forgetUnwanted drops what the proxy named as held but does not want.
func (s *session) forgetUnwanted(t *interest) {
	for name := range t.held {
		if !t.wants(name) {
			s.drop(t, name)
		}
	}
}
