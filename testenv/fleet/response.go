package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The types that an Envoy asks for, in the order in which it does so again on a new stream.
const (
	Layers    = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
	Clusters  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	Endpoints = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	Listeners = "type.googleapis.com/envoy.config.listener.v3.Listener"
	Routes    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// envelope is what differs between two responses that say the same, and the identity of what they say.
type envelope struct {
	nonce []byte // lies in the response
	at    int    // where
	same  uint64 // equal for responses that differ in their nonces only
}

const nonceField protowire.Number = 5 // DeltaDiscoveryResponse

// open reads the nonce of an encoded response and identifies the rest.
func open(seed maphash.Seed, response []byte) (envelope, error) {
	var e envelope
	var hash maphash.Hash
	hash.SetSeed(seed)
	from := 0
	for rest := response; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return e, fmt.Errorf("read a response: %w", protowire.ParseError(n))
		}
		if number == nonceField {
			_, _, tag := protowire.ConsumeTag(rest)
			if e.nonce, _ = protowire.ConsumeBytes(rest[tag:]); e.nonce == nil {
				return e, errors.New("read a response: its nonce is no text")
			}
			at := len(response) - len(rest)
			_, _ = hash.Write(response[from:at]) // a hash never fails to write
			from = at + n
			e.at = from - len(e.nonce)
		}
		rest = rest[n:]
	}
	_, _ = hash.Write(response[from:])
	e.same = hash.Sum64()
	return e, nil
}

// content is what a response says, whichever client it is for. It is not changed once made.
type content struct {
	typeURL string
	set     []held        // resources with a body
	removed []string      // names
	beats   int           // resources without a body
	ttl     time.Duration // the shortest of its resources'; 0: none has one

	waits  []string           // clusters that are not warm before their endpoints have come
	needs  []string           // routes that listeners ask for
	values map[string]float64 // what layers hold
	raw    []byte             // the response itself, if values has any
}

// held is a resource that a client has.
type held struct{ name, version string }

// understand reads a whole response.
func understand(response []byte) (*content, error) {
	var r discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(response, &r); err != nil {
		return nil, fmt.Errorf("read a response: %w", err)
	}
	c := &content{typeURL: r.TypeUrl, removed: r.RemovedResources}
	for _, resource := range r.Resources {
		if ttl := resource.GetTtl().AsDuration(); ttl > 0 && (c.ttl == 0 || ttl < c.ttl) {
			c.ttl = ttl
		}
		if resource.Resource == nil {
			c.beats++
			continue
		}
		c.set = append(c.set, held{resource.Name, resource.Version})
		if err := c.look(resource.Resource.Value); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", r.TypeUrl, resource.Name, err)
		}
	}
	if c.values != nil {
		c.raw = slices.Clone(response)
	}
	return c, nil
}

// look finds out what a resource makes a client do.
func (c *content) look(body []byte) error {
	switch c.typeURL {
	case Clusters:
		var cluster clusterv3.Cluster
		err := proto.Unmarshal(body, &cluster)
		if cluster.GetType() == clusterv3.Cluster_EDS {
			c.waits = append(c.waits, cmp.Or(cluster.GetEdsClusterConfig().GetServiceName(), cluster.Name))
		}
		return err
	case Listeners:
		return c.lookForRoutes(body)
	case Layers:
		var layer runtimev3.Runtime
		err := proto.Unmarshal(body, &layer)
		for key, value := range layer.GetLayer().GetFields() {
			if c.values == nil {
				c.values = map[string]float64{}
			}
			c.values[key] = value.GetNumberValue()
		}
		return err
	}
	return nil
}

func (c *content) lookForRoutes(body []byte) error {
	var listener listenerv3.Listener
	if err := proto.Unmarshal(body, &listener); err != nil {
		return err
	}
	for _, chain := range listener.FilterChains {
		for _, filter := range chain.Filters {
			var router routerv3.HttpConnectionManager
			if filter.GetTypedConfig().UnmarshalTo(&router) == nil && router.GetRds() != nil {
				c.needs = append(c.needs, router.GetRds().RouteConfigName)
			}
		}
	}
	return nil
}
