// Package envoy speaks Envoy's language: it renders served services into resources, writes bootstraps, and turns load reports into readings.
//
// Its promises: a weight never changes a route of a proxy that has the ramp layers; neither the begin of a release nor its commit changes a serving cluster; the
// ramp's names change with the roles, so that an old overlay cannot bend a new base; what is counted twice, late or out of reason is not counted at all.
package envoy

import (
	"fmt"
	"hash/fnv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/rampart-proxy/rampart/xds"
)

// Layers is how many runtime layers a bootstrap has for ramps. Empty ones cost next to nothing; an update costs Envoy 1.65 µs for each key in all of them
// (envoy-measured.md §7), so they hold the keys of running ramps only.
const Layers = 16

// layersKey is the node metadata that says how many of them a proxy has.
const layersKey = "rampart.layers"

// Pool is the cluster of a backend's endpoints.
func Pool(service, backend string) string { return service + "/" + backend }

// LiveArm is the cluster that stands for live while a release runs: its pool, and nothing behind it.
func LiveArm(service, live string) string { return Pool(service, live) + "|none" }

// CandidateArm is the cluster that stands for a candidate: its pool, and live's behind it.
func CandidateArm(service, candidate, live string) string {
	return Pool(service, candidate) + "|" + live
}

// RuntimePrefix is the runtime_key_prefix of a service's routes; a dot and a cluster's name follow it in the keys.
func RuntimePrefix(service string) string { return "ramp." + service }

// Layer is the runtime layer that holds a service's weights. It depends on the name alone, so all replicas and all releases agree.
func Layer(service string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(service)) // a hash never fails to write
	return layerName(int(h.Sum32() % Layers))
}

func layerName(i int) string { return fmt.Sprintf("ramp-%02d", i) }

// Group names the Envoys of a gateway that get the same resources: those whose bootstrap has the ramp layers, and the plain ones, which get the real weights in
// their routes. No gateway's name holds a slash.
func Group(gateway string, layered bool) string {
	if layered {
		return gateway
	}
	return gateway + plainSuffix
}

const (
	plainSuffix  = "/plain"
	clientSuffix = "/grpc"
)

// ClientGroup names the proxyless gRPC clients of a gateway.
func ClientGroup(gateway string) string { return gateway + clientSuffix }

// OfClients reports whether a group is one of gRPC clients.
func OfClients(group string) bool { return strings.HasSuffix(group, clientSuffix) }

// groups are both groups of a gateway's Envoys, in the order of the kinds.
func groups(gateway string) [kinds]string {
	return [kinds]string{layered: Group(gateway, true), plain: Group(gateway, false)}
}

// The kinds of groups of Envoys, as indices.
const (
	layered = iota
	plain
	kinds
)

// GroupOf puts a proxy into its group: node.cluster is the gateway, and node metadata say whether an Envoy's bootstrap has the layers. Over the state of the world
// they are of no use: a TTL there crashes Envoy (envoy-measured.md §9). Whoever speaks that protocol and is no Envoy gets what gRPC clients get.
func GroupOf(node *corev3.Node, protocol xds.Protocol) string {
	agent := strings.ToLower(node.GetUserAgentName())
	if isClient(agent) || protocol == xds.StateOfTheWorld && agent != "envoy" {
		return ClientGroup(node.GetCluster())
	}
	layers := node.GetMetadata().GetFields()[layersKey].GetNumberValue()
	return Group(node.GetCluster(), protocol == xds.Delta && layers >= Layers)
}

// isClient reports whether a node's user agent, in small letters, is a gRPC library: "gRPC Go", "gRPC C-core linux", "grpc-java".
func isClient(agent string) bool { return strings.HasPrefix(agent, "grpc") }
