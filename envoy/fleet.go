package envoy

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// fleet is what the proxies of one gateway get, and what of it changed since the last flush. Both groups of Envoys get the same clusters and listeners; routes differ,
// and only the layered group has layers. What gRPC clients get is by service, and all theirs (client.go).
type fleet struct {
	name      string
	document  *policy.Gateway                // nil: there is none, and nothing is published
	members   []*rendered                    // services that name it, sorted
	ramps     map[string]map[string]struct{} // by layer: services whose release runs
	listening []string                       // listeners that are published

	gone     bool               // everything must be removed
	clusters map[xds.Key]string // changed clusters and endpoints, with their service
	routes   [kinds]routes
	clients  map[xds.Key]string  // changed resources of gRPC clients, with their service
	hurried  map[string]struct{} // services whose gRPC clients lose a candidate
	layers   map[string]struct{} // changed
	urgent   map[string]struct{} // of them: a release in it is taken back
	own      bool                // listeners changed
}

func newFleet(gateway string) *fleet {
	f := &fleet{
		name: gateway, ramps: map[string]map[string]struct{}{}, clusters: map[xds.Key]string{}, clients: map[xds.Key]string{},
		hurried: map[string]struct{}{}, layers: map[string]struct{}{}, urgent: map[string]struct{}{},
	}
	for kind := range f.routes {
		f.routes[kind] = routes{owed: map[string]struct{}{}, leaving: map[xds.Key]struct{}{}}
	}
	return f
}

// enlist notes whether a service, as it is now rendered, belongs to the fleet, and whether it has keys in a layer.
func (f *fleet) enlist(service string, n *rendered) {
	member := n != nil && slices.Contains(n.gateways, f.name)
	i, found := f.find(service)
	if found {
		f.weigh(f.members[i], -1)
	}
	switch {
	case member && found:
		f.members[i] = n
	case member:
		f.members = slices.Insert(f.members, i, n)
	case found:
		f.members = slices.Delete(f.members, i, i+1)
	}
	layer := Layer(service)
	if member {
		f.weigh(n, 1)
	}
	if member && n.release {
		if f.ramps[layer] == nil {
			f.ramps[layer] = map[string]struct{}{}
		}
		f.ramps[layer][service] = struct{}{}
		return
	}
	delete(f.ramps[layer], service)
}

func (f *fleet) find(service string) (int, bool) {
	return slices.BinarySearchFunc(f.members, service, func(n *rendered, name string) int { return strings.Compare(n.name, name) })
}

// weigh adds a member's share of the routes' bytes, or takes it out.
func (f *fleet) weigh(n *rendered, sign int) {
	for kind := range f.routes {
		f.routes[kind].bytes += sign * len(n.routes[kind].body)
	}
}

// mark notes what of a service must go out with the next flush.
func (f *fleet) mark(service string, c changes) {
	for _, key := range c.clusters {
		f.clusters[key] = service
	}
	for _, key := range c.clients {
		f.clients[key] = service
	}
	if c.urgent && len(c.clients) > 0 {
		f.hurried[service] = struct{}{}
	}
	for kind, changed := range c.routes {
		if changed {
			f.routes[kind].owe(service, c.urgent)
		}
	}
	if c.overlay {
		f.layers[Layer(service)] = struct{}{}
	}
	if c.overlay && c.urgent {
		f.urgent[Layer(service)] = struct{}{}
	}
}

// markOwn marks what depends on the gateway's document alone.
func (f *fleet) markOwn() {
	f.own = true
	for kind := range f.routes {
		f.routes[kind].changed, f.routes[kind].pressing = true, true
	}
	for i := range Layers {
		f.layers[layerName(i)] = struct{}{}
	}
}

// dirty reports whether anything goes out in a flush.
func (f *fleet) dirty(at *flushing) bool {
	if f.gone || f.own || len(f.clusters) > 0 || len(f.clients) > 0 || len(f.layers) > 0 {
		return true
	}
	for kind := range f.routes {
		if f.goes(kind, at) {
			return true
		}
	}
	return false
}

// flush adds the updates of all groups, what is urgent first, and forgets what went out.
func (f *fleet) flush(at *flushing) {
	urgent, updates := f.updates(), f.updates()
	hurried, clients := f.clientUpdates(at.services)
	switch {
	case f.document != nil:
		f.changedClusters(&updates, at)
		f.flushRoutes(&urgent, &updates, at)
		f.changedListeners(&updates)
		f.changedLayers(&urgent[layered], &updates[layered], at.services)
	case f.gone:
		f.removeAll(&updates)
		fallthrough
	default:
		for kind := range f.routes {
			f.routes[kind].forget()
		}
		clear(f.clusters)
	}
	f.gone, f.own = false, false
	clear(f.layers)
	clear(f.urgent)
	for i := range urgent {
		urgent[i].Urgent = true
	}
	all := append(append(urgent[:], hurried), append(updates[:], clients)...)
	for _, u := range all {
		if len(u.Set)+len(u.Remove) > 0 {
			at.out.Updates = append(at.out.Updates, u)
		}
	}
}

func (f *fleet) updates() [kinds]xds.Update {
	ids := groups(f.name)
	return [kinds]xds.Update{{Group: ids[layered]}, {Group: ids[plain]}}
}

// changedLayers sets them, and those in which a release is taken back before all else.
func (f *fleet) changedLayers(urgent, update *xds.Update, services map[string]*rendered) {
	for _, layer := range slices.Sorted(maps.Keys(f.layers)) {
		into := update
		if _, hurry := f.urgent[layer]; hurry {
			into = urgent
		}
		into.Set = append(into.Set, f.layer(layer, services))
	}
}

// changedClusters sets what a member has of them, and removes the others: those of a service that leaves together with its routes.
func (f *fleet) changedClusters(updates *[kinds]xds.Update, at *flushing) {
	for _, key := range slices.SortedFunc(maps.Keys(f.clusters), byKey) {
		service := f.clusters[key]
		var p piece
		_, member := f.find(service)
		if member {
			p = at.services[service].clusters[key]
		}
		for kind := range updates {
			held := &f.routes[kind]
			switch {
			case p.body != nil:
				delete(held.leaving, key)
				updates[kind].Set = append(updates[kind].Set, xds.Resource{Key: key, Body: p.body})
			case !member && held.present && held.owes(service):
				held.leaving[key] = struct{}{}
			default:
				updates[kind].Remove = append(updates[kind].Remove, key)
			}
		}
	}
	clear(f.clusters)
}

func (f *fleet) changedListeners(updates *[kinds]xds.Update) {
	if !f.own {
		return
	}
	before := f.listening
	f.listening = nil
	for _, l := range f.document.Listeners {
		key := xds.Key{Type: xds.ListenerType, Name: listenerName(f.name, l)}
		f.listening = append(f.listening, key.Name)
		body := encode(listener(f.name, l))
		for i := range updates {
			updates[i].Set = append(updates[i].Set, xds.Resource{Key: key, Body: body})
		}
	}
	for _, name := range before {
		if slices.Contains(f.listening, name) {
			continue
		}
		for i := range updates {
			updates[i].Remove = append(updates[i].Remove, xds.Key{Type: xds.ListenerType, Name: name})
		}
	}
}

// layer assembles a layer from the keys of the releases that run in it. Only with keys there is something that a dead-man's switch must take back.
func (f *fleet) layer(name string, services map[string]*rendered) xds.Resource {
	layer := xds.Resource{Key: xds.Key{Type: xds.RuntimeType, Name: name}, Body: encode(layerHead(name))}
	var latched []Latched
	for _, service := range slices.Sorted(maps.Keys(f.ramps[name])) {
		n := services[service]
		layer.Parts = append(layer.Parts, xds.Part{Body: n.overlay.body, Needs: n.overlayNeeds()})
		if n.latched != "" {
			latched = append(latched, Latched{Service: service, Release: n.latched})
		}
	}
	layer.Tag = tag(latched)
	if len(layer.Parts) > 0 {
		layer.TTL = time.Duration(*f.document.Deadman)
	}
	return layer
}

// overlayNeeds is what a proxy must have before weights may name a release's arms: the arms, sent and not refused, and the pools behind them, accepted.
func (n *rendered) overlayNeeds() []xds.Need {
	var needs []xds.Need
	for _, key := range slices.SortedFunc(maps.Keys(n.clusters), byKey) {
		endpoints := xds.Key{Type: xds.EndpointType, Name: key.Name}
		_, byEndpoints := n.clusters[endpoints]
		switch arm := slices.Contains(n.arms, key); {
		case key.Type == xds.EndpointType:
			needs = append(needs, xds.Need{Key: key, Accepted: true})
		default:
			// The ACK of a cluster waits until every other one is warm; of a pool with endpoints theirs is the sign.
			needs = append(needs, xds.Need{Key: key, Accepted: !arm && !byEndpoints})
		}
	}
	return needs
}

// removeAll removes what the groups got of a gateway that is gone.
func (f *fleet) removeAll(updates *[kinds]xds.Update) {
	keys := []xds.Key{{Type: xds.RouteType, Name: f.name}}
	for _, name := range f.listening {
		keys = append(keys, xds.Key{Type: xds.ListenerType, Name: name})
	}
	for i := range Layers {
		keys = append(keys, xds.Key{Type: xds.RuntimeType, Name: layerName(i)})
	}
	for key := range f.clusters {
		keys = append(keys, key)
	}
	for _, n := range f.members {
		keys = slices.AppendSeq(keys, maps.Keys(n.clusters))
	}
	for kind := range f.routes {
		keys = slices.AppendSeq(keys, maps.Keys(f.routes[kind].leaving))
	}
	slices.SortFunc(keys, byKey)
	f.listening = nil
	for i := range updates {
		updates[i].Remove = slices.Compact(slices.Clone(keys))
	}
}
