package xds

// resume notes what the proxy brings from an earlier stream: how new it is, whose it is, what it
// is. In the usual case that is all that it wants and all that is published, and nothing needs to be
// noted but that.
func (s *session) resume(t *interest, r *request) {
	if s.bringsAll(t, r) {
		t.base, t.settled = accepted, s.came
		s.movedAll(t, false)
		return
	}
	t.base, t.settled = accepted, s.came
	brought := s.claims(t, r)
	s.missingOf(t, brought)
	t.owed = t.wildcard && len(brought) == 0
	if t.url == EndpointType {
		s.warmingAll = false
	}
	for name := range brought {
		s.moved(t, name, nothing)
	}
	s.movedAll(t, false)
}

// bringsAll reports whether the proxy has exactly what it wants of what is published, and notes how new that is.
func (s *session) bringsAll(t *interest, r *request) bool {
	p := s.group.pack(s.server.seeds, t)
	if len(p.odd) > 0 || len(p.missing) > 0 || r.versions != len(p.plain) || t.url == EndpointType && (s.warmingAll || len(s.warming) > 0) {
		return false
	}
	seeds, total, floor, ours := s.server.seeds, sum{}, int64(0), true
	r.eachVersion(func(name, text []byte) {
		v, ok := readVersion(text)
		if ours = ours && ok && string(v.cluster) == s.server.cluster; ours {
			total = total.plus(seeds.ofClaim(seeds.of(name), seeds.of(v.content)))
			floor = max(floor, v.revision)
		}
	})
	if !ours || total != p.claims {
		return false
	}
	s.raise(floor)
	return true
}

// raise notes how new it is what the proxy has.
func (s *session) raise(revision int64) {
	s.floor = max(s.floor, revision)
	later(&s.server.floor, revision)
}

// brings notes how new it is what a proxy has that speaks of the state of the world, and whose.
func (s *session) brings(t *interest, r *request) {
	v, ours := readVersion(r.version)
	switch {
	case !ours:
	case string(v.cluster) != s.server.cluster:
		put(&s.foreign, string(v.cluster), struct{}{})
	default:
		t.brought = true
		s.raise(v.revision)
	}
}

// claims notes what the proxy brings, each that differs from what is published by itself, and returns the names.
func (s *session) claims(t *interest, r *request) map[string]bool {
	brought := make(map[string]bool, r.versions)
	r.eachVersion(func(raw, text []byte) {
		name := string(raw)
		brought[name] = true
		v, ours := parseVersion(string(text))
		content := ""
		switch {
		case !ours:
			// Another control plane's. What it holds is unknown, so everything is sent.
		case v.cluster != s.server.cluster:
			put(&s.foreign, v.cluster, struct{}{})
		default:
			content = v.content
			s.raise(v.revision)
		}
		if t.wants(name) {
			s.claim(t, name, content)
		}
	})
	return brought
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
