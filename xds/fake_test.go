package xds

import (
	"context"
	"io"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// fake is a stream without a connection: what the server sends is read from out, what the proxy sends is written to in.
type fake struct {
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *discoveryv3.DeltaDiscoveryRequest
	out    chan *discoveryv3.DeltaDiscoveryResponse
}

func newFake(parent context.Context) *fake {
	ctx, _ := new(Server).leashed(parent, nil)
	ctx, cancel := context.WithCancel(ctx)
	return &fake{
		ctx: ctx, cancel: cancel,
		in: make(chan *discoveryv3.DeltaDiscoveryRequest, 16), out: make(chan *discoveryv3.DeltaDiscoveryResponse, 16),
	}
}

func (f *fake) Context() context.Context { return f.ctx }

func (f *fake) RecvMsg(m any) error {
	select {
	case r := <-f.in:
		return received(m.(*request), r)
	case <-f.ctx.Done():
		return io.EOF
	}
}

func (f *fake) SendMsg(m any) error {
	r, err := sentOf(m.(*frame))
	if err != nil {
		return err
	}
	select {
	case f.out <- r:
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// nobody is a stream that nothing goes over.
func nobody() stream { return newFake(context.Background()) }

// received makes a request what a message becomes on its way over the wire.
func received(r *request, from proto.Message) error {
	wire, err := proto.Marshal(from)
	if err != nil {
		return err
	}
	inPool := append(make([]byte, 0, len(wire)+2<<10), wire...) // small ones are not given back
	buffer := mem.NewBuffer(&inPool, spoiling{})
	defer buffer.Free()
	return codec{}.Unmarshal(mem.BufferSlice{buffer}, r)
}

// spoiling is a pool whose memory is somebody else's as soon as it is given back.
type spoiling struct{}

func (spoiling) Get(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

func (spoiling) Put(b *[]byte) {
	all := (*b)[:cap(*b)]
	for i := range all {
		all[i] = '!'
	}
}

// sentOf reads a frame as a proxy does.
func sentOf(f *frame) (*discoveryv3.DeltaDiscoveryResponse, error) {
	r := &discoveryv3.DeltaDiscoveryResponse{}
	return r, proto.Unmarshal(f.buffers.Materialize(), r)
}

// requested is a delta request as the server reads it.
func requested(t testing.TB, s *Server, from *discoveryv3.DeltaDiscoveryRequest) *request {
	t.Helper()
	r := s.newRequest(Delta)
	if err := received(r, from); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkLast fails if a message was said to be the last for now and is not, or if the stream would not be looked at when something is due. Of half of the messages, so that
// what follows is not always seen by a stream that was looked at once more.
func checkLast(fatalf func(string, ...any), one *session, o outgoing, now time.Time) {
	if !o.last || one.launched%2 == 0 {
		return
	}
	armed := one.armed
	if next := one.upcoming(now); next.flight != nil || !next.last || !one.armed.Equal(armed) {
		fatalf("nothing was behind %+v, and then there was %+v; alarm at %s, then at %s", o.flight, next.flight, armed, one.armed)
	}
}

// checkInFlight fails if a stream has more than one response of a type to answer, or of a layer, heartbeats aside. Only weights that take traffic back, if there were any
// urgent ones, overtake what is not answered.
func checkInFlight(fatalf func(string, ...any), one *session, urgent bool) {
	flying := map[Key]int{}
	for _, f := range one.flights {
		switch {
		case f.beat:
		case !f.t.solo:
			flying[Key{Type: f.t.url}]++
		default:
			for _, i := range f.items {
				flying[Key{f.t.url, i.name}]++
			}
		}
	}
	for key, n := range flying {
		most := 1
		if urgent && (key.Type == RuntimeType || key.Type == RouteType) {
			most += maxOvertaking
		}
		if n > most {
			fatalf("%d responses of %v are in flight, expected %d at most", n, key, most)
		}
	}
}
