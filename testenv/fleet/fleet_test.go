package fleet

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/testenv/limit"
)

// layers are the names of a bootstrap's.
func layers() []string {
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("ramp-%02d", i))
	}
	return names
}

func encoded(t *testing.T, typeURL string, resources map[string]proto.Message) []byte {
	t.Helper()
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: "1"}
	for name, message := range resources {
		body, err := anypb.New(message)
		if err != nil {
			t.Fatal(err)
		}
		response.Resources = append(response.Resources, &discoveryv3.Resource{Name: name, Version: "1", Resource: body})
	}
	b, err := proto.Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// startLimit runs a server in this process.
func startLimit(t *testing.T, responses map[string][]byte) (*limit.Server, string) {
	t.Helper()
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := limit.New(responses)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, streams, steps) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return server, streams.Addr().String()
}

func startFleet(t *testing.T, c Config) *Fleet {
	t.Helper()
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return f
}

// small is a world of so many clusters, of 250 bytes each.
func small(t *testing.T, clusters int) map[string][]byte {
	t.Helper()
	empty := map[string]proto.Message{}
	for _, name := range layers() {
		empty[name] = &runtimev3.Runtime{Name: name}
	}
	all := map[string]proto.Message{}
	for i := range clusters {
		name := fmt.Sprintf("svc-%d/blue", i)
		all[name] = &clusterv3.Cluster{Name: name, AltStatName: fmt.Sprintf("%0200d", i)}
	}
	return map[string][]byte{Layers: encoded(t, Layers, empty), Clusters: encoded(t, Clusters, all), Listeners: encoded(t, Listeners, nil)}
}

// A fleet that connects to a large world gets more than there is room for; that must not lose a client.
func TestClientsWaitForRoom(t *testing.T) {
	_, address := startLimit(t, small(t, 4000))
	f := startFleet(t, Config{Server: address, Clients: 30, Gateway: "edge", Layers: layers(), Loops: 1})
	f.loops[0].room = newRoom(3 << 20)
	f.Connect(0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := f.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	f.Cut()
	// Some are cut off again while they wait.
	waitFor(t, func() bool { return f.Counts().Connects > 50 })
	f.Cut()
	waitFor(t, func() bool {
		c := f.Counts()
		return c.Settled == 30 && c.Connects > 80 && c.Responses[Clusters] >= 60
	})
	left := make(chan int)
	waitFor(t, func() bool {
		f.loops[0].do(func() { left <- f.loops[0].room.left })
		return <-left == 3<<20
	})
}

func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := testenv.Eventually(ctx, func() (bool, error) { return holds(), nil }); err != nil {
		t.Fatal(err)
	}
}

func TestAFleetAndTheLimitMeet(t *testing.T) {
	server, address := startLimit(t, small(t, 3000))
	const clients = 20
	f := startFleet(t, Config{Server: address, Clients: clients, Gateway: "edge", Layers: layers(), Loops: 2})
	f.Connect(0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := f.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		layer, err := structpb.NewStruct(map[string]any{"ramp.shop.green": float64(round)})
		if err != nil {
			t.Fatal(err)
		}
		w := f.Watch("ramp.shop.green", float64(round))
		if n := server.Step(encoded(t, Layers, map[string]proto.Message{"ramp-03": &runtimev3.Runtime{Name: "ramp-03", Layer: layer}})); n != clients {
			t.Fatalf("%d streams", n)
		}
		took, err := w.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, one := range took {
			if one <= 0 {
				t.Errorf("client %d took %s", i, one)
			}
		}
	}
	if c := f.Counts(); c.Losses != 0 || c.Acks != 6*clients || c.Responses[Layers] != 4*clients {
		t.Errorf("%+v", c)
	}
	w := f.Watch("ramp.shop.green", 2)
	f.Cut()
	if _, err := w.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if c := f.Counts(); c.Responses[Layers] != 5*clients || c.Responses[Clusters] != clients {
		t.Errorf("who came back was sent more than the last step: %+v", c)
	}
}

func TestALayerThatIsRenewedTooLateCountsAsExpired(t *testing.T) {
	for ttl, expires := range map[time.Duration]bool{time.Nanosecond: true, time.Hour: false} {
		server, address := startLimit(t, small(t, 1))
		f := startFleet(t, Config{Server: address, Clients: 3, Gateway: "edge", Layers: layers()})
		f.Connect(0)
		waitFor(t, func() bool { return f.Counts().Settled == 3 })
		beat := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: Layers, Nonce: "2", Resources: []*discoveryv3.Resource{{Name: "ramp-00", Version: "1", Ttl: durationpb.New(ttl)}}}
		message, err := proto.Marshal(beat)
		if err != nil {
			t.Fatal(err)
		}
		server.Step(message)
		server.Step(message)
		waitFor(t, func() bool { return f.Counts().Beats == 6 })
		if got := f.Counts().Expired; (got == 3) != expires || !expires && got > 0 {
			t.Errorf("with a TTL of %s %d expired", ttl, got)
		}
	}
}

// A client that loses its stream goes to the next server.
func TestClientsGoToTheNextServer(t *testing.T) {
	_, one := startLimit(t, small(t, 1))
	other, two := startLimit(t, small(t, 1))
	f := startFleet(t, Config{Server: one, Others: []string{two}, Clients: 3, Gateway: "edge", Layers: layers()})
	f.Connect(0)
	waitFor(t, func() bool { return f.Counts().Settled == 3 })
	if n := other.Streams(); n != 0 {
		t.Fatalf("%d went to the other server at once", n)
	}
	f.Cut()
	waitFor(t, func() bool { return other.Streams() == 3 })
}
