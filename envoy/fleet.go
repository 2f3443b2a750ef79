package envoy

import (
	"maps"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// fleet is what the proxies of one gateway get, and what of it changed since the last flush. Both groups of Envoys get the same clusters and listeners; routes differ,
// and only the layered group has layers. What gRPC clients get is by service, and all theirs (client.go).
type fleet struct {
	name      string
	document  *policy.Gateway                // nil: there is none, and nothing is published
	members   []string                       // services that name it, sorted
	ramps     map[string]map[string]struct{} // by layer: services whose release runs
	listening []string                       // listeners that are published

	gone     bool               // everything must be removed
	clusters map[xds.Key]string // changed clusters and endpoints, with their service
	clients  map[xds.Key]string // changed resources of gRPC clients, with their service
	routes   [kinds]bool        // changed
	layers   map[string]struct{}
	own      bool // listeners changed
}

func newFleet(gateway string) *fleet {
	return &fleet{
		name: gateway, ramps: map[string]map[string]struct{}{}, clusters: map[xds.Key]string{}, clients: map[xds.Key]string{}, layers: map[string]struct{}{},
	}
}

// enlist notes whether a service, as it is now rendered, belongs to the fleet, and whether it has keys in a layer.
func (f *fleet) enlist(service string, n *rendered) {
	member := n != nil && slices.Contains(n.gateways, f.name)
	i, found := slices.BinarySearch(f.members, service)
	switch {
	case member && !found:
		f.members = slices.Insert(f.members, i, service)
	case !member && found:
		f.members = slices.Delete(f.members, i, i+1)
	}
	layer := Layer(service)
	if member && n.release {
		if f.ramps[layer] == nil {
			f.ramps[layer] = map[string]struct{}{}
		}
		f.ramps[layer][service] = struct{}{}
		return
	}
	delete(f.ramps[layer], service)
}

// mark notes what of a service must go out with the next flush.
func (f *fleet) mark(service string, c changes) {
	for _, key := range c.clusters {
		f.clusters[key] = service
	}
	for _, key := range c.clients {
		f.clients[key] = service
	}
	for kind, changed := range c.routes {
		f.routes[kind] = f.routes[kind] || changed
	}
	if c.overlay {
		f.layers[Layer(service)] = struct{}{}
	}
}

// markOwn marks what depends on the gateway's document alone.
func (f *fleet) markOwn() {
	f.own, f.routes = true, [kinds]bool{true, true}
	for i := range Layers {
		f.layers[layerName(i)] = struct{}{}
	}
}

func (f *fleet) dirty() bool {
	return f.gone || f.own || f.routes != [kinds]bool{} || len(f.clusters) > 0 || len(f.clients) > 0 || len(f.layers) > 0
}

// flush returns the updates of all groups and forgets what changed.
func (f *fleet) flush(services map[string]*rendered) []xds.Update {
	ids := groups(f.name)
	updates := [kinds]xds.Update{{Group: ids[layered]}, {Group: ids[plain]}}
	if f.gone && f.document == nil {
		f.removeAll(&updates, services)
	}
	if f.document != nil {
		f.changedClusters(&updates, services)
		f.changedListeners(&updates)
		for kind, changed := range f.routes {
			if changed {
				updates[kind].Set = append(updates[kind].Set, f.routing(kind, services))
			}
		}
		for _, layer := range slices.Sorted(maps.Keys(f.layers)) {
			updates[layered].Set = append(updates[layered].Set, f.layer(layer, services))
		}
	}
	all := append(updates[:], f.clientUpdate(services))
	f.gone, f.own, f.routes = false, false, [kinds]bool{}
	clear(f.clusters)
	clear(f.clients)
	clear(f.layers)
	return slices.DeleteFunc(all, func(u xds.Update) bool { return len(u.Set)+len(u.Remove) == 0 })
}

// changedClusters sets what a member has of them, and removes the others.
func (f *fleet) changedClusters(updates *[kinds]xds.Update, services map[string]*rendered) {
	for _, key := range slices.SortedFunc(maps.Keys(f.clusters), byKey) {
		service := f.clusters[key]
		var p piece
		if _, member := slices.BinarySearch(f.members, service); member {
			p = services[service].clusters[key]
		}
		for i := range updates {
			if p.body == nil {
				updates[i].Remove = append(updates[i].Remove, key)
				continue
			}
			updates[i].Set = append(updates[i].Set, xds.Resource{Key: key, Body: p.body})
		}
	}
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

// routing assembles the routes of one group from its services' shares. A service's routes go to proxies that have its pool; that they ask for the cluster, whose ACK
// means that it is warm, keeps the routes in place when endpoints take over from a name to resolve.
func (f *fleet) routing(kind int, services map[string]*rendered) xds.Resource {
	routes := xds.Resource{Key: xds.Key{Type: xds.RouteType, Name: f.name}, Body: encode(routeHead(f.name))}
	for _, service := range f.members {
		n := services[service]
		routes.Parts = append(routes.Parts, xds.Part{
			Name:  service,
			Body:  n.routes[kind].body,
			Needs: []xds.Need{{Key: xds.Key{Type: xds.ClusterType, Name: n.base}, Accepted: true}},
		})
	}
	return routes
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
func (f *fleet) removeAll(updates *[kinds]xds.Update, services map[string]*rendered) {
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
	for _, service := range f.members {
		keys = slices.AppendSeq(keys, maps.Keys(services[service].clusters))
	}
	slices.SortFunc(keys, byKey)
	f.listening = nil
	for i := range updates {
		updates[i].Remove = slices.Compact(slices.Clone(keys))
	}
}
