package envoy

import (
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// Proxyless gRPC clients that dial xds:///shop ask for the listener shop, and from there on for what each answer names: routes, the clusters with a weight, the clusters
// behind these, their endpoints. All that a client gets is by service, so it costs what the client uses, and a step is one small RouteConfiguration.
//
// Nothing of it has needs. A client asks for clusters because routes name them, and sends no request by new routes before it has all that they name. But grpc-go fails
// requests that it sends to a cluster which the routes before did not name. So while a release runs a route that nobody takes names all that it could come to: a step,
// the way back and the commit then only shift weights among clusters that have been there, with their connections, since the release began.

// When a gRPC client leaves an endpoint alone. It counts failures by interval and endpoint, of whatever status, so only an endpoint that answers
// nothing but failures, while others do not, is left alone; it never leaves more than half of them, as it has no threshold beyond which it tries them all.
const (
	clientFails  = 99 // percent, and more
	clientVolume = 5  // requests to an endpoint in ejectEvery
	clientHosts  = 2  // with as many
	clientEjects = 50 // percent of the pool
)

const (
	clientMethod = "POST"
	nobodysPath  = "/rampart.Release/Reserve"
)

// forClients renders what gRPC clients get of a service whose live backend they can call.
func (n *rendered) forClients(s *policy.Served, st State) {
	if !speaksHTTP2(s.Live.Definition.Protocol) {
		return
	}
	n.clients = pieces{
		n.door():  {body: encode(apiListener(n.name))},
		n.paths(): {body: encode(clientRoutes(s, st))},
	}
	n.clientPool(s.Service, s.Live)
	if s.Release != nil {
		candidate := s.Release.Candidate
		n.clientPool(s.Service, candidate)
		arm := xds.Key{Type: xds.ClusterType, Name: CandidateArm(n.name, candidate.Backend, s.Live.Backend)}
		n.clients[arm] = piece{body: n.clusters[arm].body}
	}
}

// door is the listener that clients dial, paths are its routes.
func (n *rendered) door() xds.Key  { return xds.Key{Type: xds.ListenerType, Name: n.name} }
func (n *rendered) paths() xds.Key { return xds.Key{Type: xds.RouteType, Name: n.name} }

// clientPool renders a backend's cluster as clients take it; its endpoints are those of Envoys.
func (n *rendered) clientPool(s policy.Service, arm policy.Arm) {
	name := Pool(n.name, arm.Backend)
	n.clients[xds.Key{Type: xds.ClusterType, Name: name}] = piece{body: encode(clientPool(s, arm))}
	endpoints := xds.Key{Type: xds.EndpointType, Name: name}
	if p, byEndpoints := n.clusters[endpoints]; byEndpoints {
		n.clients[endpoints] = piece{body: p.body}
	}
}

// clientsReady is what a client that uses the service must have accepted for a release to climb.
func (n *rendered) clientsReady() []xds.Requirement { return n.clientsNeed(xds.ListenerType) }

// clientsConfirmed is what a client that uses the service must have accepted to serve it as it is served now.
func (n *rendered) clientsConfirmed() []xds.Requirement { return n.clientsNeed(xds.RouteType) }

// clientsNeed are the clusters, their endpoints, and what is of a type.
func (n *rendered) clientsNeed(url string) []xds.Requirement {
	var want []xds.Requirement
	for _, key := range slices.SortedFunc(maps.Keys(n.clients), byKey) {
		if key.Type == xds.ClusterType || key.Type == xds.EndpointType || key.Type == url {
			want = append(want, xds.Requirement{Key: key, Revision: n.clients[key].at, Given: n.door()})
		}
	}
	return want
}

// clientUpdates are what changed for the gateway's clients, routes that take a release back before all else.
func (f *fleet) clientUpdates(services map[string]*rendered) (hurried, update xds.Update) {
	hurried, update = xds.Update{Group: ClientGroup(f.name), Urgent: true}, xds.Update{Group: ClientGroup(f.name)}
	switch {
	case f.document != nil:
	case !f.gone:
		clear(f.clients) // they never got anything
	default:
		for _, n := range f.members {
			for key := range n.clients {
				f.clients[key] = n.name
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(f.clients), byKey) {
		service := f.clients[key]
		var p piece
		if _, member := f.find(service); member && f.document != nil {
			p = services[service].clients[key]
		}
		_, hurry := f.hurried[service]
		switch {
		case p.body == nil:
			update.Remove = append(update.Remove, key)
		case hurry && key.Type == xds.RouteType:
			hurried.Set = append(hurried.Set, xds.Resource{Key: key, Body: p.body})
		default:
			update.Set = append(update.Set, xds.Resource{Key: key, Body: p.body})
		}
	}
	clear(f.clients)
	clear(f.hurried)
	return hurried, update
}

// apiListener is what a client finds under the name that it dials.
func apiListener(service string) *listenerv3.Listener {
	return &listenerv3.Listener{Name: service, ApiListener: &listenerv3.ApiListener{ApiListener: pack(&hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: service, ConfigSource: overADS()}},
		HttpFilters:    []*hcmv3.HttpFilter{filter("envoy.filters.http.router", &routerv3.Router{})},
	})}}
}

// clientRoutes are a service's routes for those who dialled it, so they are for whatever authority.
func clientRoutes(s *policy.Served, st State) *routev3.RouteConfiguration {
	v, split := &routev3.VirtualHost{Name: s.Service.Name, Domains: []string{"*"}}, clientSplit(s, st)
	for _, r := range routesOf(s.Service) {
		// gRPC has only one method, and does not know it when it looks for a route.
		if len(r.Match.Methods) > 0 && !slices.Contains(r.Match.Methods, clientMethod) {
			continue
		}
		r.Match.Methods = nil
		one := route(r, split)
		// What an Envoy does to a request that takes too long, a client does to itself.
		if timeout := one.GetRoute().GetTimeout(); timeout.AsDuration() > 0 {
			one.GetRoute().MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: timeout}
		}
		v.Routes = append(v.Routes, one)
	}
	if s.Release != nil {
		v.Routes = append(v.Routes, &routev3.Route{Match: match(policy.Match{Path: nobodysPath}), Action: &routev3.Route_Route{Route: reserve(s)}})
	}
	return &routev3.RouteConfiguration{Name: s.Service.Name, VirtualHosts: []*routev3.VirtualHost{v}}
}

// clientSplit is the real split of traffic without what has no weight: a client takes no notice of it.
func clientSplit(s *policy.Served, st State) *routev3.WeightedCluster {
	split := realSplit(s, st)
	split.Clusters = slices.DeleteFunc(split.Clusters, func(c *routev3.WeightedCluster_ClusterWeight) bool { return c.GetWeight().GetValue() == 0 })
	return split
}

// reserve names the clusters that a running release's requests could be sent to.
func reserve(s *policy.Served) *routev3.RouteAction {
	service, live, candidate := s.Service.Name, s.Live.Backend, s.Release.Candidate.Backend
	split := &routev3.WeightedCluster{}
	for _, name := range []string{Pool(service, live), Pool(service, candidate), CandidateArm(service, candidate, live)} {
		add(split, name, 1)
	}
	return &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: split}}
}

// clientPool is the cluster of one backend's endpoints. A client reports load only of a cluster that says so, and of the metrics that the cluster itself names; it
// checks no health, and a host name that it resolves must be said to be one.
func clientPool(s policy.Service, arm policy.Arm) *clusterv3.Cluster {
	name := Pool(s.Name, arm.Backend)
	c := &clusterv3.Cluster{
		Name:                     name,
		CircuitBreakers:          breakers(), // its default is 1,024 requests
		OutlierDetection:         clientEjection(),
		LrsServer:                &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Self{Self: &corev3.SelfConfigSource{}}},
		LrsReportEndpointMetrics: qualities(s),
	}
	if dns := arm.Definition.DNS; dns != "" {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
		c.LoadAssignment = assignment(name, []string{dns}, nil)
		return c
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: overADS()}
	return c
}

func clientEjection() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		EnforcingSuccessRate:           wrapperspb.UInt32(0),
		EnforcingFailurePercentage:     wrapperspb.UInt32(100),
		FailurePercentageThreshold:     wrapperspb.UInt32(clientFails),
		FailurePercentageMinimumHosts:  wrapperspb.UInt32(clientHosts),
		FailurePercentageRequestVolume: wrapperspb.UInt32(clientVolume),
		Interval:                       durationpb.New(ejectEvery),
		BaseEjectionTime:               durationpb.New(ejectFor),
		MaxEjectionTime:                durationpb.New(ejectFor),
		MaxEjectionPercent:             wrapperspb.UInt32(clientEjects),
	}
}
