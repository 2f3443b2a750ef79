package replica_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// DESIGN §3: another etcd cluster freezes proxies until adopt. An etcd that lost everything must neither empty them nor be followed unasked.
func TestAReplacedEtcdIsFollowedAfterAdoptOnly(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	e := r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	config := r.config(e)

	r.stops[0]()
	if err := r.etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	program := must[testenv.Program](t)(testenv.Self(testenv.RoleEtcd))
	r.etcd = must[*testenv.Etcd](t)(testenv.StartEtcd(r.ctx, testenv.EtcdConfig{Program: program, Dir: filepath.Join(r.folder, "etcd-anew")}))
	r.raw = must[*clientv3.Client](t)(clientv3.New(clientv3.Config{Endpoints: []string{r.etcd.Endpoint()}}))
	t.Cleanup(func() { _ = r.raw.Close() })
	r.startReplicaAt("a", r.servers[0])
	r.put("gateways/edge", fmt.Sprintf("gateway: edge\nlisteners: [{address: 127.0.0.1, port: %d}]\ndeadman: 6s\n", r.port))
	r.put("services/shop", strings.Replace(r.document("blue"), r.blue.Address(), r.green.Address(), 1))
	r.untilServed("the new etcd's document accepted", func(s *policy.Served) bool { return s.Live.Backend == "blue" })
	r.until("an alarm", func() (bool, error) {
		said := r.alarms("a")
		return strings.Contains(said, "rampart adopt"), fmt.Errorf("alarms: %q", said)
	})
	if got := r.ask("shop.example.com"); got != "v1" {
		t.Fatalf("answered by %s before adopt", got)
	}
	if got := r.config(e); got != config {
		t.Errorf("the Envoy's configuration has changed: %s", firstDifference(config, got))
	}
	r.put("adopt", "a new etcd")
	r.untilAnswers("v2")
	r.until("no alarm", func() (bool, error) { return r.alarms("a") == "", fmt.Errorf("alarms: %q", r.alarms("a")) })

	// What was adopted stays so after a restart, and nothing else is.
	r.stops[len(r.stops)-1]()
	r.startReplicaAt("a", r.servers[0])
	r.put("services/shop", r.document("blue"))
	r.untilAnswers("v1")
}

// DESIGN §3: what is served is kept while its served key is missing; after adopt it is written again, also when the replica was started anew in between.
func TestAMissingServedKeyIsWrittenAgainAfterAdopt(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	lost := func() {
		t.Helper()
		r.del("served/services/shop")
		r.until("an alarm", func() (bool, error) {
			said := r.alarms("a")
			return strings.Contains(said, "its served key"), fmt.Errorf("alarms: %q", said)
		})
		if r.served("shop") != nil || r.ask("shop.example.com") != "v1" {
			t.Fatal("the served key is back unasked, or users notice")
		}
	}
	lost()
	r.put("adopt", "yes")
	r.untilServed("the served key written again", func(s *policy.Served) bool { return s.Live.Backend == "blue" })
	lost()
	r.stops[len(r.stops)-1]()
	r.startReplicaAt("a", r.servers[0])
	r.until("an alarm after the restart", func() (bool, error) {
		said := r.alarms("a")
		return strings.Contains(said, "rampart adopt"), fmt.Errorf("alarms: %q", said)
	})
	if got := r.ask("shop.example.com"); got != "v1" {
		t.Errorf("answered by %s", got)
	}
	r.put("adopt", "yes, again")
	r.untilServed("begun anew", func(s *policy.Served) bool { return s.Live.Backend == "blue" })
	r.untilAnswers("v1")
}

// alarms are what a replica's report says someone must look at.
func (r *rig) alarms(id string) string { return strings.Join(r.report(id).Alarms, "\n") }
