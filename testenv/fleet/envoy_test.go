package fleet

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/xds"
)

// world is rampart's renderer and server in this process.
type world struct {
	xds      *xds.Server
	renderer *envoy.Renderer
	address  string
	revision int64
}

func startWorld(t *testing.T, port, services int) *world {
	t.Helper()
	w := &world{renderer: envoy.NewRenderer()}
	w.xds = xds.New(xds.Config{Cluster: "c", Group: envoy.GroupOf, Now: time.Now, Grace: 100 * time.Millisecond})
	collector := envoy.NewCollector(envoy.CollectorConfig{Now: time.Now, Touch: w.xds.Touch})
	server := grpc.NewServer(w.xds.GRPCOptions(envoy.Codec())...)
	w.xds.Register(server)
	collector.Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	running.Go(func() { _ = w.xds.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		server.Stop()
		running.Wait()
	})
	// Heartbeats come every second, and the leader lives.
	running.Go(func() {
		for tick := time.Tick(200 * time.Millisecond); ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-tick:
				w.xds.Prove(time.Now())
			}
		}
	})
	deadman := policy.Deadman(3 * time.Second)
	w.renderer.SetGateway("edge", &policy.Gateway{Name: "edge", Deadman: &deadman, Listeners: []policy.Listener{{Address: "127.0.0.1", Port: port}}}, 1)
	for i := range services {
		w.serve(served(t, fmt.Sprintf("svc-%d", i), ""), envoy.State{})
	}
	w.xds.Prove(time.Now())
	w.xds.Open()
	return w
}

func (w *world) serve(s *policy.Served, st envoy.State) {
	w.revision++
	w.renderer.SetService(s.Service.Name, s, st, w.revision)
	w.xds.Publish(w.revision, w.renderer.Flush(w.revision))
}

// promise publishes a cluster whose endpoints are not there, as when both have just been taken back: who asks for them is told so.
func (w *world) promise(t *testing.T, name string) {
	t.Helper()
	source := &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
	body, err := proto.Marshal(&clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}, EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: source},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.revision++
	w.xds.Publish(w.revision, []xds.Update{{Group: "edge", Set: []xds.Resource{{Key: xds.Key{Type: xds.ClusterType, Name: name}, Body: body}}}})
}

func served(t *testing.T, name, candidate string) *policy.Served {
	t.Helper()
	text := fmt.Sprintf("service: %s\ngateways: [edge]\nhosts: [%s.example.com]\nbackends:\n  blue: {revision: \"1\", endpoints: [\"127.0.0.1:7001\"]}\n"+
		"  green: {revision: \"2\", endpoints: [\"127.0.0.1:7002\"]}\nserve: blue\n", name, name)
	s, err := policy.ParseService("services/"+name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out := &policy.Served{Service: s, Live: policy.Arm{Ref: policy.Ref{Backend: "blue", Revision: "1"}, Definition: s.Backends["blue"]}}
	if candidate != "" {
		out.Release = &policy.Release{ID: "green-1", Candidate: policy.Arm{Ref: policy.Ref{Backend: "green", Revision: "2"}, Definition: s.Backends["green"]}, Phase: policy.Soaking}
	}
	return out
}

// A fleet is worth measuring with only if a server cannot tell it from Envoys: over a start, a release's begin, a step, heartbeats, a new service, a broken stream and a
// release's end it asks the same, in the same order within each type, and with the same node.
func TestItAsksWhatARealEnvoyAsks(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	real := record(t, port, func(r *recorder) {
		text, err := envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: "e0", Servers: []string{r.address}, AdminPort: 1})
		if err != nil {
			t.Fatal(err)
		}
		e, err := testenv.StartEnvoy(t.Context(), testenv.EnvoyConfig{Bootstrap: text, ID: "e0", Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Kill() })
	})
	ours := record(t, port, func(r *recorder) {
		startFleet(t, Config{Server: r.address, Clients: 1, Gateway: "edge", Prefix: "e", Layers: layers(), Loops: 1}).Connect(0)
	})
	if len(real) != 2 || len(ours) != 2 {
		t.Fatalf("%d streams of Envoy, %d of ours", len(real), len(ours))
	}
	for i := range real {
		if want, got := inOrder(real[i].lines, i), inOrder(ours[i].lines, i); !slices.Equal(want, got) {
			t.Errorf("stream %d began with\n%s\nnot\n%s", i+1, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if want, got := byType(real[i].lines), byType(ours[i].lines); !reflect.DeepEqual(want, got) {
			t.Errorf("stream %d asked\n%v\nnot\n%v", i+1, got, want)
		}
		if !proto.Equal(real[i].node, ours[i].node) {
			t.Errorf("stream %d has another node", i+1)
		}
	}
}

// inOrder is the beginning of a stream, up to the routes or as it comes back. When layers are answered depends on how the server put them together.
func inOrder(lines []string, stream int) []string {
	lines = slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "Runtime ack") })
	return lines[:[]int{24, 5}[stream]]
}

// record plays a story to whoever start starts. Each part begins when all that was asked because of the one before has come.
func record(t *testing.T, port int, start func(*recorder)) []recording {
	t.Helper()
	w := startWorld(t, port, 3)
	r := newRecorder(t, w.address)
	start(r)
	const routes, layer, beat, endpoints, clusters = "RouteConfiguration ack(edge)", "Runtime ack(ramp-00)", "Runtime ack(ramp-00(beat))", "ClusterLoadAssignment ack(%s)", "Cluster ack(%s)"
	r.await(t, 1, routes)
	s := served(t, "svc-0", "green")
	r.forget()
	w.serve(s, envoy.State{Permit: true})
	r.await(t, 1, fmt.Sprintf(clusters, "svc-0/blue|none,svc-0/green,svc-0/green|blue"), fmt.Sprintf(endpoints, "svc-0/green"), layer)
	s = served(t, "svc-0", "green")
	s.Release.Weight = 500
	r.forget()
	w.serve(s, envoy.State{Permit: true})
	r.await(t, 1, layer)
	r.forget()
	r.await(t, 1, beat, beat)
	w.serve(served(t, "svc-9", ""), envoy.State{})
	// Routes come twice: for proxies that lack the cluster, and when they have it.
	r.await(t, 1, fmt.Sprintf(clusters, "svc-9/blue"), fmt.Sprintf(endpoints, "svc-9/blue"), routes, routes)
	r.forget()
	w.promise(t, "ghost")
	r.await(t, 1, fmt.Sprintf(clusters, "ghost"), fmt.Sprintf(endpoints, "-ghost"))
	r.forget()
	r.cutOff()
	r.await(t, 2, "RouteConfiguration +edge has edge", layer) // it has a TTL
	r.forget()
	w.serve(served(t, "svc-0", ""), envoy.State{})
	r.await(t, 2, layer, fmt.Sprintf(endpoints, "-svc-0/green"))
	r.awaitAnswers(t)
	return r.recorded()
}

// byType are a stream's requests, apart for each type: between types the order is the server's. Of layers only which were answered is told: a
// server may put some together, or skip what has changed again.
func byType(lines []string) map[string][]string {
	types := map[string][]string{}
	for _, line := range lines {
		typeName, _, _ := strings.Cut(line, " ")
		if layers, found := strings.CutPrefix(line, "Runtime ack("); found {
			for name := range strings.SplitSeq(strings.TrimSuffix(layers, ")"), ",") {
				types[typeName+" "+name] = []string{"answered"}
			}
			continue
		}
		types[typeName] = append(types[typeName], line)
	}
	return types
}
