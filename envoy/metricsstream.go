package envoy

import (
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"google.golang.org/grpc"
)

// Statistics is where Envoys send the statistics of running releases (envoy-measured.md §14). They judge nothing yet, so all that is read of a stream is whose it is:
// that something comes on it shows that the proxy is alive. The bootstraps in use need no change once more is read.
type Statistics struct {
	Now   func() time.Time
	Touch func(node string, at time.Time)
}

// Register makes it the metrics service of a gRPC server that uses Codec.
func (s Statistics) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: metricsv3.MetricsService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "StreamMetrics", ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return s.serve(stream) },
		}},
	}, s)
}

// serve reads until the proxy leaves. Only a stream's first message says whose it is.
func (s Statistics) serve(stream grpc.ServerStream) error {
	var first metricsv3.StreamMetricsMessage
	if err := stream.RecvMsg(&first); err != nil {
		return err
	}
	node := first.GetIdentifier().GetNode().GetId()
	for {
		s.Touch(node, s.Now())
		if err := stream.RecvMsg(&skipped{}); err != nil {
			return err
		}
	}
}
