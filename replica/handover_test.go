package replica

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// judged makes the two halves know of a release of shop at 25 %, with a document that can be judged by.
func judged(t *testing.T, serving *Serving) {
	t.Helper()
	var served policy.Served
	if err := json.Unmarshal(servedShop(t, &policy.Release{
		ID: "green-7", Phase: policy.Soaking, Weight: 2500,
		Candidate: policy.Arm{Ref: policy.Ref{Backend: "green", Revision: "v2"}, Definition: policy.Backend{Revision: "v2", Endpoints: []string{"127.0.0.1:8002"}}},
	}), &served); err != nil {
		t.Fatal(err)
	}
	served.Service = policy.Service{Name: "shop", Gateways: []string{"edge"}, Serve: "green", Backends: map[string]policy.Backend{
		"blue": served.Live.Definition, "green": served.Release.Candidate.Definition,
	}}.WithDefaults()
	value, err := json.Marshal(served)
	if err != nil {
		t.Fatal(err)
	}
	serving.follow(store.Batch{Revision: 7, Relisted: true, Changes: []store.Change{
		{Kind: store.ServedService, Name: "shop", Value: value, Mod: 7}, {Kind: store.Permit, Name: "shop", Release: "green-7", Mod: 7},
	}})
}

// reporter connects a proxy of edge and returns what sends its reports, once they are asked for. Each is read when it returns.
func reporter(t *testing.T, serving *Serving) (report func(live, candidate policy.Counts)) {
	t.Helper()
	server := grpc.NewServer(grpc.ForceServerCodecV2(envoy.Codec()))
	serving.collector.Register(server)
	listener := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:replica", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := loadstatsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	node := &corev3.Node{Id: "edge-1", Cluster: "edge"}
	if err := stream.Send(&loadstatsv3.LoadStatsRequest{Node: node}); err != nil {
		t.Fatal(err)
	}
	if order, err := stream.Recv(); err != nil || len(order.GetClusters()) != 2 {
		t.Fatalf("asked for %v, %v", order.GetClusters(), err)
	}
	interval := 250 * time.Millisecond
	return func(live, candidate policy.Counts) {
		t.Helper()
		interval++ // or it would be the one before, come again
		stats := []*endpointv3.ClusterStats{statsOf("shop/blue", live, interval), statsOf("shop/green", candidate, interval)}
		before := serving.collector.Reporting("shop", time.Now())["edge-1"]
		if err := stream.Send(&loadstatsv3.LoadStatsRequest{Node: node, ClusterStats: stats}); err != nil {
			t.Fatal(err)
		}
		err := testenv.Eventually(t.Context(), func() (bool, error) {
			return serving.collector.Reporting("shop", time.Now())["edge-1"].After(before), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func statsOf(cluster string, c policy.Counts, interval time.Duration) *endpointv3.ClusterStats {
	return &endpointv3.ClusterStats{
		ClusterName: cluster, LoadReportInterval: durationpb.New(interval), UpstreamLocalityStats: []*endpointv3.UpstreamLocalityStats{{
			TotalSuccessfulRequests: c.OK, TotalErrorRequests: c.Errors, TotalIssuedRequests: c.OK + c.Errors,
		}},
	}
}

// leads has the deciding half win an election.
func leads(t *testing.T, serving *Serving, d *Deciding) {
	t.Helper()
	proof, err := serving.store.Campaign(t.Context(), store.Candidate{ID: "a", TTL: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d.begin(t.Context(), proof)
}

// turn judges as if a turn had passed.
func turn(t *testing.T, d *Deciding) {
	t.Helper()
	if !d.judged.IsZero() {
		d.judged = d.judged.Add(-250 * time.Millisecond)
	}
	d.turn(t.Context(), true)
}

func TestTheEndOfALeaderLosesNoReport(t *testing.T) {
	serving, d := halves(t)
	judged(t, serving)
	leads(t, serving, d)
	report := reporter(t, serving)
	turn(t, d)
	report(policy.Counts{OK: 30}, policy.Counts{OK: 10})
	turn(t, d)
	report(policy.Counts{OK: 31}, policy.Counts{OK: 11})
	d.handOver()
	data, err := serving.store.Evidence(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	found, err := policy.LoadEvidence(data, "green-7", policy.Service{}.WithDefaults().Analysis)
	if err != nil {
		t.Fatal(err)
	}
	if good := found.Errors.Evidence().Candidate.Good; good != 21 {
		t.Errorf("the next leader knows of %d good requests, want 21", good)
	}
}

func TestWhatTheLastReportsConvictIsTakenBackInEtcdToo(t *testing.T) {
	for name, lead := range map[string]bool{"leader": true, "follower": false} {
		t.Run(name, func(t *testing.T) {
			serving, d := halves(t)
			judged(t, serving)
			if lead {
				leads(t, serving, d)
			}
			report := reporter(t, serving)
			turn(t, d)
			report(policy.Counts{OK: 900}, policy.Counts{Errors: 300})
			turn(t, d)
			if serving.latch.Holds("shop", "green-7") {
				t.Fatal("one turn is no ground")
			}
			report(policy.Counts{OK: 900}, policy.Counts{Errors: 300})
			d.judged = d.judged.Add(-250 * time.Millisecond)
			d.handOver()
			if !serving.latch.Holds("shop", "green-7") {
				t.Fatal("it is not taken back")
			}
			records, err := serving.store.Rollbacks(t.Context(), "shop")
			if err != nil || len(records) != 1 || records[0].Release != "green-7" {
				t.Errorf("recorded: %+v, %v", records, err)
			}
		})
	}
}
