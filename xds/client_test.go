package xds

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// rig is a server behind a real grpc connection, in a synctest bubble: its clock is the bubble's.
type rig struct {
	t        *testing.T
	s        *Server
	listener *bufconn.Listener
	conn     *grpc.ClientConn
	events   chan Event
	cancels  []context.CancelFunc // of the clients
}

// inBubble runs a test on a rig with an open server that has published revision 10 of nothing.
func inBubble(t *testing.T, change func(*Config), test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, listener: bufconn.Listen(1 << 20), events: make(chan Event, 1<<16)}
		c := Config{
			Cluster: "c1", Now: time.Now, Group: func(n *corev3.Node, _ Protocol) string { return n.Cluster },
			Events: func(e Event) { r.events <- e },
		}
		if change != nil {
			change(&c)
		}
		r.s = New(c)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- r.s.Run(ctx) }()
		g := grpc.NewServer(r.s.GRPCOptions(nil)...)
		r.s.Register(g)
		served := make(chan error, 1)
		go func() { served <- g.Serve(r.listener) }()
		r.conn = r.dial()
		r.s.Publish(10, nil)
		defer func() {
			cancel()
			if err := <-ran; err != nil {
				t.Errorf("Run: %v", err)
			}
			for _, cancel := range r.cancels {
				cancel()
			}
			_ = r.conn.Close()
			g.Stop()
			<-served
		}()
		test(r)
	})
}

// opened is inBubble with the server open, and proven for a minute.
func opened(t *testing.T, test func(*rig)) {
	t.Helper()
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		r.s.Prove(time.Now())
		test(r)
	})
}

func (r *rig) dial(options ...grpc.DialOption) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///xds", append(options, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return r.listener.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))...)
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// client is a scripted proxy: it sends what the test says and keeps what comes until the test looks.
type client struct {
	inbox[*discoveryv3.DeltaDiscoveryResponse]
	node   *corev3.Node
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

// inbox is what came over a client's stream, in either protocol.
type inbox[M any] struct {
	t        *testing.T
	describe func(M) string
	cancel   context.CancelFunc
	came     chan M
	ended    chan error
}

// listen keeps what comes until the stream ends.
func listen[M any](r *rig, cancel context.CancelFunc, recv func() (M, error), describe func(M) string) inbox[M] {
	i := inbox[M]{t: r.t, describe: describe, cancel: cancel, came: make(chan M, 1<<12), ended: make(chan error, 1)}
	go func() {
		for {
			m, err := recv()
			if err != nil {
				i.ended <- err
				return
			}
			i.came <- m
		}
	}()
	r.cancels = append(r.cancels, cancel)
	return i
}

// next returns the next response once everything has settled. There must be one.
func (i inbox[M]) next() (m M) {
	i.t.Helper()
	synctest.Wait()
	select {
	case m = <-i.came:
	default:
		select {
		case err := <-i.ended:
			i.t.Fatalf("the stream ended: %v", err)
		default:
		}
		i.t.Fatal("nothing came")
	}
	return m
}

// expect checks the next response against what text says of it, and returns it unanswered. See describe and describeWorld.
func (i inbox[M]) expect(want string) M {
	i.t.Helper()
	m := i.next()
	if got := i.describe(m); got != want {
		i.t.Fatalf("got  %s\nwant %s", got, want)
	}
	return m
}

// quiet checks that nothing came and the stream still lives.
func (i inbox[M]) quiet() {
	i.t.Helper()
	synctest.Wait()
	select {
	case m := <-i.came:
		i.t.Fatalf("got %s, want nothing", i.describe(m))
	case err := <-i.ended:
		i.t.Fatalf("the stream ended: %v", err)
	default:
	}
}

// end waits for the stream to end and returns why.
func (i inbox[M]) end() error {
	i.t.Helper()
	select {
	case err := <-i.ended:
		return err
	case <-time.After(time.Minute):
		i.t.Fatal("the stream did not end")
		return nil
	}
}

// hangUp ends the stream from the proxy's side.
func (i inbox[M]) hangUp() {
	i.cancel()
	<-i.ended
	synctest.Wait()
}

func (r *rig) client(node string) *client {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return &client{
		inbox: listen(r, cancel, stream.Recv, describe), stream: stream,
		node: &corev3.Node{Id: node, Cluster: "edge", UserAgentName: "envoy", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
			UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}},
		}},
	}
}

func (c *client) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	if c.node != nil {
		r.Node, c.node = c.node, nil
	}
	if err := c.stream.Send(r); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func requestOf(url string) *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url}
}

func (c *client) ask(url string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names})
}

// resume asks for names as a proxy that has them already.
func (c *client) resume(url string, versions map[string]string) {
	c.t.Helper()
	names := make([]string, 0, len(versions))
	for name := range versions {
		names = append(names, name)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names, InitialResourceVersions: versions})
}

func (c *client) drop(url string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesUnsubscribe: names})
}

func (c *client) ack(m *discoveryv3.DeltaDiscoveryResponse) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
}

func (c *client) nack(m *discoveryv3.DeltaDiscoveryResponse, words string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Code: 13, Message: words}})
}

// take is expect and ack.
func (c *client) take(want string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	m := c.expect(want)
	c.ack(m)
	return m
}

// describe writes a response as "Cluster a=body b=body/3s c~ d! -e": name=body, with the ttl behind a slash, "name~3s" for a heartbeat with its ttl, "-name" for a
// removal. Bodies are the tests' own text.
func describe(m *discoveryv3.DeltaDiscoveryResponse) string {
	words := []string{m.TypeUrl[strings.LastIndexByte(m.TypeUrl, '.')+1:]}
	resources := slices.Clone(m.Resources)
	slices.SortFunc(resources, func(a, b *discoveryv3.Resource) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range resources {
		word := r.Name + "~"
		if r.Resource != nil {
			word = r.Name + "=" + string(r.Resource.Value)
		}
		if r.Ttl != nil {
			word += "/" + r.Ttl.AsDuration().String()
		}
		words = append(words, word)
	}
	for _, name := range m.RemovedResources {
		words = append(words, "-"+name)
	}
	return strings.Join(words, " ")
}

func versionOf(t *testing.T, m *discoveryv3.DeltaDiscoveryResponse, name string) string {
	t.Helper()
	for _, r := range m.Resources {
		if r.Name == name {
			return r.Version
		}
	}
	t.Fatalf("%s has no %s", describe(m), name)
	return ""
}

// set publishes resources to the group "edge", once everything before has settled.
func (r *rig) set(revision int64, resources ...Resource) {
	synctest.Wait()
	r.s.Publish(revision, []Update{{Group: "edge", Set: resources}})
}

func (r *rig) remove(revision int64, keys ...Key) {
	synctest.Wait()
	r.s.Publish(revision, []Update{{Group: "edge", Remove: keys}})
}

func cluster(name, body string) Resource {
	return Resource{Key: Key{ClusterType, name}, Body: []byte(body)}
}

func endpoints(name, body string) Resource {
	return Resource{Key: Key{EndpointType, name}, Body: []byte(body)}
}

func route(body string) Resource { return Resource{Key: Key{RouteType, "edge"}, Body: []byte(body)} }

// layer is a dead-man switch of 3 s with one part without needs.
func layer(name, keys string) Resource {
	return Resource{Key: Key{RuntimeType, name}, Body: []byte(name + ":"), Parts: []Part{{Body: []byte(keys)}}, TTL: 3 * time.Second}
}

// proving proves every 200 ms until the test ends, as a living leader does.
func (r *rig) proving() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			r.s.Prove(time.Now())
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (r *rig) standing(want ...Requirement) string {
	synctest.Wait()
	s := r.s.Standing("edge", want)
	return fmt.Sprintf("%d of %d, %d rejected", s.Met, s.Connected, s.Rejected)
}
