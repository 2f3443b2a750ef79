package replica_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/emptypb"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// client is an application that calls a service without any proxy.
type client struct {
	r    *rig
	conn *grpc.ClientConn
}

// client dials xds:///service as `rampart bootstrap --grpc` would have it.
func (r *rig) client(service, id string) *client {
	r.t.Helper()
	return r.clientOf(service, envoy.ClientBootstrapConfig{Gateway: "edge", ID: id, Server: r.servers[0]})
}

func (r *rig) clientOf(service string, c envoy.ClientBootstrapConfig) *client {
	r.t.Helper()
	text := must[[]byte](r.t)(envoy.ClientBootstrap(c))
	builder, err := xds.NewXDSResolverWithConfigForTesting(text)
	if err != nil {
		r.t.Fatal(err)
	}
	conn := must[*grpc.ClientConn](r.t)(grpc.NewClient("xds:///"+service, grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials())))
	r.t.Cleanup(func() { _ = conn.Close() })
	return &client{r: r, conn: conn}
}

// call returns the version that answered.
func (c *client) call() (string, error) {
	ctx, cancel := context.WithTimeout(c.r.ctx, 3*time.Second)
	defer cancel()
	var header metadata.MD
	if err := c.conn.Invoke(ctx, "/testenv.Model/Infer", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Header(&header)); err != nil {
		return "", err
	}
	return strings.Join(header.Get(testenv.VersionHeader), ","), nil
}

// calls makes so many calls and returns how many each version answered. None may fail.
func (c *client) calls(n int) map[string]int {
	c.r.t.Helper()
	answers := map[string]int{}
	for range n {
		version, err := c.call()
		if err != nil {
			c.r.t.Fatalf("a call failed: %v", err)
		}
		answers[version]++
	}
	return answers
}

// untilCalled waits until calls are answered by one version only.
func (c *client) untilCalled(version string) {
	c.r.t.Helper()
	c.r.until("calls answered by "+version, func() (bool, error) {
		for range 50 {
			if got, err := c.call(); got != version {
				return false, fmt.Errorf("answered by %q, %v", got, err)
			}
		}
		return true, nil
	})
}

// shares fails the test if green's part of n calls is not its weight. Six standard deviations are less than one in 10⁸ tests.
func (c *client) shares(n int, weight policy.Weight) {
	c.r.t.Helper()
	share := weight.Share()
	want, width := share*float64(n), 6*math.Sqrt(share*(1-share)*float64(n))
	if got := c.calls(n); math.Abs(float64(got["v2"])-want) > width || got["v1"]+got["v2"] != n {
		c.r.t.Errorf("at %s: %v of %d calls, want %.0f ± %.0f by v2", weight, got, n, want, width)
	}
}

// load calls all the time, until the test ends or stop is called, which returns the errors.
func (c *client) load(every time.Duration) (stop func() []error) {
	ctx, cancel := context.WithCancel(c.r.ctx)
	var failed []error
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := c.call(); err != nil && ctx.Err() == nil {
				failed = append(failed, err)
			}
		}
	})
	stop = func() []error {
		cancel()
		done.Wait()
		return failed
	}
	c.r.t.Cleanup(func() { stop() })
	return stop
}

// callable is the document of shop for backends that speak gRPC, of which no times come.
func (r *rig) callable(serve string) string {
	document := strings.ReplaceAll(slow(r.document(serve)), "{revision:", "{protocol: grpc, revision:")
	return document + "analysis: {latency: off}\n"
}

// step orders the next step and waits until every proxy has confirmed it.
func (r *rig) step(to policy.Weight) {
	r.t.Helper()
	r.put("orders/shop", "advance")
	r.at(to)
}

// Issue 5: proxyless gRPC clients follow a whole release, beside an Envoy of the same gateway.
func TestAGRPCClientFollowsAReleaseBesideAnEnvoy(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.callable("blue"))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	c := r.client("shop", "app-1")
	c.untilCalled("v1")
	r.untilProxy("app-1", func(p string, view string) bool { return p == "gRPC Go "+grpc.Version && view == "no" })
	envoys, stop := r.load(100), c.load(5*time.Millisecond)

	r.put("services/shop", r.callable("green"))
	r.untilServed("the release", begun)
	r.step(1000)
	c.shares(2000, 1000)
	r.step(5000)
	c.shares(1000, 5000)

	r.del("permits/shop/", clientv3.WithPrefix())
	r.rolledBack()
	if got := c.calls(500); got["v1"] != 500 {
		t.Errorf("after the rollback: %v", got)
	}

	r.put("orders/shop", "retry")
	r.untilServed("the release again", begun)
	r.put("orders/shop", "promote")
	r.untilServed("the commit", committed)
	if got := c.calls(500); got["v2"] != 500 {
		t.Errorf("after the commit: %v", got)
	}
	if failed := stop(); len(failed) > 0 {
		t.Errorf("%d calls failed, the first with %v", len(failed), failed[0])
	}
	if totals := envoys.Totals(); totals.Failed > 0 || totals.Requests == 0 {
		t.Errorf("%d of %d requests through the Envoy failed", totals.Failed, totals.Requests)
	}
}

// untilProxy waits until the replica's list has a proxy whose version and dead-man's time are as wanted.
func (r *rig) untilProxy(id string, wanted func(version, deadman string) bool) {
	r.t.Helper()
	r.until(id+" listed", func() (bool, error) {
		for _, p := range r.proxies(0) {
			if p.Proxy == id && wanted(p.Version, p.Deadman) {
				return true, nil
			}
		}
		return false, fmt.Errorf("listed: %+v", r.proxies(0))
	})
}

func TestAGRPCClientFollowsEndpointsAndTheEndOfAService(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.callable("blue"))
	c := r.client("shop", "app-1")
	c.untilCalled("v1")
	moved := r.model("v1 elsewhere")
	r.put("services/shop", strings.Replace(r.callable("blue"), r.blue.Address(), moved.Address(), 1))
	c.untilCalled("v1 elsewhere")
	r.del("services/shop")
	r.until("calls that fail", func() (bool, error) {
		got, err := c.call()
		return status.Code(err) == codes.Unavailable, fmt.Errorf("answered by %q, %w", got, errors.Join(err))
	})
	r.put("services/shop", r.callable("blue"))
	c.untilCalled("v1")
}

// Only gRPC clients serve here: what they report must be enough to take a bad release back.
func TestABadReleaseIsTakenBackByWhatGRPCClientsReport(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.callable("blue"))
	c, idle := r.client("shop", "app-1"), r.client("shop", "app-2")
	c.untilCalled("v1")
	idle.untilCalled("v1") // and is silent from now on
	c.load(2 * time.Millisecond)
	r.put("services/shop", r.callable("green"))
	r.untilServed("the release", begun)
	r.step(1000)
	r.until("reports of both", func() (bool, error) {
		n := r.report("a").Releases["shop"].Reporting
		return n == 2, fmt.Errorf("%d report", n)
	})
	if err := r.green.Fail(r.ctx, 0.5); err != nil {
		t.Fatal(err)
	}
	served := r.rolledBack()
	if served.Live.Backend != "blue" || !strings.HasPrefix(served.Last.Reason, "errors: green") {
		t.Errorf("after the rollback: live %s, reason %q", served.Live.Ref, served.Last.Reason)
	}
	for _, one := range []*client{c, idle} {
		if got := one.calls(100); got["v1"] != 100 {
			t.Errorf("after the rollback: %v", got)
		}
	}
}

// The default plan goes all the way by itself, on what clients report.
func TestAGoodReleaseIsCommittedOnWhatGRPCClientsReport(t *testing.T) {
	r := newRig(t)
	document := func(serve string) string { return strings.Replace(r.callable(serve), "soak: 1h", "soak: 1s", 1) }
	r.put("services/shop", document("blue"))
	c := r.client("shop", "app-1")
	c.untilCalled("v1")
	stop := c.load(2 * time.Millisecond)
	r.put("services/shop", document("green"))
	r.untilServed("the commit", committed)
	c.untilCalled("v2")
	if failed := stop(); len(failed) > 0 {
		t.Errorf("%d calls failed, the first with %v", len(failed), failed[0])
	}
}

// A control plane that is gone leaves gRPC clients their last weights: they have no dead-man's switch. Back, it tells them the truth.
func TestAGRPCClientKeepsItsWeightsUntilItsReplicaIsBack(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.callable("blue"))
	c := r.client("shop", "app-1")
	c.untilCalled("v1")
	stop := c.load(5 * time.Millisecond)
	r.put("services/shop", r.callable("green"))
	r.untilServed("the release", begun)
	r.step(1000)
	r.step(5000)
	r.stops[0]()
	r.del("permits/shop/", clientv3.WithPrefix())
	c.shares(500, 5000)
	r.startReplicaAt("a", r.servers[0])
	c.untilCalled("v1")
	r.rolledBack()
	if failed := stop(); len(failed) > 0 {
		t.Errorf("%d calls failed, the first with %v", len(failed), failed[0])
	}
}

// A name that resolves to all replicas is to a gRPC client what priorities are to an Envoy.
func TestAGRPCClientGoesOnToTheNextReplica(t *testing.T) {
	r := newRig(t)
	r.startReplica("b")
	names := manual.NewBuilderWithScheme("replicas") // stands for DNS, which is not to be had in a test
	var all []resolver.Address
	for _, server := range r.servers {
		all = append(all, resolver.Address{Addr: server})
	}
	names.InitialState(resolver.State{Addresses: all})
	resolver.Register(names)
	r.put("services/shop", r.callable("blue"))
	c := r.clientOf("shop", envoy.ClientBootstrapConfig{Gateway: "edge", ID: "app-1", Server: "replicas:1"})
	c.untilCalled("v1")
	stop := c.load(5 * time.Millisecond)
	r.put("services/shop", r.callable("green"))
	r.untilServed("the release", begun)
	r.step(1000)
	r.step(5000)
	if n := len(r.proxies(0)); n != 1 {
		t.Fatalf("%d proxies at the first replica", n)
	}
	r.stops[0]()
	r.del("permits/shop/", clientv3.WithPrefix())
	c.untilCalled("v1")
	if failed := stop(); len(failed) > 0 {
		t.Errorf("%d calls failed, the first with %v", len(failed), failed[0])
	}
}

// Beside Envoys, whose times are judged, a client that can send none holds nothing; alone it leaves latency unknown, and nothing climbs on that.
func TestTimesComeFromEnvoysOrNobody(t *testing.T) {
	for name, beside := range map[string]bool{"beside an Envoy": true, "alone": false} {
		t.Run(name, func(t *testing.T) {
			r := newRigIn(t, world{timed: true})
			document := func(serve string) string {
				return strings.Replace(strings.Replace(r.callable(serve), "soak: 1h", "soak: 1s", 1), "latency: off", "latency: {ratio: 1.5}", 1)
			}
			r.put("services/shop", document("blue"))
			if beside {
				r.envoy("edge", "edge-1")
				r.untilAnswers("v1")
				r.load(200)
			}
			c := r.client("shop", "app-1")
			c.untilCalled("v1")
			c.load(20 * time.Millisecond)
			r.put("services/shop", document("green"))
			if beside {
				r.untilServed("the commit", committed)
				c.untilCalled("v2")
				return
			}
			r.untilServed("the release", begun)
			r.step(1000)
			r.untilServed("a climb that waits for times", func(s *policy.Served) bool {
				return s.Release != nil && s.Release.Weight == 1000 && strings.Contains(s.Release.Waits, "gRPC clients send none")
			})
		})
	}
}
