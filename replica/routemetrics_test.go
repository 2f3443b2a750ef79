package replica

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rampart-proxy/rampart/envoy"
)

func TestAPushOfRoutesSaysItsCost(t *testing.T) {
	registry, log := prometheus.NewRegistry(), &bytes.Buffer{}
	s := &Serving{metrics: newMetrics(registry), log: slog.New(slog.NewTextHandler(log, nil))}
	large := envoy.RoutesPush{Gateway: "edge", Group: "edge-group", Bytes: 1 << 20, Services: 3}
	s.pushed(large, 0) // it costs nobody anything
	s.pushed(envoy.RoutesPush{Gateway: "edge", Group: "edge-group", Bytes: 100, Services: 1}, 5)
	if log.Len() > 0 {
		t.Errorf("of small pushes, and of those to nobody, it says %s", log)
	}
	s.pushed(large, 2)
	if want := `msg="the routes of a gateway are pushed" gateway=edge-group services=3 bytes=1048576 proxies=2`; strings.Count(log.String(), want) != 1 {
		t.Errorf("it says %q, want %q", log, want)
	}
	counted := map[string]float64{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "rampart_routes_push") {
			counted[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	want := map[string]float64{"rampart_routes_pushes_total": 3, "rampart_routes_pushed_bytes_total": 2<<20 + 500, "rampart_routes_pushed_services_total": 7}
	if !maps.Equal(counted, want) {
		t.Errorf("counted %v, want %v", counted, want)
	}
}
