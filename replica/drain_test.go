package replica_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/testenv/fleet"
)

// A rolling restart of all replicas during a ramp: proxies are sent to the other replica before theirs ends, so that none of them loses its weights, and the release
// goes on.
func TestARollingRestartDuringARampLosesNoStep(t *testing.T) {
	r := newRigIn(t, world{deadman: "6s", drain: time.Second})
	r.startReplica("b")
	r.put("services/shop", slow(r.document("blue"))+"analysis: {latency: off}\n")
	r.fleetOf(4)
	r.untilAnswers("v1")
	load := r.load(100)
	release := r.begin().Release.ID
	lost := r.watchWeights()
	for i, id := range []string{"a", "b"} {
		r.stops[i]()
		r.until("the fleet with the other replica", func() (bool, error) {
			n := len(r.proxies(1 - i))
			return n == 4, fmt.Errorf("%d of 4 are there", n)
		})
		r.stops[i], r.http[i] = r.restartReplica(id, r.servers[i])
	}
	if told := lost(); told != "" {
		t.Errorf("a dead-man switch ended a ramp: %s", told)
	}
	r.put("orders/shop", "advance")
	if served := r.at(5000); served.Release.ID != release {
		t.Errorf("release %s became %s", release, served.Release.ID)
	}
	if totals := load.Totals(); totals.Failed > 0 {
		t.Errorf("%d of %d requests failed: %v", totals.Failed, totals.Requests, totals.Statuses)
	}
}

// The same with as many proxies as a replica has, but simulated ones.
func TestARollingRestartUnderALargeFleetLosesNoStep(t *testing.T) {
	r := newRigIn(t, world{deadman: "6s", drain: time.Second})
	r.startReplica("b")
	r.put("services/shop", slow(r.document("blue"))+"analysis: {latency: off}\n")
	sims := r.simulated(*simulatedSize)
	release := r.begin().Release.ID
	step := sims.Watch("ramp.shop.shop/green|blue", 5000)
	r.put("orders/shop", "advance") // the step is under way while the first one drains
	for i, id := range []string{"a", "b"} {
		r.stops[i]()
		r.until("the fleet with the other replica", func() (bool, error) {
			n := len(r.proxies(1 - i))
			return n == *simulatedSize, fmt.Errorf("%d of %d are there", n, *simulatedSize)
		})
		r.stops[i], r.http[i] = r.restartReplica(id, r.servers[i])
	}
	if served := r.at(5000); served.Release.ID != release {
		t.Errorf("release %s became %s", release, served.Release.ID)
	}
	if _, err := step.Wait(r.ctx); err != nil {
		t.Error(err)
	}
	if c := sims.Counts(); c.Expired > 0 || c.Losses != 2*int64(*simulatedSize) || c.GoAways < c.Losses || c.Beats == 0 {
		t.Errorf("want no layer expired, two streams lost by each proxy, which was told to go, and heartbeats: %+v", c)
	}
}

var simulatedSize = flag.Int("simulated", 200, "how many proxies TestARollingRestartUnderALargeFleet simulates")

// simulated connects proxies that are no Envoys but ask as they do, of the gateway edge, to both replicas in turn.
func (r *rig) simulated(n int) *fleet.Fleet {
	r.t.Helper()
	var layers []string
	for i := range envoy.Layers {
		layers = append(layers, fmt.Sprintf("ramp-%02d", i))
	}
	sims := must[*fleet.Fleet](r.t)(fleet.New(fleet.Config{Server: r.servers[0], Others: r.servers[1:], Clients: n, Gateway: "edge", Layers: layers}))
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan error, 1)
	go func() { done <- sims.Run(ctx) }()
	r.t.Cleanup(func() { cancel(); <-done })
	sims.Connect(time.Second)
	if _, err := sims.Settled(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	return sims
}

// restartReplica starts a replica again where Envoys know it from before.
func (r *rig) restartReplica(id, address string) (stop func(), http string) {
	r.t.Helper()
	stop = r.startReplicaAt(id, address)
	last := len(r.http) - 1
	http = r.http[last]
	r.servers, r.http, r.stops = r.servers[:last], r.http[:last], r.stops[:last]
	return stop, http
}

// watchWeights looks at every Envoy's weight all the time until the returned function is called, which tells of those that had none.
func (r *rig) watchWeights() (lost func() string) {
	stop, told := make(chan struct{}), make(chan string, 1)
	go func() {
		seen := map[string]bool{}
		for {
			for i, one := range r.envoys {
				if said := r.weight(i); said != "1000" {
					seen[one.ID+" had "+said] = true
				}
			}
			select {
			case <-stop:
				words := ""
				for word := range seen {
					words += word + "; "
				}
				told <- strings.TrimSuffix(words, "; ")
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() string {
		close(stop)
		return <-told
	}
}
