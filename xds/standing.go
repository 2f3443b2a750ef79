package xds

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// maxWaiting bounds how many proxies a Standing names.
const maxWaiting = 3

// Standing tells how many of a group's proxies meet all of want. What is not published, now or any
// more, is met by none. A resource with a TTL that was not kept alive counts as gone. Proxies that
// none of want is for are not counted.
func (s *Server) Standing(groupName string, want []Requirement) Standing {
	g := s.find(groupName)
	if g == nil {
		return Standing{}
	}
	now, reached := s.now(), s.reached()
	g.mu.Lock()
	defer g.mu.Unlock()
	if v := g.verdictBefore(want, now); v != nil {
		return v.standing
	}
	return g.stand(want, reached, now)
}

// stand is Standing without what was found before. The caller holds mu.
//
// A step changes layers alone. So what else is wanted is not looked at again while all have it, and nobody is looked at before the first has taken the newest layer.
func (g *group) stand(want []Requirement, reached int64, now time.Time) Standing {
	layers, others := layersOf(want)
	soughtLayers, soughtOthers := g.find(layers), g.find(others)
	standing, rest, until := Standing{}, Standing{}, now.Add(verdictKept)
	before := g.verdictBefore(others, now)
	if before != nil {
		if len(layers) == 1 && g.counted(soughtLayers[0], reached, now) {
			return g.standCounted(want, &soughtLayers[0], before)
		}
		soughtOthers, rest, until = nil, before.standing, before.until
	}
	unseen := slices.ContainsFunc(soughtLayers, sought.unseen)
	for _, one := range g.sessions {
		if !one.concerned(want) {
			continue
		}
		standing.Connected++
		since, met := time.Time{}, false
		if !unseen {
			since, met = one.metSince(soughtOthers, reached, now)
		}
		if met && before == nil {
			rest.Met++
			rest.LastAck = latest(rest.LastAck, since)
		}
		if met {
			since, met = one.metSince(soughtLayers, reached, now)
		}
		if met {
			standing.Met++
			standing.LastAck = latest(standing.LastAck, latest(since, rest.LastAck))
		} else {
			standing.waits(one)
		}
		if one.refuses(want) {
			standing.Rejected++
		}
	}
	until = untilOf(soughtOthers, until)
	if rest.Connected = standing.Connected; before == nil && len(layers) > 0 {
		rest.Rejected = standing.Rejected
		g.remember(others, rest, until)
	}
	g.remember(want, standing, untilOf(soughtLayers, until))
	return standing
}

// waits names a stream, if few were named before.
func (s *Standing) waits(one *session) {
	if len(s.Waiting) < maxWaiting {
		s.Waiting = append(s.Waiting, one.proxy())
	}
}

// layersOf parts what steps change from what else is wanted. What is wanted of some streams only is not parted.
func layersOf(want []Requirement) (layers, others []Requirement) {
	if slices.ContainsFunc(want, func(w Requirement) bool { return w.Given != (Key{}) }) {
		return nil, want
	}
	for _, w := range want {
		if w.Type == RuntimeType {
			layers = append(layers, w)
		} else {
			others = append(others, w)
		}
	}
	return layers, others
}

// MetSince tells for each node of the group that meets all of want since when it has done so
// without a break: the ACK of the requirement it met last. A node with several streams is named
// only if all of them do. The map must not be changed: who asks again may get the same one.
func (s *Server) MetSince(groupName string, want []Requirement) map[string]time.Time {
	g := s.find(groupName)
	if g == nil {
		return nil
	}
	now, reached := s.now(), s.reached()
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.verdictBefore(want, now)
	if v == nil {
		return g.metSince(want, reached, now)
	}
	if v.since == nil {
		v.since = g.metSince(want, reached, now)
	}
	return v.since
}

// metSince is MetSince without what was found before. The caller holds mu.
func (g *group) metSince(want []Requirement, reached int64, now time.Time) map[string]time.Time {
	met := make(map[string]time.Time, len(g.sessions))
	wanted := g.find(want)
	var not []string
	for _, one := range g.sessions {
		if !one.concerned(want) {
			continue
		}
		if since, ok := one.metSince(wanted, reached, now); ok {
			met[one.node] = latest(met[one.node], since)
		} else {
			not = append(not, one.node)
		}
	}
	for _, node := range not {
		delete(met, node)
	}
	return met
}

// Concerned tells for each node of the group how many streams it has that any of want is for.
func (s *Server) Concerned(groupName string, want []Requirement) map[string]int {
	streams := map[string]int{}
	g := s.find(groupName)
	if g == nil {
		return streams
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range g.sessions {
		if one.concerned(want) {
			streams[one.node]++
		}
	}
	return streams
}

// concerned reports whether any of want is for this stream. Nothing wanted is for all.
func (s *session) concerned(want []Requirement) bool {
	for i := range want {
		if want[i].Given == (Key{}) || s.owes(want[i]) {
			return true
		}
	}
	return len(want) == 0
}

// owes reports whether a requirement is for this stream.
func (s *session) owes(w Requirement) bool {
	if w.Given == (Key{}) {
		return true
	}
	t := s.interest(w.Given.Type)
	return t != nil && t.wants(w.Given.Name)
}

// sought is a Requirement and what is published of it, nil if nothing is. Streams share their sets of
// names, so whether the newest set that was looked at has the name is true of most.
type sought struct {
	Requirement
	e     *entry
	set   *nameSet
	named bool      // set has it
	fed   time.Time // the earliest that those who have it with a TTL were fed; zero: none has it so
}

// untilOf is until when nothing that was found can end by a TTL.
func untilOf(found []sought, until time.Time) time.Time {
	for _, w := range found {
		if !w.fed.IsZero() {
			until = earliest(until, w.fed.Add(w.e.TTL))
		}
	}
	return until
}

// find looks up what is required. The caller holds mu.
func (g *group) find(want []Requirement) []sought {
	found := make([]sought, len(want))
	for i, w := range want {
		found[i] = sought{Requirement: w, e: g.entry(w.Key)}
	}
	// What changes most often comes first: most streams that lack something lack that.
	slices.SortStableFunc(found, func(a, b sought) int { return cmp.Compare(rank(b.Type), rank(a.Type)) })
	return found
}

// find returns a group, nil if nobody ever spoke of it.
func (s *Server) find(name string) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups[name]
}

// metSince reports whether the stream meets all of want, and since when. Without any requirement it
// has since it came.
func (s *session) metSince(want []sought, reached int64, now time.Time) (since time.Time, met bool) {
	since = s.came
	for i := range want {
		w := &want[i]
		if w.Given != (Key{}) && !s.owes(w.Requirement) {
			continue
		}
		t := s.interest(w.Type)
		if w.e == nil || t == nil {
			return time.Time{}, false
		}
		at, ok := t.hasSince(w, max(reached, w.e.revision), now)
		if !ok {
			return time.Time{}, false
		}
		since = latest(since, at)
	}
	return since, true
}

// wantedBy is wants, for one stream after another.
func (w *sought) wantedBy(t *interest) bool {
	if t.wildcard || t.names == nil {
		return t.wildcard
	}
	if t.names != w.set {
		w.set, w.named = t.names, t.names.has(w.Name)
	}
	return w.named
}

// hasSince reports whether the stream has a resource that is published, and since when.
func (t *interest) hasSince(w *sought, reached int64, now time.Time) (time.Time, bool) {
	h := t.apart.get(w.Name)
	if h == nil {
		return t.settled, t.base == accepted && w.e.plain() && reached >= w.Revision && w.wantedBy(t)
	}
	since, ok := h.metSince(w.e, reached, w.Revision)
	if !ok || h.expired(now) {
		return since, false
	}
	if h.acked.ttl > 0 && (w.fed.IsZero() || h.fed.Before(w.fed)) {
		w.fed = h.fed
	}
	return since, true
}

// metSince reports whether the holding is whole and as it was published at the revision or later,
// and since when it has been. Content that is published now is good up to the revision that was
// reached.
func (h *holding) metSince(e *entry, reached, revision int64) (time.Time, bool) {
	good := func(v *variant) bool {
		if v.of.same(e) {
			return v.whole && reached >= revision
		}
		return v.whole && v.of.until >= revision
	}
	if h.acked == nil || !good(h.acked) {
		return time.Time{}, false
	}
	// Other services' changes of a shared resource came between, but what was asked for held
	// through them.
	since := h.ackedAt
	for before := range h.earlier.backward() {
		if !good(before.v) {
			break
		}
		since = before.at
	}
	return since, true
}

// expired reports whether the proxy has lost the resource because its TTL ran out.
func (h *holding) expired(now time.Time) bool {
	return h.acked.ttl > 0 && now.Sub(h.fed) > h.acked.ttl
}

// refuses reports whether the stream rejected one of the wanted resources and has accepted nothing
// of it since.
func (s *session) refuses(want []Requirement) bool {
	return len(s.rejections) > 0 && slices.ContainsFunc(want, func(w Requirement) bool {
		_, refused := s.rejections[w.Key]
		return refused
	})
}

// Connected is how many streams there are.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// ConnectedFor is a Standing's Connected, without a look at how far anybody has come.
func (s *Server) ConnectedFor(groupName string, want []Requirement) int {
	g := s.find(groupName)
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(want) == 0 || slices.ContainsFunc(want, func(w Requirement) bool { return w.Given == (Key{}) }) {
		return len(g.sessions)
	}
	count := 0
	for _, one := range g.sessions {
		if one.concerned(want) {
			count++
		}
	}
	return count
}

// Counts says how many proxies there are that someone may have to look at.
type Counts struct {
	Pending   int // that have not answered all that they were sent
	Rejecting int // that hold a rejection
}

// Count counts the streams.
func (s *Server) Count() (c Counts) {
	s.each(func(one *session) {
		if len(one.flights) > 0 {
			c.Pending++
		}
		if len(one.rejections) > 0 {
			c.Rejecting++
		}
	})
	return c
}

// Proxies lists the streams, ordered by number.
func (s *Server) Proxies() []Proxy {
	var proxies []Proxy
	s.each(func(one *session) { proxies = append(proxies, one.proxy()) })
	slices.SortFunc(proxies, func(a, b Proxy) int { return cmp.Compare(a.Stream, b.Stream) })
	return proxies
}

// proxy is the stream as operators see it. The caller holds group.mu.
func (s *session) proxy() Proxy {
	p := Proxy{
		Stream: s.id, Node: s.node, Group: s.group.name, Version: s.version, Protocol: s.protocol, Connected: s.came, LastSeen: s.lastSeen(),
		Frozen: s.frozen(), Pending: len(s.flights), Duplicate: s.server.duplicate(s.peer),
	}
	if touched := s.peer.touched.Load(); touched > 0 {
		p.LastReport = s.server.epoch.Add(time.Duration(touched))
	}
	if t := s.interest(RuntimeType); t != nil {
		p.Layers = t.names.len()
	}
	p.Rejections = slices.SortedFunc(maps.Values(s.rejections), func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return p
}

// Foreign lists the other etcd clusters whose versions the connected proxies brought along, sorted.
func (s *Server) Foreign() []string {
	if !s.foreigners.Load() {
		return nil
	}
	found := map[string]struct{}{}
	s.each(func(one *session) { maps.Copy(found, one.foreign) })
	return slices.Sorted(maps.Keys(found))
}

func (s *Server) duplicate(n *node) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return n.streams > 1
}
