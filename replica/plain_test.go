package replica_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/testenv"
)

// Routes are not assembled for a group in which no proxy is. The first one gets the weights of the moment in which it joins, and what takes them back.
func TestAProxyWithoutLayersThatJoinsInMidReleaseGetsTheWeightsOfThatMoment(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.load(100)
	r.begin()
	bootstrap := must[[]byte](t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: "plain-1", Servers: r.servers, AdminPort: 1}))
	var kept []string
	for line := range strings.Lines(string(bootstrap)) {
		if !strings.Contains(line, "rtds_layer") && !strings.Contains(line, "rampart.layers") {
			kept = append(kept, line)
		}
	}
	one := r.envoyOf(testenv.EnvoyConfig{Bootstrap: []byte(strings.Join(kept, "")), ID: "plain-1"})
	share := regexp.MustCompile(`"shop/green\|blue",\s*"weight": (\d+)`)
	weighs := func(want string) func() (bool, error) {
		return func() (bool, error) {
			dump, err := one.ConfigDump(r.ctx)
			found := share.FindSubmatch(dump)
			return err == nil && len(found) == 2 && string(found[1]) == want, fmt.Errorf("%v, weight %q instead of %s", err, found, want)
		}
	}
	r.until("the weight of its first step", weighs("1000"))
	r.put("orders/shop", "advance")
	r.at(5000)
	r.until("the weight of the next", weighs("5000"))
	r.del("permits/shop/", clientv3.WithPrefix())
	r.until("nothing for the candidate", weighs("0"))
	r.rolledBack()
}
