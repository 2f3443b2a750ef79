package xds

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// FuzzStreams is FuzzRequests over real streams of a server that runs: its senders, its places for those that wait, its sweeps. Clients read when the script says so, or
// not at all. Besides, no goroutine and no place may be left when the streams have ended.
func FuzzStreams(f *testing.F) {
	addScripts(f, 40, 1000)
	f.Fuzz(func(t *testing.T, script []byte) {
		change := func(c *Config) {
			c.Log, c.Held = sound(t), func(Key, string) {}
			c.Limits = Limits{
				Streams: 5, NodeStreams: 3, ConnectionStreams: 6, Types: 6, Names: fuzzedNames, Layers: fuzzedLayer,
				Requests: 10, RequestBytes: 4 << 10, ArrivalBytes: 100 << 10, FirstBytes: 4 << 10,
			}
		}
		inBubble(t, change, func(r *rig) {
			z := &fuzzedWire{fuzzed: fuzzed{t: t, script: script[:min(len(script), 2000)], s: r.s}, r: r}
			z.begin()
			for len(z.script) > 0 {
				z.step()
				synctest.Wait()
				z.check()
			}
			z.end()
		})
	})
}

// fuzzedWire has clients do what a script says.
type fuzzedWire struct {
	fuzzed

	r       *rig
	clients [4]wireStream
}

// wireStream is one stream of a client.
type wireStream struct {
	fuzzedStream

	stream grpc.ClientStream // nil: it has none
	cancel context.CancelFunc
	came   chan []byte // closed when the stream has ended
}

// begin opens the server, with so much published, by some scripts, that who comes back has to wait for its turn.
func (z *fuzzedWire) begin() {
	for i := range z.clients {
		z.clients[i].protocol = Protocol(i % 2)
	}
	if z.byte()%2 == 0 {
		var many []Resource
		for i := range 1100 {
			many = append(many, Resource{Key: Key{ClusterType, fmt.Sprint("many", i)}, Body: make([]byte, 64)})
		}
		z.s.Publish(z.s.reached(), []Update{{Group: "edge", Set: many}})
	}
	z.s.Open()
}

func (z *fuzzedWire) step() {
	one := &z.clients[z.byte()%4]
	switch z.byte() % 12 {
	case 0, 1, 2:
		z.say(one, z.request(&one.fuzzedStream))
	case 3:
		z.say(one, z.raw())
	case 4:
		z.publishes()
	case 5:
		time.Sleep(time.Duration(z.byte()) * 100 * time.Millisecond)
	case 6:
		z.s.Prove(time.Now())
	case 7:
		z.hangUp(one)
	case 8:
		z.comes(one)
	case 11:
		z.s.Adopt("c2")
	default:
		z.read(one)
	}
}

// wire is a codec of messages that are bytes already.
type wire struct{}

func (wire) Name() string { return "proto" }

func (wire) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (wire) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// say sends a message, on a stream of its own if there is none.
func (z *fuzzedWire) say(one *wireStream, message []byte) {
	if one.stream == nil {
		ctx, cancel := context.WithCancel(z.r.t.Context())
		method := discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName
		if one.protocol == StateOfTheWorld {
			method = discoveryv3.AggregatedDiscoveryService_StreamAggregatedResources_FullMethodName
		}
		stream, err := z.r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(wire{}))
		if err != nil {
			z.t.Fatal(err)
		}
		one.stream, one.cancel, one.came = stream, cancel, make(chan []byte)
		go receive(ctx, stream, one.came)
	}
	one.greeted = true
	_ = one.stream.SendMsg(message) // the server may have ended it
}

// comes has a client begin a stream as Envoys do: it wants all that there is of a type, and may have something of it.
func (z *fuzzedWire) comes(one *wireStream) {
	z.hangUp(one)
	node, url := &corev3.Node{Id: z.pick("n", "m"), Cluster: "edge"}, z.pick(ClusterType, ClusterType, RuntimeType, EndpointType)
	var m proto.Message = &discoveryv3.DiscoveryRequest{Node: node, TypeUrl: url}
	if one.protocol == Delta {
		d := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: url, ResourceNamesSubscribe: []string{"*"}}
		if z.byte()%2 == 0 {
			d.InitialResourceVersions = map[string]string{z.name(): z.pick("c1.10/0123456789abcdef", "c2.1/0123456789abcdef")}
		}
		m = d
	}
	message, err := proto.Marshal(m)
	if err != nil {
		z.t.Fatal(err)
	}
	z.say(one, message)
}

// receive takes what comes as it is asked for, until the stream ends.
func receive(ctx context.Context, stream grpc.ClientStream, came chan<- []byte) {
	defer close(came)
	for {
		var m []byte
		if stream.RecvMsg(&m) != nil {
			return
		}
		select {
		case came <- m:
		case <-ctx.Done():
			return
		}
	}
}

// read takes the next message, if one is there.
func (z *fuzzedWire) read(one *wireStream) {
	if one.stream == nil {
		return
	}
	select {
	case m, more := <-one.came:
		if !more {
			z.hangUp(one)
			return
		}
		z.remember(&one.fuzzedStream, m)
	default:
	}
}

// hangUp ends a stream from the client's side. What it was sent it remembers.
func (z *fuzzedWire) hangUp(one *wireStream) {
	if one.stream != nil {
		one.cancel()
		one.stream, one.greeted = nil, false
	}
}

func (z *fuzzedWire) check() {
	var all []*session
	z.s.each(func(one *session) { all = append(all, one) })
	for _, one := range all {
		z.checkStream(one)
	}
}

// end has all clients hang up, and fails if the server remembers any of them.
func (z *fuzzedWire) end() {
	for i := range z.clients {
		z.hangUp(&z.clients[i])
	}
	synctest.Wait()
	z.fuzzed.end()
	for what, p := range map[string]*places{"arrivals": z.s.arrivals, "firsts": z.s.firsts.places} {
		if !p.free.TryAcquire(p.bytes) {
			z.t.Fatalf("%s: places are left that nobody has", what)
		}
		if n := p.waiting.Load(); n != 0 {
			z.t.Fatalf("%s: %d wait", what, n)
		}
	}
}
