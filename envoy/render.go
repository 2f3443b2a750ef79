package envoy

import (
	"bytes"
	"cmp"
	"maps"
	"reflect"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// State is what decides, beside the served copy, what a candidate weighs.
type State struct {
	Permit  bool // the release's permit exists
	Latched bool // this replica has taken the release back
}

// Renderer turns served services and gateways into updates. It remembers what it rendered, so that only changes come out. One goroutine owns it.
type Renderer struct {
	services map[string]*rendered
	fleets   map[string]*fleet   // by gateway, those that only services name included
	undated  map[string]struct{} // services with pieces that changed since the last Flush
}

// rendered is one service as it was last rendered, and what from.
type rendered struct {
	served     *policy.Served
	state      State
	name       string
	gateways   []string
	latched    string     // the release that is taken back; "" is none
	base       string     // the pool that the safe base names
	routeNeeds []xds.Need // that pool
	release    bool       // one runs
	candidate  string     // its pool; "" while none runs
	weight     policy.Weight
	arms       []xds.Key
	clusters   pieces // clusters and endpoints
	routes     [kinds]piece
	overlay    piece  // without a body while no release runs
	clients    pieces // all that gRPC clients get; none of a service that they cannot call
}

// NewRenderer knows the default gateway only.
func NewRenderer() *Renderer {
	r := &Renderer{services: map[string]*rendered{}, fleets: map[string]*fleet{}, undated: map[string]struct{}{}}
	r.SetGateway(policy.DefaultGateway, nil, 0)
	return r
}

// SetGateway takes a gateway's newest served document. Without one a gateway is gone, and all that its proxies got is removed; but the default gateway exists always.
func (r *Renderer) SetGateway(name string, g *policy.Gateway, _ int64) {
	if g == nil && name == policy.DefaultGateway {
		g = &policy.Gateway{Name: name}
	}
	f := r.fleet(name)
	known := f.document != nil
	if g == nil {
		f.document, f.gone = nil, known
		return
	}
	filled := g.WithDefaults()
	f.document = &filled
	f.markOwn()
	if known && !f.gone {
		return
	}
	for _, service := range f.members {
		f.mark(service.name, everything(nil, service))
	}
}

// SetService takes a service's newest served copy; nil ends it. What it changes is dated with rev or, if that is later, with the revision of the next Flush.
func (r *Renderer) SetService(name string, s *policy.Served, st State, rev int64) {
	old := r.services[name]
	if old != nil && old.served == s && old.state == st {
		return
	}
	var next *rendered
	if s.Serves() {
		next = render(name, s, st, old)
	}
	if old == nil && next == nil {
		return
	}
	all := everything(old, next)
	changed := all
	if old != nil && next != nil && slices.Equal(old.gateways, next.gateways) {
		changed = differences(old, next)
	}
	if next == nil {
		delete(r.services, name)
	} else {
		next.date(old, changed, rev)
		r.services[name] = next
		r.undated[name] = struct{}{}
	}
	for _, gateway := range gatewaysOf(old, next) {
		f := r.fleet(gateway)
		f.enlist(name, next)
		f.mark(name, changed)
	}
}

func (r *Renderer) fleet(gateway string) *fleet {
	f := r.fleets[gateway]
	if f == nil {
		f = newFleet(gateway)
		r.fleets[gateway] = f
	}
	return f
}

func gatewaysOf(services ...*rendered) []string {
	var all []string
	for _, n := range services {
		if n != nil {
			all = append(all, n.gateways...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// render renders all of a service; nothing is dated yet. Pools that are as they were in before are taken from there: a step changes weights alone.
func render(name string, s *policy.Served, st State, before *rendered) *rendered {
	n := &rendered{served: s, state: st, name: name, gateways: slices.Clone(s.Service.Gateways), clusters: pieces{}, release: s.Release != nil}
	slices.Sort(n.gateways)
	n.gateways = slices.Compact(n.gateways)
	n.base = Pool(name, baseBackend(s, st))
	n.routeNeeds = []xds.Need{{Key: xds.Key{Type: xds.ClusterType, Name: n.base}, Accepted: true}}
	n.routes[layered].body = routePart(virtualHost(s.Service, safeBase(s, st)))
	n.routes[plain].body = routePart(virtualHost(s.Service, realSplit(s, st)))
	if before.pooledAs(s) {
		n.clusters, n.arms = maps.Clone(before.clusters), before.arms
	} else {
		n.backends(s)
	}
	if s.Release != nil {
		n.ramp(s, st)
	}
	n.forClients(s, st)
	return n
}

// pooledAs reports whether the pools and arms of a served state are as they were rendered; nil is none.
func (n *rendered) pooledAs(s *policy.Served) bool {
	if n == nil || !reflect.DeepEqual(n.served.Service, s.Service) || !reflect.DeepEqual(n.served.Live, s.Live) {
		return false
	}
	was, is := n.served.Release, s.Release
	return was == nil && is == nil || was != nil && is != nil && reflect.DeepEqual(was.Candidate, is.Candidate)
}

// backends renders live's pool and, while a release runs, the candidate's pool and both arms.
func (n *rendered) backends(s *policy.Served) {
	n.pool(s.Service, s.Live, nil)
	if s.Release == nil {
		return
	}
	candidate, live := s.Release.Candidate, s.Live.Backend
	n.pool(s.Service, candidate, canary())
	metrics := qualities(s.Service)
	n.arm(side{name: LiveArm(n.name, live), pools: []string{Pool(n.name, live)}, metrics: metrics})
	n.arm(side{
		name: CandidateArm(n.name, candidate.Backend, live), pools: []string{Pool(n.name, candidate.Backend), Pool(n.name, live)},
		canary: true, metrics: metrics,
	})
}

// ramp renders the weights while a release runs.
func (n *rendered) ramp(s *policy.Served, st State) {
	n.candidate, n.weight = Pool(n.name, s.Release.Candidate.Backend), s.CandidateWeight(st.Permit, st.Latched)
	n.overlay.body = encode(overlay(s, n.weight))
	if st.Latched {
		n.latched = s.Release.ID
	}
}

// pool renders a backend's cluster, and its endpoints unless its name is resolved by the proxies themselves.
func (n *rendered) pool(s policy.Service, arm policy.Arm, mark *corev3.Metadata) {
	name := Pool(n.name, arm.Backend)
	n.clusters[xds.Key{Type: xds.ClusterType, Name: name}] = piece{body: encode(pool(s, arm))}
	if arm.Definition.DNS != "" {
		return
	}
	n.clusters[xds.Key{Type: xds.EndpointType, Name: name}] = piece{body: encodeAssignment(name, arm.Definition.Endpoints, mark)}
}

func (n *rendered) arm(s side) {
	key := xds.Key{Type: xds.ClusterType, Name: s.name}
	n.arms = append(n.arms, key)
	n.clusters[key] = piece{body: encode(aggregate(s))}
}

// changes says which pieces of a service must go out.
type changes struct {
	clusters []xds.Key
	routes   [kinds]bool
	overlay  bool // body, needs or tag
	clients  []xds.Key
	urgent   bool // a candidate loses all its traffic
}

// everything is what must go out of a service that comes, or must leave with one that goes.
func everything(old, next *rendered) changes {
	all := changes{routes: [kinds]bool{true, true}}
	for _, n := range []*rendered{old, next} {
		if n == nil {
			continue
		}
		all.clusters = slices.AppendSeq(all.clusters, maps.Keys(n.clusters))
		all.clients = slices.AppendSeq(all.clients, maps.Keys(n.clients))
		all.overlay = all.overlay || n.release
	}
	return all
}

// differences compares two renderings of a service.
func differences(old, next *rendered) changes {
	c := changes{clusters: next.clusters.changes(old.clusters), clients: next.clients.changes(old.clients)}
	kept := len(old.clusters) == len(next.clusters)
	for key := range next.clusters {
		_, had := old.clusters[key]
		kept = kept && had
	}
	for kind := range next.routes {
		c.routes[kind] = old.base != next.base || !bytes.Equal(old.routes[kind].body, next.routes[kind].body)
	}
	// What a part needs follows from which clusters there are.
	c.urgent = old.share(old.candidate) > 0 && next.share(old.candidate) == 0
	c.overlay = old.latched != next.latched || !bytes.Equal(old.overlay.body, next.overlay.body) || next.release && !kept
	return c
}

// share is what a pool gets of the traffic, as far as releases move it.
func (n *rendered) share(pool string) policy.Weight {
	switch pool {
	case "":
		return 0
	case n.base:
		return policy.Full
	case n.candidate:
		return n.weight
	}
	return 0
}

// date carries the dates of what is as it was, and gives the others rev.
func (n *rendered) date(old *rendered, changed changes, rev int64) {
	if old == nil {
		old = &rendered{}
	}
	n.clusters.date(old.clusters, changed.clusters, rev)
	n.clients.date(old.clients, changed.clients, rev)
	for kind, p := range n.routes {
		n.routes[kind] = p.dated(old.routes[kind], changed.routes[kind], rev)
	}
	// A new tag or need alone is no new weight.
	n.overlay = n.overlay.dated(old.overlay, changed.overlay && !bytes.Equal(n.overlay.body, old.overlay.body), rev)
}

// settle dates what changed since the last Flush with the revision at which it is published, if that is later: an ACK of what was published before must not pass
// for one of it.
func (n *rendered) settle(rev int64) {
	n.clusters.settle(rev)
	n.clients.settle(rev)
	for kind, p := range n.routes {
		n.routes[kind] = p.settled(rev)
	}
	n.overlay = n.overlay.settled(rev)
}

// Flush returns all that changed since the last flush; the caller publishes it at rev.
func (r *Renderer) Flush(rev int64) []xds.Update {
	return r.flush(flushing{Moment: Moment{Revision: rev}, all: true}).Updates
}

// FlushAt returns what changed since the last flush and may go now; the caller publishes it at the moment's revision. The routes of a large gateway go once in a second
// at most, and a group's wait until it has a proxy. Its cost is that of what changed, but for routes and layers, which are assembled from the services' shares.
func (r *Renderer) FlushAt(m Moment) Flushed { return r.flush(flushing{Moment: m}) }

func (r *Renderer) flush(at flushing) Flushed {
	for name := range r.undated {
		if n := r.services[name]; n != nil {
			n.settle(at.Revision)
		}
	}
	clear(r.undated)
	at.services = r.services
	for _, gateway := range slices.Sorted(maps.Keys(r.fleets)) {
		if f := r.fleets[gateway]; f.dirty(&at) {
			f.flush(&at)
		}
	}
	return at.out
}

// Ready is, per group, what a proxy must have accepted for a release to climb: the arms, the pools and their endpoints, and the gateway's listeners, unless it has
// its own.
func (r *Renderer) Ready(service string) map[string][]xds.Requirement {
	return r.requirements(service, (*rendered).clientsReady, func(n *rendered, f *fleet, _ int) []xds.Requirement {
		want := n.pools()
		for _, name := range f.listening {
			want = append(want, xds.Requirement{Key: xds.Key{Type: xds.ListenerType, Name: name}, Given: xds.Key{Type: xds.ListenerType, Name: name}})
		}
		return want
	})
}

// Confirmed is, per group, what a proxy must have accepted to serve a service as it is served now: the arms, pools and endpoints, the routes and, with layers, the
// service's layer, each at the revision at which this service's share of it last changed. Routes that are held are accepted by none.
func (r *Renderer) Confirmed(service string) map[string][]xds.Requirement {
	return r.requirements(service, (*rendered).clientsConfirmed, func(n *rendered, f *fleet, kind int) []xds.Requirement {
		want := append(n.pools(), xds.Requirement{Key: xds.Key{Type: xds.RouteType, Name: f.name}, Revision: f.routed(kind, n)})
		// A layer in which the service never had a key says nothing about it.
		if kind == layered && n.overlay.at > 0 {
			want = append(want, xds.Requirement{Key: xds.Key{Type: xds.RuntimeType, Name: Layer(service)}, Revision: n.overlay.at})
		}
		return want
	})
}

// Settled is the revision at which the pools of a service, or their endpoints, last changed: what was counted across it promotes nothing. 0: unknown service.
func (r *Renderer) Settled(service string) int64 {
	var at int64
	if n := r.services[service]; n != nil {
		for _, p := range n.clusters {
			at = max(at, p.at)
		}
	}
	return at
}

// Moved is the revision at which anything that proxies get of a service last changed. 0: unknown service.
func (r *Renderer) Moved(service string) int64 {
	at := r.Settled(service)
	if n := r.services[service]; n != nil {
		for _, p := range n.routes {
			at = max(at, p.at)
		}
		at = max(at, n.overlay.at)
		for _, p := range n.clients {
			at = max(at, p.at)
		}
	}
	return at
}

// requirements are what is asked of the clients of each gateway of a service, and of its Envoys of each kind.
func (r *Renderer) requirements(
	service string, ofClients func(*rendered) []xds.Requirement, of func(*rendered, *fleet, int) []xds.Requirement,
) map[string][]xds.Requirement {
	want := map[string][]xds.Requirement{}
	n := r.services[service]
	if n == nil {
		return want
	}
	for _, gateway := range n.gateways {
		f := r.fleet(gateway)
		if f.document == nil {
			continue // its proxies get nothing of any service
		}
		for kind, group := range groups(gateway) {
			want[group] = of(n, f, kind)
		}
		if len(n.clients) > 0 {
			want[ClientGroup(gateway)] = ofClients(n)
		}
	}
	return want
}

// pools are the clusters of a service and their endpoints, each at the revision at which it last changed.
func (n *rendered) pools() []xds.Requirement {
	var want []xds.Requirement
	for _, key := range slices.SortedFunc(maps.Keys(n.clusters), byKey) {
		want = append(want, xds.Requirement{Key: key, Revision: n.clusters[key].at})
	}
	return want
}

func byKey(a, b xds.Key) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name)) }
