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

// worldClient is a scripted proxy that speaks the state of the world.
type worldClient struct {
	t      *testing.T
	node   *corev3.Node
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	cancel context.CancelFunc
	came   chan *discoveryv3.DiscoveryResponse
	ended  chan error
	names  map[string][]string // by type: what it asked for last
}

func (r *rig) worldClient(node string) *worldClient {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &worldClient{
		t: r.t, stream: stream, cancel: cancel, node: &corev3.Node{Id: node, Cluster: "edge", UserAgentName: "gRPC Go"},
		came: make(chan *discoveryv3.DiscoveryResponse, 1<<12), ended: make(chan error, 1), names: map[string][]string{},
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
	synctest.Wait()
}

// ask names all that it wants of a type, before any response or after one that it answers again.
func (c *worldClient) ask(url string, after *discoveryv3.DiscoveryResponse, names ...string) {
	c.t.Helper()
	c.names[url] = names
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: names, ResponseNonce: after.GetNonce(), VersionInfo: after.GetVersionInfo()})
}

func (c *worldClient) ack(m *discoveryv3.DiscoveryResponse) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: m.TypeUrl, ResourceNames: c.names[m.TypeUrl], ResponseNonce: m.Nonce, VersionInfo: m.VersionInfo})
}

// nack refuses a response and names the version that it keeps.
func (c *worldClient) nack(m *discoveryv3.DiscoveryResponse, kept, words string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: m.TypeUrl, ResourceNames: c.names[m.TypeUrl], ResponseNonce: m.Nonce, VersionInfo: kept, ErrorDetail: &rpcstatus.Status{Code: 3, Message: words},
	})
}

// expect checks the next response against the bodies in it, in order of their text.
func (c *worldClient) expect(want string) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	synctest.Wait()
	select {
	case m := <-c.came:
		words := []string{}
		for _, r := range m.Resources {
			words = append(words, string(r.Value))
		}
		slices.Sort(words)
		got := strings.Join(append([]string{m.TypeUrl[strings.LastIndexByte(m.TypeUrl, '.')+1:]}, words...), " ")
		if got != want {
			c.t.Fatalf("got  %s\nwant %s", got, want)
		}
		return m
	case err := <-c.ended:
		c.t.Fatalf("want %s; the stream ended: %v", want, err)
	default:
		c.t.Fatalf("want %s; nothing came", want)
	}
	return nil
}

func (c *worldClient) take(want string) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	m := c.expect(want)
	c.ack(m)
	return m
}

func (c *worldClient) quiet() {
	c.t.Helper()
	synctest.Wait()
	select {
	case m := <-c.came:
		c.t.Fatalf("got %s %v, want nothing", m.TypeUrl, m.Resources)
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
