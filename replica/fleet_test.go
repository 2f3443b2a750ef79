package replica_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// How large TestAFleet is: `make soak` asks for more than every run of all tests can bear.
var (
	fleetSize = flag.Int("fleet", 6, "how many Envoys TestAFleet starts")
	ramps     = flag.Int("ramps", 3, "how often TestAFleet ramps up and down")
)

// fleetOf starts Envoys of both versions in turn and waits until they serve.
func (r *rig) fleetOf(n int) {
	r.t.Helper()
	for i := range n {
		r.envoyOf(r.fleetEnvoy(i))
	}
	r.until("the fleet", func() (bool, error) {
		connected := len(r.proxies(0))
		return connected == n, fmt.Errorf("%d of %d Envoys are connected", connected, n)
	})
}

// fleetEnvoy is how one Envoy of the fleet is run, the first time and after it was killed.
func (r *rig) fleetEnvoy(i int) testenv.EnvoyConfig {
	r.t.Helper()
	find := testenv.FindEnvoy
	if i%2 == 1 {
		find = testenv.FindOldestEnvoy
	}
	id := fmt.Sprintf("edge-%02d", i)
	return testenv.EnvoyConfig{
		ID: id, Dir: r.folder, Path: must[string](r.t)(find()),
		Bootstrap: must[[]byte](r.t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: id, Servers: r.servers, AdminPort: 1})),
	}
}

// killAThird kills Envoys without a word and starts them again under their names.
func (r *rig) killAThird() {
	r.t.Helper()
	chosen := rand.Perm(len(r.envoys))[:len(r.envoys)/3]
	for _, i := range chosen {
		if err := r.envoys[i].Kill(); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, i := range chosen {
		r.envoys[i] = must[*testenv.Envoy](r.t)(testenv.StartEnvoy(r.ctx, r.fleetEnvoy(i)))
	}
}

// allHave waits until every Envoy itself says that green weighs this much; nothing is 0, too.
func (r *rig) allHave(weight policy.Weight) {
	r.t.Helper()
	r.until("the same weight in every Envoy", func() (bool, error) {
		for i, one := range r.envoys {
			said := r.weight(i)
			if said != fmt.Sprint(int(weight)) && (weight != 0 || said != "") {
				return false, fmt.Errorf("%s has %q, etcd %d", one.ID, said, weight)
			}
		}
		return true, nil
	})
}

// TestAFleetOfBothVersionsEndsWithEtcdsWeightsHoweverManyAreKilled ramps up and down while a third of the Envoys is killed and comes back, under load.
func TestAFleetOfBothVersionsEndsWithEtcdsWeightsHoweverManyAreKilled(t *testing.T) {
	r := newRigIn(t, world{deadman: "15s"})
	withoutTimes := func(serve string) string {
		return slow(r.document(serve)) + "analysis: {latency: off}\n"
	}
	r.put("services/shop", withoutTimes("blue"))
	r.fleetOf(*fleetSize)
	r.untilAnswers("v1")
	load := r.load(100)
	for ramp := range *ramps {
		if ramp == 0 {
			r.put("services/shop", withoutTimes("green"))
		} else {
			r.put("orders/shop", "retry")
		}
		r.untilServed("the release", begun)
		release := r.served("shop").Release.ID
		r.put("orders/shop", "advance")
		r.at(1000)
		r.killAThird()
		r.put("orders/shop", "advance")
		r.at(5000)
		r.allHave(5000)
		r.killAThird()
		r.del("permits/shop/" + release)
		r.rolledBack()
		r.allHave(0)
		t.Logf("ramp %d of %d: %s", ramp+1, *ramps, outcomes(load.Totals()))
	}
	totals := load.Totals()
	for status, n := range totals.Statuses {
		if status != 200 && n > 0 {
			t.Errorf("%d answers had the status %d", n, status)
		}
	}
	if totals.Versions["v1"].Requests == 0 || totals.Versions["v2"].Requests == 0 {
		t.Errorf("both versions had to answer: %v", totals.Versions)
	}
}

func outcomes(t testenv.Totals) string {
	return strings.TrimSpace(fmt.Sprintf("%d requests, %v by status, %d cut off with their Envoy", t.Requests, t.Statuses, t.Resets))
}
