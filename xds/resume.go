package xds

// resume notes what the proxy brings from an earlier stream: how new it is, whose it is, what it
// is. In the usual case that is all that it wants and all that is published, and nothing needs to be
// noted but that.
func (s *session) resume(t *interest, r *request) {
	t.base, t.settled = accepted, s.came
	if !s.bringsAll(t, r) {
		s.bringsSome(t, r)
	}
	s.movedAll(t, false)
}

// bringsSome notes what differs from what is published.
func (s *session) bringsSome(t *interest, r *request) {
	brought := s.claims(t, r)
	s.missingOf(t, brought)
	if t.url == EndpointType {
		s.warmingAll = false
	}
	for name := range brought {
		s.moved(t, name, nothing)
	}
}

// bringsAll reports whether the proxy has exactly what it wants of what is published, and notes how new that is.
func (s *session) bringsAll(t *interest, r *request) bool {
	p := s.group.pack(s.server.seeds, t)
	if len(p.odd) > 0 || len(p.missing) > 0 || r.versions != len(p.plain) || t.url == EndpointType && (s.warmingAll || len(s.warming) > 0) {
		return false
	}
	if r.others || r.claims != p.claims {
		return false
	}
	s.raise(r.newest)
	return true
}

// raise notes how new it is what the proxy has.
func (s *session) raise(revision int64) {
	s.floor = max(s.floor, revision)
	later(&s.server.floor, revision)
}

// claims notes what the proxy brings, each that differs from what is published by itself, and returns the names.
func (s *session) claims(t *interest, r *request) map[string]bool {
	brought := make(map[string]bool, r.versions)
	r.eachVersion(func(raw, text []byte) {
		name := string(raw)
		brought[name] = true
		content := s.comes(text)
		if t.wants(name) {
			s.claim(t, name, content)
		}
	})
	return brought
}

// comes notes whose a version is and how new, and returns the content of one of ours. That of another control plane says nothing of what the proxy holds, so everything
// is sent.
func (s *session) comes(text []byte) (content string) {
	switch v, ours := parseVersion(string(text)); {
	case !ours:
	case v.cluster != s.server.cluster:
		put(&s.foreign, v.cluster, struct{}{})
		s.server.foreigners.Store(true)
	default:
		s.raise(v.revision)
		return v.content
	}
	return ""
}

// claim notes one resource that the proxy brings.
func (s *session) claim(t *interest, name, content string) {
	e := s.group.entry(Key{t.url, name})
	if e.alone() && e.full.content == content && !s.warms(t, name) {
		return // as base says
	}
	t.keepApart(name, &holding{accepted: true, claim: content})
	if e == nil {
		s.depart(t, name)
	}
	if s.warms(t, name) {
		t.look(name, asked)
		return
	}
	t.look(name, resumed)
}

// warms reports whether the proxy waits for these endpoints, for it was sent their cluster.
func (s *session) warms(t *interest, name string) bool {
	_, warms := s.warming[name]
	return t.url == EndpointType && (warms || s.warmingAll)
}

// missingOf has all sent that the proxy wants and did not bring.
func (s *session) missingOf(t *interest, brought map[string]bool) {
	come := func(name string) {
		if !brought[name] {
			t.keepApart(name, &holding{})
			t.look(name, asked)
		}
	}
	if t.wildcard {
		for name := range s.group.shelf(t.url).entries {
			come(name)
		}
	}
	if t.names != nil {
		for name := range t.names.members {
			come(name)
		}
	}
}
