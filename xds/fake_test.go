package xds

import (
	"context"
	"io"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// fake is a stream without a connection: what the server sends is read from out, what the proxy sends is written to in.
type fake struct {
	grpc.ServerStream
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *discoveryv3.DeltaDiscoveryRequest
	out    chan *discoveryv3.DeltaDiscoveryResponse
}

func newFake(parent context.Context) *fake {
	ctx, cancel := context.WithCancel(parent)
	return &fake{
		ctx: ctx, cancel: cancel,
		in: make(chan *discoveryv3.DeltaDiscoveryRequest, 16), out: make(chan *discoveryv3.DeltaDiscoveryResponse, 16),
	}
}

func (f *fake) Context() context.Context { return f.ctx }

func (f *fake) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	select {
	case r := <-f.in:
		return r, nil
	case <-f.ctx.Done():
		return nil, io.EOF
	}
}

func (f *fake) Send(r *discoveryv3.DeltaDiscoveryResponse) error {
	select {
	case f.out <- r:
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}
