package envoy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/xds"
)

// rig is a renderer, an xDS server and a collector, with real Envoys of the gateway edge.
type rig struct {
	t         *testing.T
	ctx       context.Context
	xds       *xds.Server
	collector *envoy.Collector
	server    string
	port      int // of the gateway's listener
	client    http.Client

	mu       sync.Mutex
	renderer *envoy.Renderer // guarded by mu
	revision int64           // guarded by mu
	touched  map[string]int  // guarded by mu: how often reports came from a node
}

func newRig(t *testing.T) *rig {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	t.Cleanup(cancel)
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ctx: ctx, port: port, renderer: envoy.NewRenderer(), touched: map[string]int{}, client: http.Client{Timeout: 5 * time.Second}}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r.xds = xds.New(xds.Config{Cluster: "c", Group: envoy.GroupOf, Now: time.Now, Log: log})
	r.collector = envoy.NewCollector(envoy.CollectorConfig{Now: time.Now, Touch: r.touch, Log: log})
	server := grpc.NewServer(r.xds.GRPCOptions(envoy.Codec())...)
	r.xds.Register(server)
	r.collector.Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.server = listener.Addr().String()
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	running.Go(func() { _ = r.xds.Run(ctx) })
	running.Go(func() {
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			r.xds.Prove(time.Now())
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		server.Stop()
		running.Wait()
	})
	r.renderer.SetGateway("edge", &policy.Gateway{Name: "edge", Listeners: []policy.Listener{{Address: "127.0.0.1", Port: port}}}, 1)
	r.xds.Open()
	return r
}

func (r *rig) touch(node string, at time.Time) {
	r.xds.Touch(node, at)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touched[node]++
}

// envoy starts a real Envoy; change edits its bootstrap.
func (r *rig) envoy(id string, change func(string) string) *testenv.Envoy {
	r.t.Helper()
	text, err := envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: id, Servers: []string{r.server}, AdminPort: 1})
	if err != nil {
		r.t.Fatal(err)
	}
	one, err := testenv.StartEnvoy(r.ctx, testenv.EnvoyConfig{Bootstrap: []byte(change(string(text))), ID: id, Dir: r.t.TempDir()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = one.Kill() })
	if err := one.Ready(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	return one
}

func asWritten(text string) string { return text }

// plain takes the ramp layers out of a bootstrap.
func plain(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "rtds_layer") && !strings.Contains(line, "rampart.layers") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// serve publishes a service.
func (r *rig) serve(s *policy.Served, st envoy.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision++
	r.renderer.SetService(s.Service.Name, s, st, r.revision)
	r.xds.Publish(r.revision, r.renderer.Flush(r.revision))
	if s.Release == nil {
		r.collector.Want(nil)
		return
	}
	r.collector.Want([]envoy.Wanted{envoy.WantedOf(s, r.renderer.Settled(s.Service.Name))})
}

// confirmed waits until so many proxies have accepted all that is served of a service.
func (r *rig) confirmed(service string, proxies int) {
	r.t.Helper()
	r.mu.Lock()
	want := r.renderer.Confirmed(service)
	r.mu.Unlock()
	err := testenv.Eventually(r.ctx, func() (bool, error) {
		met := 0
		var why []string
		for group, requirements := range want {
			standing := r.xds.Standing(group, requirements)
			met += standing.Met
			if standing.Rejected > 0 {
				r.t.Fatalf("%s rejects: %v", group, standing.Waiting)
			}
			why = append(why, fmt.Sprintf("%s: %d of %d", group, standing.Met, standing.Connected))
		}
		if met < proxies {
			return false, fmt.Errorf("%v", why)
		}
		return true, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// ask sends one request through the gateway.
func (r *rig) ask(path string) (status int, body string) {
	r.t.Helper()
	status, body, err := r.request(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return status, body
}

// request is ask for any goroutine.
func (r *rig) request(path string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", r.port, path), nil)
	if err != nil {
		return 0, "", err
	}
	request.Host = "Shop.Example.com:8443"
	answer, err := r.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// share asks n times and returns who answered.
func (r *rig) share(n int) map[string]int {
	r.t.Helper()
	answers := map[string]int{}
	for range n {
		status, body := r.ask("/")
		answers[fmt.Sprintf("%d %s", status, body)]++
	}
	return answers
}

// model is an upstream whose answers can be made to fail, or are given by a function of the test's.
type model struct {
	*httptest.Server
	failing atomic.Bool
	hits    atomic.Int64
	answer  atomic.Pointer[http.HandlerFunc]
}

func newModel(t *testing.T, name string) *model {
	m := &model{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.hits.Add(1)
		if answer := m.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		if m.failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *model) address() string { return m.Listener.Addr().String() }

func shopOf(blue, green *model) *policy.Served {
	document := policy.Service{
		Name: "shop", Gateways: []string{"edge"}, Hosts: []string{"shop.example.com"}, Serve: "blue",
		Routes: []policy.Route{{Match: policy.Match{Prefix: "/safe"}, Idempotent: true}, {}},
		Backends: map[string]policy.Backend{
			"blue":  {Revision: "v1", Endpoints: []string{blue.address()}},
			"green": {Revision: "v2", Endpoints: []string{green.address()}},
		},
	}.WithDefaults()
	return &policy.Served{Service: document, Live: policy.Arm{Ref: policy.Ref{Backend: "blue", Revision: "v1"}, Definition: document.Backends["blue"]}}
}

func releasing(s *policy.Served, phase policy.Phase, w policy.Weight) *policy.Served {
	next := *s
	next.Release = &policy.Release{
		ID: "green-2", Phase: phase, Weight: w,
		Candidate: policy.Arm{Ref: policy.Ref{Backend: "green", Revision: "v2"}, Definition: s.Service.Backends["green"]},
	}
	return &next
}

func TestARealEnvoyFollowsAReleaseFromRestToCommit(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	rest, permit := shopOf(blue, green), envoy.State{Permit: true}
	r.serve(rest, envoy.State{})
	one := r.envoy("edge-1", asWritten)
	r.confirmed("shop", 1)
	if got := r.share(20); got["200 blue"] != 20 {
		t.Fatalf("at rest: %v", got)
	}

	r.serve(releasing(rest, policy.Gated, 0), permit)
	r.confirmed("shop", 1)
	if got := r.share(20); got["200 blue"] != 20 {
		t.Fatalf("gated: %v", got)
	}
	r.serve(releasing(rest, policy.Shifting, 5000), permit)
	r.confirmed("shop", 1)
	if got := r.share(200); got["200 blue"]+got["200 green"] != 200 || got["200 green"] < 60 || got["200 green"] > 140 {
		t.Errorf("at 50 %%: %v", got)
	}

	// On an idempotent route users do not see that green fails, and the judge does.
	green.failing.Store(true)
	r.take()
	for range 60 {
		if status, body := r.ask("/safe"); status != http.StatusOK {
			t.Errorf("a request failed: %d %s", status, body)
		}
	}
	r.sees("green's errors", func(sum policy.Reading) bool { return sum.Candidate.Errors >= 3 && sum.Live.OK >= 50 })

	stats, err := one.Admin(r.ctx, "/stats")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cluster.shop/blue|none.upstream_rq_time", "cluster.shop/blue|none.upstream_rq_completed", "cluster.shop/green|blue.canary.upstream_rq_time"} {
		if !strings.Contains(string(stats), name) {
			t.Errorf("the arms do not keep %s:\n%s", name, stats)
		}
	}
	if strings.Contains(strings.ReplaceAll(string(stats), "cluster.shop/blue.upstream_rq_pending_failure_eject", ""), "cluster.shop/blue.") {
		t.Error("a pool keeps more statistics than of refused connections")
	}

	green.failing.Store(false)
	committing := releasing(rest, policy.Committing, 9999)
	r.serve(committing, permit)
	r.confirmed("shop", 1)
	after := *committing
	after.Live, after.Release = committing.Release.Candidate, nil
	r.serve(&after, envoy.State{})
	r.confirmed("shop", 1)
	before := green.hits.Load()
	if got := r.share(20); got["200 green"]+got["200 blue"] != 20 {
		t.Errorf("after the commit: %v", got)
	}
	// Green may still be ejected from when it failed; with no other pool it is tried all the same.
	if green.hits.Load()-before != 20 {
		t.Errorf("green got %d of 20", green.hits.Load()-before)
	}
	runtime, err := one.Runtime(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for key := range runtime {
		if strings.HasPrefix(key, "ramp.") {
			t.Errorf("%s is left", key)
		}
	}
}

func TestARealEnvoysReportsAddUpToWhatUsersAsked(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	r.serve(shopOf(blue, green), envoy.State{})
	r.envoy("edge-1", asWritten)
	r.serve(releasing(shopOf(blue, green), policy.Shifting, 3000), envoy.State{Permit: true})
	r.confirmed("shop", 1)
	heard := func() (bool, error) { return len(r.collector.Reporting("shop", time.Now())) == 1, nil }
	if err := testenv.Eventually(r.ctx, heard); err != nil {
		t.Fatal(err)
	}
	r.take()
	r.share(100)
	r.sees("all requests", func(sum policy.Reading) bool {
		return sum.Live.OK == uint64(blue.hits.Load()) && sum.Candidate.OK == uint64(green.hits.Load()) && sum.Live.OK+sum.Candidate.OK == 100
	})
	// When the release is over it is asked for nothing.
	r.serve(shopOf(blue, green), envoy.State{})
	if got := r.collector.Reporting("shop", time.Now()); len(got) > 0 {
		t.Errorf("still reporting: %v", got)
	}
}

func TestALivePoolThatIsWhollyEjectedIsStillTried(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	r.serve(shopOf(blue, green), envoy.State{})
	one := r.envoy("edge-1", asWritten)
	r.confirmed("shop", 1)
	blue.failing.Store(true)
	for i := range 20 {
		if _, body := r.ask("/"); body != "blue" {
			t.Fatalf("request %d was not tried: %q", i, body)
		}
	}
	clusters, err := one.Admin(r.ctx, "/clusters")
	if err != nil || !strings.Contains(string(clusters), "failed_outlier_check") {
		t.Fatalf("blue was not ejected (%v):\n%s", err, clusters)
	}
	blue.failing.Store(false)
	if got := r.share(20); got["200 blue"] != 20 {
		t.Errorf("after its recovery: %v", got)
	}
}
