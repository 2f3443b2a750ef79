package envoy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/testenv"
)

// validate has the real Envoy read a bootstrap without running it.
func validate(t *testing.T, bootstrap []byte) {
	t.Helper()
	path, err := testenv.FindEnvoy()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	said, err := exec.CommandContext(ctx, path, "--mode", "validate", "--log-level", "warning", "-c", file).CombinedOutput()
	if err != nil {
		t.Errorf("Envoy refuses it: %v\n%s\n%s", err, said, bootstrap)
	}
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "[warning]") || strings.Contains(strings.ToLower(line), "deprecated") {
			t.Errorf("Envoy complains: %s", line)
		}
	}
}

func TestEnvoyAcceptsEveryBootstrap(t *testing.T) {
	for name, c := range map[string]envoy.BootstrapConfig{
		"one server":    {Gateway: "edge", ID: "edge-1", Servers: []string{"127.0.0.1:18000"}, AdminPort: 9901},
		"three servers": {Gateway: "edge", ID: `odd "id": {x}` + "\n", Servers: []string{"10.0.0.1:18000", "[::1]:18000", "10.0.0.3:18000"}},
		"unix socket":   {Gateway: "edge", ID: "edge-1", Servers: []string{"unix:/run/rampart/xds.sock", "127.0.0.1:18000"}},
		"host names":    {Gateway: "edge", ID: "edge-1", Servers: []string{"rampart-0.internal:18000", "rampart-1.internal:18000"}},
		"snippet":       {Gateway: "edge", ID: "edge-1", Servers: []string{"127.0.0.1:18000"}, AdminPort: 9901, Snippet: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := envoy.Bootstrap(c)
			if err != nil {
				t.Fatal(err)
			}
			validate(t, text)
		})
	}
}

// at reads a value of a YAML document by its path.
func at(t *testing.T, text []byte, path ...any) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	for _, step := range path {
		switch step := step.(type) {
		case string:
			value = value.(map[string]any)[step]
		case int:
			value = value.([]any)[step]
		}
	}
	return value
}

func TestABootstrapHasWhatThePromisesNeed(t *testing.T) {
	text, err := envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: "edge-1", Servers: []string{"127.0.0.1:1", "127.0.0.1:2"}})
	if err != nil {
		t.Fatal(err)
	}
	ads := []any{"dynamic_resources", "ads_config"}
	for what, c := range map[string]struct{ got, want any }{
		"gateway":           {at(t, text, "node", "cluster"), "edge"},
		"layers":            {at(t, text, "node", "metadata", "rampart.layers"), envoy.Layers},
		"delta":             {at(t, text, append(ads, "api_type")...), "DELTA_GRPC"},
		"node only once":    {at(t, text, append(ads, "set_node_on_first_message_only")...), true},
		"longest back-off":  {at(t, text, append(ads, "grpc_services", 0, "envoy_grpc", "retry_policy", "retry_back_off", "max_interval")...), "0.5s"},
		"static layer":      {at(t, text, "layered_runtime", "layers", 0, "name"), "static"},
		"layer's patience":  {at(t, text, "layered_runtime", "layers", 1, "rtds_layer", "rtds_config", "initial_fetch_timeout"), "1s"},
		"admin layer last":  {at(t, text, "layered_runtime", "layers", envoy.Layers+1, "name"), "admin"},
		"second preference": {at(t, text, "static_resources", "clusters", 0, "load_assignment", "endpoints", 1, "priority"), 1},
		"statistics":        {at(t, text, "stats_config", "stats_matcher", "inclusion_list", "patterns", 0, "exact"), "server.uptime"},
		"statistics' way":   {at(t, text, "stats_sinks", 0, "typed_config", "grpc_service", "envoy_grpc", "cluster_name"), "rampart"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", what, c.got, c.want)
		}
	}
	if at(t, text).(map[string]any)["admin"] != nil {
		t.Error("an admin interface that was not asked for")
	}
	bounds := at(t, text, "stats_config", "histogram_bucket_settings", 0, "buckets").([]any)
	// What Envoy 1.38 and newer mean by a bound is the end of the bin that it lies in.
	for i, want := range map[int]any{0: 0.5, 1: 1.05, 9: 9.05, 10: 10.5, 15: 16.5, 33: 99.5, 34: 105, 35: 115, 56: 995, 57: 1050, 79: 9950, 80: 11500, 84: 59500, 85: 115000} {
		if bounds[i] != want {
			t.Errorf("bound %d is %v, want %v", i, bounds[i], want)
		}
	}
	if len(bounds) != judge.Buckets-1 {
		t.Errorf("%d bounds, want %d", len(bounds), judge.Buckets-1)
	}
}

func TestASnippetLeavesAloneWhatIsNotRamparts(t *testing.T) {
	text, err := envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: "edge-1", Servers: []string{"127.0.0.1:1"}, AdminPort: 9901, Snippet: true})
	if err != nil {
		t.Fatal(err)
	}
	if at(t, text).(map[string]any)["admin"] != nil || at(t, text, "stats_config").(map[string]any)["stats_matcher"] != nil ||
		at(t, text).(map[string]any)["stats_sinks"] != nil {
		t.Errorf("the snippet has an admin interface, or sends statistics that it does not bound:\n%s", text)
	}
	layers := at(t, text, "layered_runtime", "layers").([]any)
	if len(layers) != envoy.Layers {
		t.Errorf("%d layers, want only the %d of ramps", len(layers), envoy.Layers)
	}
	if !strings.HasPrefix(string(text), "#") {
		t.Error("the snippet does not say what to do with it")
	}
}

func TestABootstrapRefusesWhatCannotWork(t *testing.T) {
	good := envoy.BootstrapConfig{Gateway: "edge", ID: "edge-1", Servers: []string{"127.0.0.1:18000"}}
	for problem, change := range map[string]func(*envoy.BootstrapConfig){
		"gateway":         func(c *envoy.BootstrapConfig) { c.Gateway = "" },
		"id":              func(c *envoy.BootstrapConfig) { c.ID = "" },
		"at least one":    func(c *envoy.BootstrapConfig) { c.Servers = nil },
		"host:port":       func(c *envoy.BootstrapConfig) { c.Servers = []string{"127.0.0.1"} },
		"1 to 65535":      func(c *envoy.BootstrapConfig) { c.Servers = []string{"127.0.0.1:0"} },
		"whole path":      func(c *envoy.BootstrapConfig) { c.Servers = []string{"unix:xds.sock"} },
		"cannot mix":      func(c *envoy.BootstrapConfig) { c.Servers = []string{"unix:/xds.sock", "rampart.internal:18000"} },
		"admin port":      func(c *envoy.BootstrapConfig) { c.AdminPort = 70000 },
		"gateway \"a/b\"": func(c *envoy.BootstrapConfig) { c.Gateway = "a/b" },
	} {
		c := good
		change(&c)
		if text, err := envoy.Bootstrap(c); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: got %v and %d bytes", problem, err, len(text))
		}
	}
}
