package envoy_test

import (
	"fmt"
	"testing"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

func TestARealEnvoyWithoutLayersGetsTheWeightsInItsRoutes(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	rest := shopOf(blue, green)
	r.serve(rest, envoy.State{})
	r.envoy("plain-1", plain)
	r.confirmed("shop", 1)
	if p := r.xds.Proxies(); len(p) != 1 || p[0].Group != "edge/plain" {
		t.Fatalf("proxies: %+v", p)
	}
	r.serve(releasing(rest, policy.Gated, 0), envoy.State{Permit: true})
	r.confirmed("shop", 1)
	r.serve(releasing(rest, policy.Shifting, 5000), envoy.State{Permit: true})
	r.confirmed("shop", 1)
	if got := r.share(200); got["200 blue"]+got["200 green"] != 200 || got["200 green"] < 60 || got["200 green"] > 140 {
		t.Errorf("at 50 %%: %v", got)
	}
	r.serve(releasing(rest, policy.Shifting, 5000), envoy.State{Permit: true, Latched: true})
	r.confirmed("shop", 1)
	if got := r.share(50); got["200 blue"] != 50 {
		t.Errorf("taken back: %v", got)
	}
}

func TestARealEnvoyAcceptsEveryShapeOfService(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	timeout := policy.Duration(0)
	shapes := shopOf(blue, green)
	shapes.Service.Name = "shapes"
	shapes.Service.Hosts = []string{"*.example.org", "Example.org", "*"}
	shapes.Service.Routes = []policy.Route{
		{Match: policy.Match{Path: "/exact", Methods: []string{"GET", "M-SEARCH"}}, Timeout: &timeout, Idempotent: true},
		{Match: policy.Match{Prefix: "/p", Headers: map[string]string{"X-Tier": "gold", "x-b": ""}}, Idempotent: true},
		{Match: policy.Match{Methods: []string{"POST"}}},
	}
	shapes.Service = shapes.Service.WithDefaults()
	shapes.Live.Definition.Health = &policy.Health{Path: "/healthz"}
	running := releasing(shapes, policy.Shifting, 100)
	running.Release.Candidate.Definition = policy.Backend{Revision: "v2", DNS: "localhost:1", Protocol: policy.GRPC, Health: &policy.Health{Path: "/healthz"}}
	empty := shopOf(blue, green)
	empty.Service.Name, empty.Service.Hosts = "empty", []string{"empty.example.com"}
	empty.Live.Definition.Endpoints = nil
	r.serve(empty, envoy.State{})
	r.serve(running, envoy.State{Permit: true})
	r.envoy("edge-1", asWritten)
	r.envoy("plain-1", plain)
	r.confirmed("shapes", 2)
	r.confirmed("empty", 2)
	for _, p := range r.xds.Proxies() {
		if len(p.Rejections) > 0 {
			t.Errorf("%s rejects %+v", p.Node, p.Rejections)
		}
	}
}

func TestARealEnvoySendsItsStatisticsAllTheTime(t *testing.T) {
	r := newRig(t)
	r.envoy("edge-1", asWritten)
	err := testenv.Eventually(r.ctx, func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := r.touched["edge-1"]; n < 4 {
			return false, fmt.Errorf("it came %d times", n)
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}
