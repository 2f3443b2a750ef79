package xds

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// The version that a client of the state of the world brings along is all that it says of what it has: an answer may not be older.
func TestAReplicaThatIsBehindSendsNothingOlderThanAClientHolds(t *testing.T) {
	for name, c := range map[string]struct {
		brings string
		waits  bool
	}{
		"newer":                        {"c1.12/0123456789abcdef", true},
		"as new":                       {"c1.11/0123456789abcdef", false},
		"nothing":                      {"", false},
		"another control plane's":      {"2026-11-28T07:00:00Z/17", false},
		"another etcd's, till adopted": {"lost.3/0123456789abcdef", true},
	} {
		t.Run(name, func(t *testing.T) {
			opened(t, func(r *rig) {
				r.set(11, route("1"))
				back := r.worldClient("app")
				back.resume(&discoveryv3.DiscoveryResponse{TypeUrl: RouteType, VersionInfo: c.brings}, "edge")
				synctest.Wait()
				if got := len(back.came) == 0; got != c.waits {
					t.Errorf("it is not answered: %t, want %t; %q", got, c.waits, r.s.Proxies()[0].Frozen)
				}
				r.set(12, route("2"))
				r.s.Adopt("lost")
				synctest.Wait()
				if len(back.came) != 1 {
					t.Errorf("it is never answered: %q", r.s.Proxies()[0].Frozen)
				}
			})
		})
	}
}

// The routes that it has name clusters that are gone: it has to have read the new ones before it loses those.
func TestAClientThatComesBackReadsItsRoutesBeforeItLosesClusters(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("blue", "1"), route("blue only"))
		back := r.worldClient("app")
		brought := func(url string) *discoveryv3.DiscoveryResponse {
			return &discoveryv3.DiscoveryResponse{TypeUrl: url, VersionInfo: "c1.9/0123456789abcdef"}
		}
		back.resume(brought(ClusterType), "blue", "green")
		back.resume(brought(RouteType), "edge")
		back.take("RouteConfiguration blue only", "edge")
		back.quiet()
		time.Sleep(resumeWait)
		back.take("Cluster 1", "blue", "green")
	})
}

// There is nothing to lose: then nothing waits.
func TestAClientThatComesBackToAllItsClustersIsAnsweredAtOnce(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("blue", "1"))
		back := r.worldClient("app")
		back.resume(&discoveryv3.DiscoveryResponse{TypeUrl: ClusterType, VersionInfo: "c1.9/0123456789abcdef"}, "blue")
		back.take("Cluster 1", "blue")
		fresh := r.worldClient("new")
		fresh.ask(ClusterType, "blue", "green")
		fresh.take("Cluster 1", "blue", "green")
	})
}

// A gRPC library has a stream for each service that it uses.
func TestTwoStreamsOfOneGRPCClientAreNoMistake(t *testing.T) {
	for agent, mistake := range map[string]bool{"gRPC Go": false, "grpc-java": false, "envoy": true} {
		var log strings.Builder
		inBubble(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(r *rig) {
			r.s.Open()
			for range 2 {
				c := r.worldClient("app")
				c.node.UserAgentName = agent
				c.ask(RouteType, "edge")
				synctest.Wait()
			}
		})
		if got := strings.Contains(log.String(), "same node id"); got != mistake {
			t.Errorf("%s: it is called a mistake: %t\n%s", agent, got, log.String())
		}
	}
}
