package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bootstrap is a static one: what comes in on a port goes to a model server.
func bootstrap(port int, upstream string) []byte {
	host, upstreamPort, _ := net.SplitHostPort(upstream)
	return fmt.Appendf(nil, `
static_resources:
  listeners:
  - name: users
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: users
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: model}}]}
  clusters:
  - name: model
    load_assignment:
      cluster_name: model
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]
layered_runtime:
  layers: [{name: fixed, static_layer: {ramp.shop: 17}}, {name: admin, admin_layer: {}}]
`, port, host, upstreamPort)
}

// startEnvoy runs a real Envoy before a model server until the test ends, and returns it with the address of its users.
func startEnvoy(t testing.TB, m *Model) (*Envoy, string) {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	e, err := StartEnvoy(context.Background(), EnvoyConfig{ID: "edge-1", Dir: t.TempDir(), Bootstrap: bootstrap(port, m.Address())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.http.CloseIdleConnections()
		if err := e.Kill(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Ready(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	return e, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// runLoad makes load until a condition holds, and returns what came of it.
func runLoad(t testing.TB, c LoadConfig, until func(*Load) (bool, error)) Totals {
	t.Helper()
	l, err := NewLoad(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	err = Eventually(within(t, 20*time.Second), func() (bool, error) { return until(l) })
	cancel()
	if failed := <-ended; failed != nil {
		t.Error(failed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l.Totals()
}

// after is a condition for runLoad: so many requests have ended.
func after(requests int64) func(*Load) (bool, error) {
	return func(l *Load) (bool, error) { return l.Totals().Requests >= requests, nil }
}

func TestLoadThroughARealEnvoyFailsNothingAndEverybodyCountsAlike(t *testing.T) {
	m := startModel(t, "v7")
	e, users := startEnvoy(t, m)
	totals := runLoad(t, LoadConfig{Targets: []string{users}, Rate: 100, Timeout: patience}, after(200))
	if totals.Failed != 0 {
		t.Errorf("requests failed: %+v", totals.Outcomes)
	}
	if got := totals.Versions["v7"].Requests; got != totals.Requests {
		t.Errorf("%d answers of %d name the version", got, totals.Requests)
	}
	report, err := m.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report.Good != totals.Requests || report.Bad != 0 {
		t.Errorf("the model counts %+v, the load %d", report, totals.Requests)
	}
	stats, err := e.Stats(t.Context(), "cluster.model.upstream_rq_")
	if err != nil {
		t.Fatal(err)
	}
	if got := stats["cluster.model.upstream_rq_200"]; got != totals.Requests {
		t.Errorf("Envoy counts %d, the load %d", got, totals.Requests)
	}
	for name := range stats {
		if !strings.HasPrefix(name, "cluster.model.upstream_rq_") {
			t.Errorf("%s was not asked for", name)
		}
	}
}

func TestAnEnvoyTellsItsRuntimeAndItsConfiguration(t *testing.T) {
	e, _ := startEnvoy(t, startModel(t, "v1"))
	values, err := e.Runtime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if values["ramp.shop"] != "17" {
		t.Errorf("runtime is %v", values)
	}
	dump, err := e.ConfigDump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(dump), "lb_endpoints") {
		t.Errorf("no endpoints in %s", dump)
	}
	if _, err := e.Admin(t.Context(), "/nothing"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a path that is not there gives %v", err)
	}
}

func TestAnEnvoyThatRefusesItsBootstrapIsQuoted(t *testing.T) {
	_, err := StartEnvoy(t.Context(), EnvoyConfig{ID: "edge-1", Dir: t.TempDir(), Bootstrap: []byte("staticc_resources: {}")})
	if err == nil || !strings.Contains(err.Error(), "staticc_resources") {
		t.Errorf("got %v", err)
	}
}

func TestAPausedEnvoyIsSilentAndComesBack(t *testing.T) {
	e, _ := startEnvoy(t, startModel(t, "v1"))
	if err := e.Pause(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Admin(within(t, 200*time.Millisecond), "/ready"); err == nil {
		t.Error("a paused Envoy answers")
	}
	if err := e.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := e.Ready(within(t, 20*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestTheEnvoyThatIsNamedIsTaken(t *testing.T) {
	found, err := FindEnvoy()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENVOY", found)
	if again, err := FindEnvoy(); err != nil || again != found {
		t.Errorf("got %s, %v", again, err)
	}
	t.Setenv("ENVOY", "/nowhere/envoy")
	if _, err := FindEnvoy(); err == nil || !strings.Contains(err.Error(), "$ENVOY") {
		t.Errorf("an $ENVOY that is not there gives %v", err)
	}
}

func TestAnOldEnvoyOnThePathIsPassedOver(t *testing.T) {
	folder := t.TempDir()
	old := filepath.Join(folder, "envoy")
	if err := os.WriteFile(old, []byte("#!/bin/sh\necho 'envoy  version: 7b8baff1758f0a584dcc3cb657b5032000bcb3d7/1.37.2/Clean/RELEASE/BoringSSL'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENVOY", "")
	t.Setenv("PATH", folder)
	t.Chdir(folder)
	if found, err := FindEnvoy(); err == nil || !strings.Contains(err.Error(), "make envoy") {
		t.Errorf("got %s, %v", found, err)
	}
	fetched := filepath.Join(folder, ".build", "envoy", "1.40.0", "envoy")
	if err := os.MkdirAll(filepath.Dir(fetched), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fetched, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("below", 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir("below")
	if found, err := FindEnvoy(); err != nil || found != fetched {
		t.Errorf("got %s, %v", found, err)
	}
}

func TestVersionsAreReadAsNumbers(t *testing.T) {
	for said, want := range map[string]bool{
		"envoy  version: 7b8b/1.38.0/Clean/RELEASE/BoringSSL":  true,
		"envoy  version: 7b8b/1.100.1/Clean/RELEASE/BoringSSL": true,
		"envoy  version: 7b8b/2.0.0/Clean/RELEASE/BoringSSL":   true,
		"envoy  version: 7b8b/1.9.0/Clean/RELEASE/BoringSSL":   false,
		"command not found": false,
	} {
		if recentVersion(said) != want {
			t.Errorf("%q: want %t", said, want)
		}
	}
}
