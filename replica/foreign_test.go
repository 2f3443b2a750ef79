package replica_test

import (
	"math"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// foreign starts an Envoy that was set up for another control plane: it speaks the state of the world, and has no ramp layers.
func (r *rig) foreign(id string) *testenv.Envoy {
	r.t.Helper()
	text := must[[]byte](r.t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: id, Servers: r.servers, AdminPort: 1}))
	var kept []string
	for line := range strings.Lines(strings.Replace(string(text), "DELTA_GRPC", "GRPC", 1)) {
		if !strings.Contains(line, "rtds_layer") && !strings.Contains(line, "rampart.layers") {
			kept = append(kept, line)
		}
	}
	return r.envoyOf(testenv.EnvoyConfig{Bootstrap: []byte(strings.Join(kept, "")), ID: id})
}

// shared fails the test if green's part of n requests is not its weight.
func (r *rig) shared(n int, weight policy.Weight) {
	r.t.Helper()
	answers := map[string]int{}
	for range n {
		answers[r.ask("shop.example.com")]++
	}
	share := weight.Share()
	want, width := share*float64(n), 6*math.Sqrt(share*(1-share)*float64(n))
	if math.Abs(float64(answers["v2"])-want) > width || answers["v1"]+answers["v2"] != n {
		r.t.Errorf("at %s: %v of %d requests, want %.0f ± %.0f by v2", weight, answers, n, want, width)
	}
}

// Issue 5: Envoys of others, over the state of the world, get the real weights in their routes. A TTL there would crash them (envoy-measured.md §9).
func TestAnEnvoyThatSpeaksTheStateOfTheWorldFollowsAReleaseWithoutAFailedRequest(t *testing.T) {
	r := newRig(t)
	timeless := "analysis: {latency: off}\n"
	r.put("services/shop", slow(r.document("blue"))+timeless)
	one := r.foreign("foreign-1")
	r.untilAnswers("v1")
	r.untilProxy("foreign-1", func(version, deadman string) bool { return strings.HasPrefix(version, "Envoy 1.") && deadman == "no" })
	load := r.load(200)

	r.put("services/shop", slow(r.document("green"))+timeless)
	r.untilServed("the release", begun)
	r.step(1000)
	r.shared(1000, 1000)
	r.step(5000)
	r.shared(500, 5000)
	dump := must[[]byte](t)(one.ConfigDump(r.ctx))
	if strings.Contains(string(dump), "ramp-") || !strings.Contains(string(dump), `"shop/green|blue"`) {
		t.Errorf("it has ramp layers, or lacks the arm:\n%s", dump)
	}

	r.del("permits/shop/", clientv3.WithPrefix())
	r.rolledBack()
	r.shared(200, 0)
	r.put("orders/shop", "retry")
	r.untilServed("the release again", begun)
	r.put("orders/shop", "promote")
	r.untilServed("the commit", committed)
	r.untilAnswers("v2")
	r.shared(200, policy.Full)
	if totals := load.Totals(); totals.Failed > 0 || totals.Requests == 0 {
		t.Errorf("%d of %d requests failed: %v", totals.Failed, totals.Requests, totals.Statuses)
	}
	for _, p := range r.proxies(0) {
		if len(p.Rejections) > 0 {
			t.Errorf("%s rejects %v", p.Proxy, p.Rejections)
		}
	}
}
