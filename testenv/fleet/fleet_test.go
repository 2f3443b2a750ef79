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
	"google.golang.org/protobuf/types/known/structpb"

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

func TestAFleetAndTheLimitMeet(t *testing.T) {
	values := map[string]proto.Message{}
	for _, name := range layers() {
		values[name] = &runtimev3.Runtime{Name: name}
	}
	big := map[string]proto.Message{}
	for i := range 3000 {
		name := fmt.Sprintf("svc-%d/blue", i)
		big[name] = &clusterv3.Cluster{Name: name, AltStatName: fmt.Sprintf("%0200d", i)}
	}
	server, address := startLimit(t, map[string][]byte{
		Layers: encoded(t, Layers, values), Clusters: encoded(t, Clusters, big), Listeners: encoded(t, Listeners, nil),
	})
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
}
