package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rampart-proxy/rampart/xds"
)

// greedy asks a server for these clusters and returns what becomes of the stream.
func greedy(t *testing.T, address string, names ...string) error {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, Node: &corev3.Node{Id: "greedy", Cluster: "default"}, ResourceNamesSubscribe: names}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	return err
}

// A limit is set by its flag, told to the client that exceeds it by that name, counted, and told to whoever asks why.
func TestALimitIsSetByItsFlagToldAndCounted(t *testing.T) {
	folder := shortFolder(t)
	s := serveOn(t, folder, "--max-names", "2")
	if err := greedy(t, s.xds, "a", "b"); err != nil {
		t.Fatalf("as many as may be: %v", err)
	}
	counted := func() string {
		code, page := s.ask("GET", "/metrics")
		if code != http.StatusOK {
			t.Fatal(code)
		}
		for line := range strings.Lines(page) {
			if count, found := strings.CutPrefix(line, `rampart_xds_limited_total{limit="names"} `); found {
				return strings.TrimSpace(count)
			}
		}
		return "not at all"
	}
	if got := counted(); got != "0" {
		t.Errorf("before anything was exceeded it is counted %s", got)
	}
	err := greedy(t, s.xds, "a", "b", "c")
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "a stream may name 2 (--max-names)") {
		t.Errorf("one more: %v", err)
	}
	eventually(t, "it is counted", func() bool { return counted() == "1" })
	document := filepath.Join(folder, "shop.yaml")
	if err := os.WriteFile(document, []byte(strings.ReplaceAll(shopYAML, "edge", "default")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := rampart("--data", folder, "apply", document); got.status != 0 {
		t.Fatal(got)
	}
	eventually(t, "why tells of it", func() bool {
		return strings.Contains(rampart("--data", folder, "why", "shop").out, "Alarm: streams of greedy were ended within the last minute: --max-names")
	})
}
