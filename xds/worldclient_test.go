package xds

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// worldClient is a scripted proxy that speaks of the state of the world.
type worldClient struct {
	t      *testing.T
	node   *corev3.Node
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	cancel context.CancelFunc
	came   chan *discoveryv3.DiscoveryResponse
	ended  chan error
}

func (r *rig) worldClient(node string) *worldClient {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &worldClient{
		t: r.t, stream: stream, cancel: cancel, node: &corev3.Node{Id: node, Cluster: "edge"},
		came: make(chan *discoveryv3.DiscoveryResponse, 1<<12), ended: make(chan error, 1),
	}
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				c.ended <- err
				return
			}
			c.came <- m
		}
	}()
	r.cancels = append(r.cancels, cancel)
	return c
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

// expect checks the next response, which must have come once everything has settled.
func (c *worldClient) expect(want string) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	synctest.Wait()
	select {
	case m := <-c.came:
		if got := describeWorld(m); got != want {
			c.t.Fatalf("got  %s\nwant %s", got, want)
		}
		return m
	case err := <-c.ended:
		c.t.Fatalf("the stream ended: %v", err)
	default:
		c.t.Fatalf("nothing came, want %s", want)
	}
	return nil
}

// take is expect and ack.
func (c *worldClient) take(want string, names ...string) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	m := c.expect(want)
	c.ack(m, names...)
	return m
}

func (c *worldClient) quiet() {
	c.t.Helper()
	synctest.Wait()
	select {
	case m := <-c.came:
		c.t.Fatalf("got %s, want nothing", describeWorld(m))
	case err := <-c.ended:
		c.t.Fatalf("the stream ended: %v", err)
	default:
	}
}

func (c *worldClient) hangUp() {
	c.cancel()
	<-c.ended
	synctest.Wait()
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
