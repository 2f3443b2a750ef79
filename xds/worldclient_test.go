package xds

import (
	"context"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// worldClient is a scripted proxy that speaks of the state of the world.
type worldClient struct {
	inbox[*discoveryv3.DiscoveryResponse]
	node   *corev3.Node
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func (r *rig) worldClient(node string) *worldClient {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return &worldClient{inbox: listen(r, cancel, stream.Recv, describeWorld), stream: stream, node: &corev3.Node{Id: node, Cluster: "edge"}}
}

func (c *worldClient) send(r *discoveryv3.DiscoveryRequest) {
	c.t.Helper()
	if c.node != nil {
		r.Node, c.node = c.node, nil
	}
	if err := c.stream.Send(r); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// ask is the first request of a type, by a proxy that has nothing.
func (c *worldClient) ask(url string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: names})
}

// resume is the first request of a type, by a proxy that has taken this response on an earlier stream.
func (c *worldClient) resume(m *discoveryv3.DiscoveryResponse, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: m.TypeUrl, ResourceNames: names, VersionInfo: m.VersionInfo})
}

// ack accepts a response, and names all that the proxy wants from then on. Sent again it changes what the proxy wants.
func (c *worldClient) ack(m *discoveryv3.DiscoveryResponse, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce, VersionInfo: m.VersionInfo, ResourceNames: names})
}

func (c *worldClient) nack(m *discoveryv3.DiscoveryResponse, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce, ResourceNames: names, ErrorDetail: &rpcstatus.Status{Message: "bad"}})
}

// take is expect and ack.
func (c *worldClient) take(want string, names ...string) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	m := c.expect(want)
	c.ack(m, names...)
	return m
}

// describeWorld writes a response as "Cluster a b", with the resources' bodies, ordered.
func describeWorld(m *discoveryv3.DiscoveryResponse) string {
	var bodies []string
	for _, one := range m.Resources {
		bodies = append(bodies, string(one.Value))
	}
	slices.Sort(bodies)
	return strings.Join(append([]string{m.TypeUrl[strings.LastIndexByte(m.TypeUrl, '.')+1:]}, bodies...), " ")
}

func listener(name, body string) Resource {
	return Resource{Key: Key{ListenerType, name}, Body: []byte(body)}
}
