package xds

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What a stream has the server remember is bounded in bytes, not only in names.
func TestLongNamesEndTheStreamAndAreCounted(t *testing.T) {
	limited(t, Limits{}, func(r *rig) {
		long := strings.Repeat("x", MaxName+1)
		for what, ask := range map[string]func(*client){
			"a name that is wanted":      func(c *client) { c.ask(EndpointType, "a", long) },
			"a name of what it has":      func(c *client) { c.resumeAll(ClusterType, map[string]string{long: "1"}) },
			"a type":                     func(c *client) { c.ask(long) },
			"a name that is taken back":  func(c *client) { c.drop(EndpointType, long) },
			"a name in a second request": func(c *client) { c.ask(EndpointType, "a"); c.ask(EndpointType, long) },
		} {
			c := r.client(what)
			ask(c)
			wantEnd(t, c, codes.ResourceExhausted, fmt.Sprintf("a name of %d bytes: a type or a resource may have one of %d", len(long), MaxName))
		}
		w := r.worldClient("state of the world")
		w.ask(EndpointType, long)
		if err := <-w.ended; status.Code(err) != codes.ResourceExhausted {
			t.Errorf("ended with %v", err)
		}
		r.wantExceeded("namebytes namebytes namebytes namebytes namebytes namebytes")
		c := r.client("as long as may be")
		c.ask(ClusterType, "a", long[1:])
		c.take("Cluster a=1 -" + long[1:])
	})
}

func TestLongNodesAreRefused(t *testing.T) {
	limited(t, Limits{}, func(r *rig) {
		long := strings.Repeat("x", MaxName+1)
		for what, node := range map[string]*corev3.Node{"id": {Id: long}, "cluster": {Id: "n1", Cluster: long}} {
			c := r.client(what)
			if err := c.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ClusterType, Node: node}); err != nil {
				t.Fatal(err)
			}
			wantEnd(t, c, codes.InvalidArgument, "whose id or cluster is longer than 4096 bytes")
		}
	})
}

// Who comes back names all that it wants in one request: more than fits there it may not gather over many either.
func TestNamesThatWouldNotFitInOneRequestEndTheStreamAndAreCounted(t *testing.T) {
	limited(t, Limits{RequestBytes: 1000}, func(r *rig) {
		c := r.client("n1")
		for i := range 3 {
			c.ask(EndpointType, strings.Repeat("x", 400)+fmt.Sprint(i))
		}
		wantEnd(t, c, codes.ResourceExhausted, "may have 1000 bytes together, as a request has (--max-request-bytes)")
		r.wantExceeded("requestbytes")
	})
}

// An edit of a large set copies it, however few names it has.
func TestRequestsThatTouchManyNamesCostMore(t *testing.T) {
	for _, names := range []int{10, dearNames + 10, 10*dearNames + 10} {
		limited(t, Limits{Requests: 4}, func(r *rig) {
			c := r.client("n1")
			all := make([]string, names)
			for i := range all {
				all[i] = fmt.Sprint(i)
			}
			c.ask(EndpointType, all...)
			// The first took 1 of the 40.
			admitted := 39 / (1 + names/dearNames)
			for i := range admitted {
				c.ask(EndpointType, fmt.Sprint("more", i))
			}
			r.wantExceeded("")
			c.ask(EndpointType, "one more")
			wantEnd(t, c, codes.ResourceExhausted, "4 requests a second")
			r.wantExceeded("requests")
		})
	}
}

// Streams of other services send as little as an Envoy's reports need.
func TestTooManyMessagesOfAnotherServiceEndTheStreamAndAreCounted(t *testing.T) {
	limited(t, Limits{Requests: 2}, func(r *rig) {
		stream, err := statusv3.NewClientStatusDiscoveryServiceClient(r.conn).StreamClientStatus(r.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if err := stream.Send(&statusv3.ClientStatusRequest{}); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		_ = stream.Send(&statusv3.ClientStatusRequest{}) // what becomes of it is read
		if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "a stream may send 2 messages a second (--max-requests)") {
			t.Errorf("ended with %v", err)
		}
		r.wantExceeded("requests")
	})
}
