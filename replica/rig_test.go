package replica_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

func TestMain(m *testing.M) {
	testenv.RunRole()
	os.Exit(m.Run())
}

// patience bounds every wait of these tests; none depends on how long it takes.
const patience = 2 * time.Minute

// rig is a whole system: a real etcd, replicas in this process, real Envoys and real model servers.
type rig struct {
	t       *testing.T
	ctx     context.Context
	folder  string
	etcd    *testenv.Etcd
	raw     *clientv3.Client // writes what operators may write with any tool
	port    int              // where the gateway edge listens
	wait    time.Duration    // that bounds each wait
	median  time.Duration    // of what the models take
	p99     time.Duration
	blue    *testenv.Model
	green   *testenv.Model
	greens  []*testenv.Model // beside the first
	envoys  []*testenv.Envoy
	servers []string // xDS addresses of the replicas, in order
	http    []string
	stops   []func()
	parting time.Duration // over which replicas that are stopped drain
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// world is what a rig may differ in.
type world struct {
	deadman string        // of the gateway edge; "" is 6s
	quota   int           // of etcd, in bytes; 0 is more than any test needs
	greens  int           // model servers of green beside the first
	drain   time.Duration // of the replicas; 0 cuts proxies off
	timed   bool          // answers take some time, each another: 10 ms, and 1 % of them 30 ms
}

// newRig starts everything but the Envoys, with one replica.
func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigIn(t, world{})
}

// newRigIn is newRig in a world that is not as usual.
func newRigIn(t *testing.T, w world) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, folder: t.TempDir(), wait: patience, median: time.Millisecond, parting: w.drain}
	if w.timed {
		r.median, r.p99 = 10*time.Millisecond, 30*time.Millisecond
	}
	role := []string{testenv.RoleEtcd}
	if w.quota > 0 {
		role = append(role, "--quota", strconv.Itoa(w.quota))
	}
	program := must[testenv.Program](t)(testenv.Self(role...))
	r.etcd = must[*testenv.Etcd](t)(testenv.StartEtcd(ctx, testenv.EtcdConfig{Program: program, Dir: filepath.Join(r.folder, "etcd")}))
	r.raw = must[*clientv3.Client](t)(clientv3.New(clientv3.Config{Endpoints: []string{r.etcd.Endpoint()}, DialTimeout: 5 * time.Second}))
	t.Cleanup(func() { _ = r.raw.Close() })
	r.port = must[int](t)(testenv.FreePort())
	r.put("gateways/edge", fmt.Sprintf("gateway: edge\nlisteners: [{address: 127.0.0.1, port: %d}]\ndeadman: %s\n", r.port, cmp.Or(w.deadman, "6s")))
	r.blue, r.green = r.model("v1"), r.model("v2")
	for range w.greens {
		r.greens = append(r.greens, r.model("v2"))
	}
	r.startReplica("a")
	return r
}

func (r *rig) model(version string) *testenv.Model {
	r.t.Helper()
	program := must[testenv.Program](r.t)(testenv.Self(testenv.RoleModel))
	return must[*testenv.Model](r.t)(testenv.StartModel(r.ctx, testenv.ModelConfig{Program: program, Version: version, Median: r.median, P99: r.p99}))
}

// startReplica runs a replica in this process until the returned function stops it, which t does at the end, too.
func (r *rig) startReplica(id string) (stop func()) {
	r.t.Helper()
	return r.startReplicaAt(id, "127.0.0.1:0")
}

// startReplicaAt is startReplica where Envoys know it from before.
func (r *rig) startReplicaAt(id, address string) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("replica", id)
	}
	s := must[*store.Store](r.t)(store.Dial(ctx, store.Config{Endpoints: []string{r.etcd.Endpoint()}, Log: log, DialTimeout: 5 * time.Second}))
	folder := filepath.Join(r.folder, "replica-"+id)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		r.t.Fatal(err)
	}
	xdsListener := must[net.Listener](r.t)(net.Listen("tcp", address))
	httpListener := must[net.Listener](r.t)(net.Listen("tcp", "127.0.0.1:0"))
	one := must[*replica.Replica](r.t)(replica.New(replica.Config{
		ID: id, Folder: folder, Store: s, Xds: xdsListener, HTTP: httpListener, LeaderTTL: 3 * time.Second, Drain: r.parting, Now: time.Now, Log: log,
	}))
	done := make(chan error, 1)
	go func() { done <- one.Run(ctx) }()
	r.servers = append(r.servers, xdsListener.Addr().String())
	r.http = append(r.http, httpListener.Addr().String())
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("replica %s: %v", id, err)
		}
		_ = s.Close()
	}
	r.t.Cleanup(stop)
	r.stops = append(r.stops, stop)
	return stop
}

// envoy starts a real Envoy of a gateway.
func (r *rig) envoy(gateway, id string) *testenv.Envoy {
	r.t.Helper()
	bootstrap := must[[]byte](r.t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: gateway, ID: id, Servers: r.servers, AdminPort: 1}))
	return r.envoyOf(testenv.EnvoyConfig{Bootstrap: bootstrap, ID: id})
}

// envoyOf starts a real Envoy that is not as `rampart bootstrap` would have it.
func (r *rig) envoyOf(c testenv.EnvoyConfig) *testenv.Envoy {
	r.t.Helper()
	c.Dir = r.folder
	one := must[*testenv.Envoy](r.t)(testenv.StartEnvoy(r.ctx, c))
	r.envoys = append(r.envoys, one)
	return one
}

func (r *rig) put(key, value string) {
	r.t.Helper()
	if _, err := r.raw.Put(r.ctx, store.Prefix+key, value); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) del(key string, options ...clientv3.OpOption) {
	r.t.Helper()
	if _, err := r.raw.Delete(r.ctx, store.Prefix+key, options...); err != nil {
		r.t.Fatal(err)
	}
}

// document is the service shop, as people would write it.
func (r *rig) document(serve string) string {
	green := r.green.Address()
	for _, more := range r.greens {
		green += `", "` + more.Address()
	}
	return fmt.Sprintf(`service: shop
gateways: [edge]
hosts: [shop.example.com]
backends:
  blue:  {revision: "v1", endpoints: ["%s"]}
  green: {revision: "v2", endpoints: ["%s"]}
serve: %s
plan: {steps: [10%%, 50%%, 100%%], warmup: 0s, soak: 1s, bake: 1s}
`, r.blue.Address(), green, serve)
}

// served reads the served copy; nil when there is none.
func (r *rig) served(service string) *policy.Served {
	var served *policy.Served
	r.read("served/services/"+service, &served)
	return served
}

// until waits for a condition and fails the test, with what is served, when it does not come.
func (r *rig) until(what string, condition func() (bool, error)) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, r.wait)
	defer cancel()
	err := testenv.Eventually(ctx, func() (bool, error) {
		holds, why := condition()
		if holds {
			return true, nil
		}
		return false, why
	})
	if err != nil {
		served, _ := json.Marshal(r.served("shop"))
		r.t.Fatalf("%s: %v; served: %s", what, err, served)
	}
}

// untilServed waits until the served copy of shop is as wanted.
func (r *rig) untilServed(what string, wanted func(*policy.Served) bool) {
	r.t.Helper()
	r.until(what, func() (bool, error) {
		served := r.served("shop")
		return served != nil && wanted(served), nil
	})
}

// ask sends one request through the gateway and returns the version that answered, or the status.
func (r *rig) ask(host string) string { return r.askAt(r.port, host) }

// askAt is ask through another port than the gateway edge's.
func (r *rig) askAt(port int, host string) string {
	request := must[*http.Request](r.t)(http.NewRequestWithContext(r.ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil))
	request.Host = host
	client := http.Client{Timeout: 3 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return "error"
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return answer.Status
	}
	return answer.Header.Get(testenv.VersionHeader)
}

func (r *rig) untilAnswers(version string) {
	r.t.Helper()
	r.until("answers from "+version, func() (bool, error) {
		got := r.ask("shop.example.com")
		return got == version, fmt.Errorf("answered by %s", got)
	})
}

var volatile = regexp.MustCompile(`(?m)^\s*"(last_updated|health_status)":.*$`)

// config is what an Envoy says it is configured with, without times.
func (r *rig) config(e *testenv.Envoy) string {
	r.t.Helper()
	dump := must[[]byte](r.t)(e.ConfigDump(r.ctx))
	lines := strings.Split(volatile.ReplaceAllString(string(dump), ""), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], ",")
	}
	slices.Sort(lines) // clusters and labels come in any order
	return strings.Join(lines, "\n")
}

// proxies is what a replica says of its proxies; of those that are named, in full.
func (r *rig) proxies(i int, names ...string) []replica.ProxyView {
	answer, err := http.Get("http://" + r.http[i] + "/proxies?" + url.Values{"name": names}.Encode())
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	var views []replica.ProxyView
	if json.NewDecoder(answer.Body).Decode(&views) != nil {
		return nil
	}
	return views
}

// report is what a replica tells the others; its zero value when it has told nothing.
func (r *rig) report(id string) store.Report {
	var report store.Report
	r.read("replicas/"+id, &report)
	return report
}

// untilAlarm waits until a replica calls a person.
func (r *rig) untilAlarm(id, words string) {
	r.t.Helper()
	r.until("an alarm", func() (bool, error) {
		alarms := strings.Join(r.report(id).Alarms, "\n")
		return strings.Contains(alarms, words), fmt.Errorf("alarms: %q", alarms)
	})
}

// beat is the newest sign of life of the leader.
func (r *rig) beat() store.BeatRecord {
	var beat store.BeatRecord
	r.read("beat", &beat)
	return beat
}

// value is what a key holds, as it stands there; "" when it is not there.
func (r *rig) value(key string) string {
	var raw json.RawMessage
	r.read(key, &raw)
	return string(raw)
}

// read fills value with what a key holds; it is left alone when that cannot be had, as without etcd.
func (r *rig) read(key string, value any) {
	ctx, cancel := context.WithTimeout(r.ctx, 3*time.Second)
	defer cancel()
	answer, err := r.raw.Get(ctx, store.Prefix+key)
	if err == nil && len(answer.Kvs) > 0 {
		_ = json.Unmarshal(answer.Kvs[0].Value, value) // what cannot be read is not there
	}
}

// load keeps requests coming through the gateway until the test ends and returns its totals at any time.
func (r *rig) load(rate float64) *testenv.Load {
	r.t.Helper()
	return r.loadOf(testenv.LoadConfig{Rate: rate})
}

// loadOf is load that is not as usual.
func (r *rig) loadOf(c testenv.LoadConfig) *testenv.Load {
	r.t.Helper()
	c.Targets, c.Host = []string{fmt.Sprintf("127.0.0.1:%d", r.port)}, "shop.example.com"
	load := must[*testenv.Load](r.t)(testenv.NewLoad(c))
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
	return load
}

func problems(s *policy.Served) string {
	if s == nil || s.Refused == nil {
		return ""
	}
	return strings.Join(s.Refused.Problems, "\n")
}
