package envoy

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rampart-proxy/rampart/policy"
)

const (
	// retryIdempotent repeats whatever failed.
	retryIdempotent = "5xx,reset,connect-failure,refused-stream,unavailable"
	// retryUnsent repeats only what no application has seen.
	retryUnsent = "connect-failure,refused-stream,reset-before-request"

	// defaultTimeout is a route's when its document says nothing.
	defaultTimeout = 15 * time.Second
)

// routeHead is the beginning of a gateway's RouteConfiguration; the services' virtual hosts follow as parts.
func routeHead(gateway string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: gateway, IgnorePortInHostMatching: true}
}

// routePart is one service's share of a RouteConfiguration.
func routePart(v *routev3.VirtualHost) []byte {
	return encode(&routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{v}})
}

// baseBackend is the backend that has all the traffic in a service's safe base: live, and from the commit on the candidate. Without its permit a release that
// is being committed is one that is being taken back, so the base is live's again.
func baseBackend(s *policy.Served, st State) string {
	if r := s.Release; r != nil && r.Phase == policy.Committing && st.Permit && !st.Latched {
		return r.Candidate.Backend
	}
	return s.Live.Backend
}

// virtualHost renders a service's routes over the given split of traffic.
func virtualHost(s policy.Service, split *routev3.WeightedCluster) *routev3.VirtualHost {
	v := &routev3.VirtualHost{Name: s.Name, Domains: domains(s.Hosts)}
	for _, r := range routesOf(s) {
		v.Routes = append(v.Routes, route(r, split))
	}
	return v
}

// routesOf are a document's routes: without any, everything is one.
func routesOf(s policy.Service) []policy.Route {
	if len(s.Routes) == 0 {
		return []policy.Route{{}}
	}
	return s.Routes
}

// domains are the hosts in lower case, as Envoy compares them, each once: it refuses all of a gateway's routes for a domain that comes twice.
func domains(hosts []string) []string {
	var out []string
	for _, host := range hosts {
		if host = strings.ToLower(host); !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// safeBase sends everything to one pool. It names every arm that a release could have at weight 0, where a cluster that does not exist is harmless: so a release
// begins without a change of routes, and its overlay finds its keys looked up.
func safeBase(s *policy.Served, st State) *routev3.WeightedCluster {
	service, to := s.Service.Name, baseBackend(s, st)
	split := &routev3.WeightedCluster{RuntimeKeyPrefix: RuntimePrefix(service)}
	add(split, Pool(service, to), policy.Full)
	add(split, LiveArm(service, to), 0)
	for _, other := range others(s, to) {
		add(split, CandidateArm(service, other, to), 0)
	}
	return split
}

// others are the backends that are or could become candidates. The candidate of a running release is one even if an edited document no longer has it.
func others(s *policy.Served, to string) []string {
	names := slices.Collect(maps.Keys(s.Service.Backends))
	if s.Release != nil {
		names = append(names, s.Release.Candidate.Backend)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == to })
}

// realSplit is the safe base with the weights of the ramp in it, for proxies without layers. Live's share stays with its pool: a proxy that lacks the arms then
// fails the candidate's share only. At weight 0 it is the base, to the byte.
func realSplit(s *policy.Served, st State) *routev3.WeightedCluster {
	split := safeBase(s, st)
	split.RuntimeKeyPrefix = ""
	w := s.CandidateWeight(st.Permit, st.Latched)
	if w == 0 || baseBackend(s, st) != s.Live.Backend {
		return split
	}
	candidate := CandidateArm(s.Service.Name, s.Release.Candidate.Backend, s.Live.Backend)
	split.Clusters[0].Weight = wrapperspb.UInt32(uint32(policy.Full - w))
	for _, c := range split.Clusters {
		if c.Name == candidate {
			c.Weight = wrapperspb.UInt32(uint32(w))
		}
	}
	return split
}

func add(split *routev3.WeightedCluster, cluster string, w policy.Weight) {
	split.Clusters = append(split.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: cluster, Weight: wrapperspb.UInt32(uint32(w))})
}

func route(r policy.Route, split *routev3.WeightedCluster) *routev3.Route {
	timeout := defaultTimeout
	if r.Timeout != nil {
		timeout = r.Timeout.Std()
	}
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: split},
		Timeout:          durationpb.New(timeout),
		RetryPolicy:      retries(r, timeout),
	}
	// The listener's idle timeout may not cut what the route allows: a stream of tokens pauses for as long as it likes.
	switch {
	case timeout == 0:
		action.IdleTimeout = durationpb.New(0)
	case timeout >= streamIdle:
		action.IdleTimeout = durationpb.New(timeout + time.Second)
	}
	return &routev3.Route{Match: match(r.Match), Action: &routev3.Route_Route{Route: action}}
}

// retries allows one second try, on the next pool of the arm: on live's, even when another endpoint of the candidate is fine (envoy-measured.md §1).
func retries(r policy.Route, timeout time.Duration) *routev3.RetryPolicy {
	p := &routev3.RetryPolicy{
		RetryOn:    retryUnsent,
		NumRetries: wrapperspb.UInt32(1),
		RetryPriority: &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: pack(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 1}),
			},
		},
	}
	if !r.Idempotent {
		return p
	}
	p.RetryOn = retryIdempotent
	try := timeout / 2
	if r.TryTimeout != nil {
		try = r.TryTimeout.Std()
	}
	if try > 0 {
		p.PerTryTimeout = durationpb.New(try)
	}
	return p
}

func match(m policy.Match) *routev3.RouteMatch {
	out := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: cmp.Or(m.Prefix, "/")}}
	if m.Path != "" {
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path}
	}
	if len(m.Methods) > 0 {
		out.Headers = append(out.Headers, header(":method", oneOf(m.Methods)))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		out.Headers = append(out.Headers, header(strings.ToLower(name), oneOf([]string{m.Headers[name]})))
	}
	return out
}

func header(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}

// oneOf matches any of the words; Envoy's expressions match the whole value.
func oneOf(words []string) *matcherv3.StringMatcher {
	if len(words) == 1 {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: words[0]}}
	}
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = regexp.QuoteMeta(word)
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(quoted, "|")},
	}}
}
