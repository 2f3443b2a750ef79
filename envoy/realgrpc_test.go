package envoy_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/rampart-proxy/rampart/policy"
)

// health is a gRPC service that answers with the status it is asked for.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (health) Check(_ context.Context, q *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	code, err := strconv.ParseUint(q.GetService(), 10, 8)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if code == 0 {
		return &grpc_health_v1.HealthCheckResponse{}, nil
	}
	return nil, status.Error(codes.Code(code), "as asked for")
}

// newGRPC starts such a service and returns its address.
func newGRPC(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return listener.Addr().String()
}

func TestStatusesOfGRPCRequestsThroughARealEnvoyArrive(t *testing.T) {
	r := newRig(t)
	backends := map[string]policy.Backend{}
	for _, name := range []string{"blue", "green"} {
		backends[name] = policy.Backend{Revision: name, Endpoints: []string{newGRPC(t)}, Protocol: policy.GRPC}
	}
	conn, err := grpc.NewClient(net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("shop.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := grpc_health_v1.NewHealthClient(conn)
	asked := map[codes.Code]uint64{}
	ask := func(code codes.Code) {
		if _, err := client.Check(r.ctx, &grpc_health_v1.HealthCheckRequest{Service: fmt.Sprint(uint32(code))}); status.Code(err) != code {
			t.Fatalf("asked for %s, got %v", code, err)
		}
		asked[code]++
	}
	rest := shopOf(newModel(t, "blue"), newModel(t, "green"))
	rest.Service.Backends, rest.Live.Definition = backends, backends["blue"]
	r.observes(rest, func() { ask(codes.OK) })
	r.sees("statistics of both arms", func(sum policy.Reading) bool {
		ask(codes.OK)
		return sum.Statuses != nil && sum.Statuses.Candidate[codes.OK] > 0
	})
	r.quiet()
	clear(asked)
	for range 30 {
		for _, code := range []codes.Code{codes.OK, codes.NotFound, codes.ResourceExhausted} {
			ask(code)
		}
	}
	// Statuses come with the proxy's statistics, the others with its load reports: either may be first.
	sum := r.sees("all statuses", func(sum policy.Reading) bool {
		return sum.Statuses != nil && total(sum.Statuses) >= 90 && sum.Live.Finished()+sum.Candidate.Finished() >= 90
	})
	for code, n := range asked {
		if got := sum.Statuses.Live[code] + sum.Statuses.Candidate[code]; got != n || sum.Statuses.Candidate[code] == 0 || sum.Statuses.Live[code] == 0 {
			t.Errorf("%s: %d on live and %d on the candidate, want %d", code, sum.Statuses.Live[code], sum.Statuses.Candidate[code], n)
		}
	}
	if sum.Live.Errors+sum.Candidate.Errors > 0 || sum.Live.OK+sum.Candidate.OK != 90 {
		t.Errorf("load reports: %+v, %+v", sum.Live, sum.Candidate)
	}
}

func total(s *policy.Statuses) (n uint64) {
	for i := range s.Live {
		n += s.Live[i] + s.Candidate[i]
	}
	return n
}
