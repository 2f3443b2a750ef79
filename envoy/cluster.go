package envoy

import (
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	clusterprovidedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/cluster_provided/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rampart-proxy/rampart/policy"
)

const (
	// connectTimeout is short, because a connection that fails is tried elsewhere, on every route.
	connectTimeout = time.Second

	// roomy stands for no limit of our own. Envoy's default of 3 concurrent retries lost 94 of 122 that were possible (envoy-measured.md §1), and its 1,024
	// requests are few for streams of tokens.
	roomy = 1 << 20

	ejectAfter   = 3 // consecutive failures
	ejectEvery   = time.Second
	ejectFor     = 30 * time.Second // shorter ejections flap, longer ones leave a recovered backend unused
	ejectAtMost  = 100              // percent of the pool
	panicPercent = 1                // with 0 a pool that is wholly ejected is not tried again for seconds after its recovery

	healthEvery     = time.Second
	healthEveryIdle = 5 * time.Second // of a pool that never had traffic
)

// pool renders the cluster of one backend's endpoints. A backend's pool is the same whether it is live, a candidate or was just committed: Envoy would re-create
// a cluster that changes, with its connections and ejections, and a commit must not touch what serves.
//
// So live's pool ejects failing endpoints too. That is safe for live: an endpoint that fails thrice in a row is left alone for a while, and when all of them are
// ejected the panic threshold has Envoy try them all, as if there were no ejection. It also keeps both sides comparable when they suffer alike.
func pool(s policy.Service, arm policy.Arm) *clusterv3.Cluster {
	name := Pool(s.Name, arm.Backend)
	c := &clusterv3.Cluster{
		Name:             name,
		ConnectTimeout:   durationpb.New(connectTimeout),
		CircuitBreakers:  breakers(),
		OutlierDetection: ejection(),
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{Value: panicPercent},
			UpdateMergeWindow:     durationpb.New(0), // by default workers hear of an ejection up to a second late
		},
	}
	if dns := arm.Definition.DNS; dns != "" {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		c.LoadAssignment = assignment(name, []string{dns}, nil)
	} else {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: overADS()}
	}
	if speaksHTTP2(arm.Definition.Protocol) {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(onlyHTTP2())}
	}
	if arm.Definition.Health != nil {
		c.HealthChecks = []*corev3.HealthCheck{healthCheck(s, arm.Definition)}
	}
	return c
}

// ejection lets Envoy leave a dead backend by itself, as measured best in envoy-measured.md §1. Local failures are not split off: with the split, hung endpoints
// were found erratically.
func ejection() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		Consecutive_5Xx:                        wrapperspb.UInt32(ejectAfter),
		EnforcingConsecutive_5Xx:               wrapperspb.UInt32(100),
		ConsecutiveGatewayFailure:              wrapperspb.UInt32(ejectAfter),
		EnforcingConsecutiveGatewayFailure:     wrapperspb.UInt32(100),
		EnforcingSuccessRate:                   wrapperspb.UInt32(0), // who is worse than others is the judge's question
		SplitExternalLocalOriginErrors:         false,
		Interval:                               durationpb.New(ejectEvery),
		BaseEjectionTime:                       durationpb.New(ejectFor),
		MaxEjectionTime:                        durationpb.New(ejectFor), // or it would grow with each ejection
		MaxEjectionPercent:                     wrapperspb.UInt32(ejectAtMost),
		SuccessfulActiveHealthCheckUnejectHost: wrapperspb.Bool(false), // an app may fail while its check answers 200
	}
}

func breakers() *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(roomy),
		MaxPendingRequests: wrapperspb.UInt32(roomy),
		MaxRequests:        wrapperspb.UInt32(roomy),
		MaxRetries:         wrapperspb.UInt32(roomy),
	}}}
}

func speaksHTTP2(p policy.Protocol) bool { return p == policy.HTTP2 || p == policy.GRPC }

func onlyHTTP2() *httpv3.HttpProtocolOptions {
	return &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
		},
	}}
}

// healthCheck asks every endpoint for a path. It must name a host: by default Envoy sends the cluster's name, which is none.
func healthCheck(s policy.Service, b policy.Backend) *corev3.HealthCheck {
	codec := typev3.CodecClientType_HTTP1
	if speaksHTTP2(b.Protocol) {
		codec = typev3.CodecClientType_HTTP2
	}
	return &corev3.HealthCheck{
		Timeout:            durationpb.New(healthEvery),
		Interval:           durationpb.New(healthEvery),
		NoTrafficInterval:  durationpb.New(healthEveryIdle),
		UnhealthyThreshold: wrapperspb.UInt32(2),
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			Host: healthHost(s), Path: b.Health.Path, CodecClientType: codec,
		}},
	}
}

// healthHost is a host that the service answers to: its first one; of a wildcard the domain below it, and the service's name if it takes every host.
func healthHost(s policy.Service) string {
	if len(s.Hosts) == 0 || s.Hosts[0] == "*" {
		return s.Name
	}
	return strings.TrimPrefix(s.Hosts[0], "*.")
}

// side is what an arm is made of.
type side struct {
	name    string
	pools   []string // in order of preference
	canary  bool     // what it is compared by is told by the candidate's endpoints alone
	metrics []string // that requests report of themselves
}

// aggregate renders an arm. It owns the statistics by which both sides are compared, so both sides have one; it owns no endpoint and no connection, so that it may come
// and go under load (envoy-measured.md §18).
func aggregate(s side) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:           s.name,
		ConnectTimeout: durationpb.New(connectTimeout),
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.aggregate", TypedConfig: pack(&aggregatev3.ClusterConfig{Clusters: s.pools}),
		}},
		// Envoy takes the first policy and gRPC clients the second; any other order or choice is refused by one of them (envoy-measured.md §3).
		LbPolicy: clusterv3.Cluster_ROUND_ROBIN,
		LoadBalancingPolicy: &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{
			balancing("envoy.load_balancing_policies.cluster_provided", &clusterprovidedv3.ClusterProvided{}),
			balancing("envoy.load_balancing_policies.round_robin", &roundrobinv3.RoundRobin{}),
		}},
		CircuitBreakers: breakers(), // retries count here, whatever the pools allow
		Metadata:        &corev3.Metadata{TypedFilterMetadata: map[string]*anypb.Any{"envoy.stats_matcher": pack(kept(s))}},
		// It belongs here, though load reports tell of the pools (envoy-measured.md §2).
		LrsReportEndpointMetrics: s.metrics,
	}
}

func balancing(name string, config proto.Message) *clusterv3.LoadBalancingPolicy_Policy {
	return &clusterv3.LoadBalancingPolicy_Policy{TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: name, TypedConfig: pack(config)}}
}

// kept are the statistics that an arm keeps although the bootstrap keeps none: what the latency of both sides is judged by, what tells of requests without a sample of
// time (envoy-measured.md §14), and gRPC statuses. All is sent in each flush, so it is no more than what is read: an open pattern would treble it.
func kept(s side) *metricsv3.StatsMatcher {
	names := []string{"upstream_rq_timeout", "upstream_rq_per_try_timeout", "upstream_rq_504"}
	prefix := ""
	if s.canary {
		prefix, names = "canary.", append(names, "canary.upstream_rq_504")
	}
	for _, name := range []string{"upstream_rq_time", "upstream_rq_completed", "upstream_rq_5xx"} {
		names = append(names, prefix+name)
	}
	var list matcherv3.ListStringMatcher
	for _, name := range names {
		exact := &matcherv3.StringMatcher_Exact{Exact: "cluster." + s.name + "." + name}
		list.Patterns = append(list.Patterns, &matcherv3.StringMatcher{MatchPattern: exact})
	}
	// Envoy refuses an expression of more than some sixty characters, so it names no cluster.
	status := &matcherv3.RegexMatcher{Regex: `cluster\.[^.]+\.grpc\.[0-9]+`}
	list.Patterns = append(list.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: status}})
	return &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: &list}}
}
