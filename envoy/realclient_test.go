package envoy_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// callee is a gRPC server that says who it is and how good its answers are.
type callee struct {
	grpc_health_v1.UnimplementedHealthServer
	name, address string
	quality       float64
	code          atomic.Uint32 // what it answers
	stop          func()
}

func (c *callee) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	orca.CallMetricsRecorderFromContext(ctx).SetNamedMetric("quality", c.quality)
	if err := grpc.SetHeader(ctx, metadata.Pairs("name", c.name)); err != nil {
		return nil, err
	}
	return &grpc_health_v1.HealthCheckResponse{}, status.Error(codes.Code(c.code.Load()), "as told")
}

func newCallee(t *testing.T, name string, quality float64) *callee {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(orca.CallMetricsServerOption(nil))
	c := &callee{name: name, address: listener.Addr().String(), quality: quality}
	grpc_health_v1.RegisterHealthServer(server, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	c.stop = func() {
		server.Stop()
		<-done
	}
	t.Cleanup(c.stop)
	return c
}

// called is shop on two callees.
func called(blue, green *callee) *policy.Served {
	document := policy.Service{
		Name: "shop", Gateways: []string{"edge"}, Hosts: []string{"shop.example.com"}, Serve: "blue",
		Analysis: policy.Analysis{Quality: []policy.Quality{{ORCA: "named_metrics.quality", Better: policy.Higher}}},
		Backends: map[string]policy.Backend{
			"blue":  {Revision: "v1", Endpoints: []string{blue.address}, Protocol: policy.GRPC},
			"green": {Revision: "v2", Endpoints: []string{green.address}, Protocol: policy.GRPC},
		},
	}.WithDefaults()
	return &policy.Served{Service: document, Live: policy.Arm{Ref: policy.Ref{Backend: "blue", Revision: "v1"}, Definition: document.Backends["blue"]}}
}

// caller dials a service without any Envoy and returns a function that calls it once.
func (r *rig) caller(service string) (call func() (name string, err error)) {
	r.t.Helper()
	text, err := envoy.ClientBootstrap(envoy.ClientBootstrapConfig{Gateway: "edge", ID: "app-" + service, Server: r.server})
	if err != nil {
		r.t.Fatal(err)
	}
	builder, err := xds.NewXDSResolverWithConfigForTesting(text)
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+service, grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	client := grpc_health_v1.NewHealthClient(conn)
	return func() (string, error) {
		ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
		defer cancel()
		var header metadata.MD
		_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header))
		return fmt.Sprint(header.Get("name")), err
	}
}

// halves serves a release of shop at half of the calls, and returns when calls to both arms are counted and all that were made have been reported.
func (r *rig) halves(rest *policy.Served, call func() (string, error)) {
	r.t.Helper()
	permit := envoy.State{Permit: true}
	r.serve(rest, envoy.State{})
	if _, err := call(); err != nil {
		r.t.Fatal(err)
	}
	r.serve(releasing(rest, policy.Gated, 0), permit)
	r.confirmed("shop", 1)
	r.serve(releasing(rest, policy.Shifting, 5000), permit)
	r.confirmed("shop", 1)
	r.sees("reports of both", func(sum policy.Reading) bool {
		_, _ = call()
		return sum.Live.OK > 0 && sum.Candidate.OK > 0
	})
	heard, still := -1, 0
	err := testenv.Eventually(r.ctx, func() (bool, error) {
		reading := r.take()
		r.mu.Lock()
		defer r.mu.Unlock()
		if reading.Live.Issued+reading.Candidate.Issued > 0 {
			still = 0
		} else if n := r.touched["app-shop"]; n != heard {
			heard, still = n, still+1
		}
		return still >= 5, nil
	})
	if err != nil {
		r.t.Fatal("it is never quiet")
	}
}

func TestARealGRPCClientReportsWhatItsCallsCameTo(t *testing.T) {
	r := newRig(t)
	blue, green := newCallee(t, "blue", 0.75), newCallee(t, "green", 0.5)
	call := r.caller("shop")
	r.halves(called(blue, green), call)
	answers := map[string]uint64{}
	for range 60 {
		name, err := call()
		if err != nil {
			t.Fatal(err)
		}
		answers[name]++
	}
	sum := r.sees("all reports", func(sum policy.Reading) bool { return sum.Live.OK+sum.Candidate.OK >= 60 })
	if sum.Live.OK != answers["[blue]"] || sum.Candidate.OK != answers["[green]"] || sum.Live.Issued != sum.Live.OK || sum.Candidate.Issued != sum.Candidate.OK {
		t.Errorf("%+v and %+v of %v", sum.Live, sum.Candidate, answers)
	}
	q := sum.Quality[0]
	if q.Live.Count != sum.Live.OK || q.Candidate.Count != sum.Candidate.OK || q.Live.Mean() != 0.75 || q.Candidate.Mean() != 0.5 {
		t.Errorf("quality: %+v of %+v and %+v", q, sum.Live, sum.Candidate)
	}
	// To gRPC's load reports whatever is not OK is an error, also what Envoy takes for the caller's own.
	green.code.Store(uint32(codes.NotFound))
	missed := uint64(0)
	for range 60 {
		if _, err := call(); status.Code(err) == codes.NotFound {
			missed++
		}
	}
	sum = r.sees("all errors", func(sum policy.Reading) bool {
		return sum.Live.Finished()+sum.Candidate.Finished() >= 60
	})
	if sum.Candidate.Errors != missed || sum.Candidate.OK+sum.Live.Errors > 0 || missed == 0 {
		t.Errorf("%+v and %+v, %d calls failed", sum.Live, sum.Candidate, missed)
	}
}

// The candidate's arm has live's pool behind it: a candidate that cannot be reached costs a gRPC client's users nothing where calls may be repeated, and the judge sees
// that it gets too little. Elsewhere it costs what was on its way.
func TestCallsOfARealGRPCClientGoToLiveWhenTheCandidateIsGone(t *testing.T) {
	r := newRig(t)
	blue, green := newCallee(t, "blue", 0.75), newCallee(t, "green", 0.75)
	call := r.caller("shop")
	rest := called(blue, green)
	rest.Service.Routes = []policy.Route{{Idempotent: true}}
	r.halves(rest, call)
	green.stop()
	for i := range 200 {
		if name, err := call(); err != nil || name != "[blue]" {
			t.Fatalf("call %d: answered by %s, %v", i, name, err)
		}
	}
	sum := r.sees("all reports", func(sum policy.Reading) bool { return sum.Live.OK >= 200 })
	// What it answered was before it was gone, and reported late.
	if tried := sum.Candidate.Issued - sum.Candidate.OK; tried > 2 {
		t.Errorf("a candidate that is gone got %+v of %+v", sum.Candidate, sum.Live)
	}
}

func TestARealGRPCClientAcceptsEveryShapeOfService(t *testing.T) {
	r := newRig(t)
	blue, green := newCallee(t, "blue", 0.75), newCallee(t, "green", 0.75)
	timeout := policy.Duration(0)
	shapes := called(blue, green)
	shapes.Service.Name = "shapes"
	shapes.Service.Hosts = []string{"*.example.org", "*"}
	shapes.Service.Routes = []policy.Route{
		{Match: policy.Match{Path: "/exact", Methods: []string{"GET", "M-SEARCH"}}, Timeout: &timeout, Idempotent: true},
		{Match: policy.Match{Prefix: "/p", Headers: map[string]string{"X-Tier": "gold", "x-b": ""}}, Idempotent: true},
		{Match: policy.Match{Methods: []string{"POST", "PUT"}}},
	}
	shapes.Service = shapes.Service.WithDefaults()
	shapes.Live.Definition.Health = &policy.Health{Path: "/healthz"}
	running := releasing(shapes, policy.Shifting, 100)
	running.Release.Candidate.Definition = policy.Backend{Revision: "v2", DNS: "localhost:1", Protocol: policy.GRPC, Health: &policy.Health{Path: "/healthz"}}
	empty := called(blue, green)
	empty.Service.Name, empty.Service.Hosts = "empty", []string{"empty.example.com"}
	empty.Live.Definition.Endpoints = nil
	r.serve(empty, envoy.State{})
	r.serve(running, envoy.State{Permit: true})
	if name, err := r.caller("shapes")(); err != nil || name != "[blue]" {
		t.Errorf("answered by %s, %v", name, err)
	}
	if _, err := r.caller("empty")(); status.Code(err) != codes.Unavailable {
		t.Errorf("without endpoints: %v", err)
	}
	r.confirmed("shapes", 1)
	r.confirmed("empty", 1)
	proxies := r.xds.Proxies()
	if len(proxies) != 2 {
		t.Errorf("proxies: %+v", proxies)
	}
	for _, p := range proxies {
		if p.Group != "edge/grpc" || len(p.Rejections) > 0 {
			t.Errorf("%s of %s rejects %+v", p.Node, p.Group, p.Rejections)
		}
	}
}
