package xds

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestStreamsOfOtherServicesAreBoundedToo: the client status discovery service stands for all that share the server.
func TestStreamsOfOtherServicesAreBoundedToo(t *testing.T) {
	limited(t, Limits{Streams: 2}, func(r *rig) {
		open := func() statusv3.ClientStatusDiscoveryService_StreamClientStatusClient {
			stream, err := statusv3.NewClientStatusDiscoveryServiceClient(r.conn).StreamClientStatus(r.t.Context())
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return stream
		}
		first, second := open(), open()
		if _, err := open().Recv(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "--max-streams") {
			t.Errorf("a third stream ended with %v", err)
		}
		r.wantExceeded("streams")
		if err := first.Send(&statusv3.ClientStatusRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Recv(); err != nil {
			t.Errorf("the first stream ended with %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := second.Recv(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the stream that never said anything ended with %v", err)
		}
		r.wantExceeded("silence")
		if err := first.Send(&statusv3.ClientStatusRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Recv(); err != nil {
			t.Errorf("the first stream ended with %v", err)
		}
		next := open()
		if err := next.Send(&statusv3.ClientStatusRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := next.Recv(); err != nil {
			t.Errorf("one that came when another had gone ended with %v", err)
		}
	})
}
