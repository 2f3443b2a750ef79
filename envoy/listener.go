package envoy

import (
	"net"
	"strconv"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rampart-proxy/rampart/policy"
)

// streamIdle bounds streams in which nothing moves, such as an upload that stalls. Routes that allow more say so themselves.
const streamIdle = 5 * time.Minute

// listener renders one plain HTTP listener of a gateway. Its routes come over ADS under the gateway's name. Nothing in it depends on a service: Envoy would drain
// every connection of a listener that changes.
func listener(gateway string, l policy.Listener) *listenerv3.Listener {
	connections := &hcmv3.HttpConnectionManager{
		StatPrefix:        gateway,
		RouteSpecifier:    &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: gateway, ConfigSource: overADS()}},
		UseRemoteAddress:  wrapperspb.Bool(true),
		NormalizePath:     wrapperspb.Bool(true),
		UpgradeConfigs:    []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		StreamIdleTimeout: durationpb.New(streamIdle),
		HttpFilters: []*hcmv3.HttpFilter{
			filter("envoy.filters.http.grpc_stats", statuses()),
			filter("envoy.filters.http.router", &routerv3.Router{}),
		},
	}
	return &listenerv3.Listener{
		Name:    listenerName(gateway, l),
		Address: tcp(l.Address, uint32(l.Port)),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(connections)},
		}}}},
	}
}

func filter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}

// statuses has the statuses of gRPC requests counted by cluster, whatever the method: arms keep them, pools do not. The filter is always there, because a listener
// that changed would drain its connections; requests that are not gRPC pass it by.
func statuses() *grpcstatsv3.FilterConfig {
	return &grpcstatsv3.FilterConfig{PerMethodStatSpecifier: &grpcstatsv3.FilterConfig_StatsForAllMethods{StatsForAllMethods: wrapperspb.Bool(false)}}
}

// listenerName changes with the address, because Envoy cannot move a listener.
func listenerName(gateway string, l policy.Listener) string {
	return gateway + "/" + net.JoinHostPort(l.Address, strconv.Itoa(l.Port))
}
