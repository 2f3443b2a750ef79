package replica_test

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
)

// slow makes each step of the plan last longer than any test, so that a release stays where it is.
func slow(document string) string { return strings.Replace(document, "soak: 1s", "soak: 1h", 1) }

// at waits until the release soaks at a weight, confirmed by the proxies.
func (r *rig) at(weight policy.Weight) *policy.Served {
	r.t.Helper()
	var found *policy.Served
	r.untilServed("soaking at "+weight.String(), func(s *policy.Served) bool {
		found = s
		return s.Release != nil && s.Release.Phase == policy.Soaking && s.Release.Weight == weight
	})
	return found
}

// weight reads the candidate's weight from an Envoy itself.
func (r *rig) weight(i int) string {
	values, err := r.envoys[i].Runtime(r.ctx)
	if err != nil {
		return err.Error()
	}
	return values["ramp.shop.shop/green|blue"]
}

// releasing is a rig with two Envoys, load, and a release that stays at its first step.
func releasing(t *testing.T) *rig {
	r := newRig(t)
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.envoy("edge", "edge-2")
	r.untilAnswers("v1")
	r.load(100)
	r.put("services/shop", slow(r.document("green")))
	r.at(1000)
	return r
}

func TestGoodReleaseIsCommittedWithoutAFailedRequest(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.envoy("edge", "edge-2")
	r.untilAnswers("v1")
	load := r.load(200)
	r.put("services/shop", r.document("green"))
	r.untilServed("the commit", func(s *policy.Served) bool { return s.Last != nil && s.Live.Backend == "green" && s.Release == nil })
	r.untilAnswers("v2")
	if totals := load.Totals(); totals.Failed > 0 || totals.Requests == 0 {
		t.Errorf("%d of %d requests failed", totals.Failed, totals.Requests)
	}
	for i := range r.envoys {
		r.until("no ramp key left", func() (bool, error) { return r.weight(i) == "", fmt.Errorf("the candidate's key is %q", r.weight(i)) })
	}
}

// Errors of the candidate alone take it back; the wish is refused until it changes.
// DESIGN §9: a release that is taken back gives everything to live.
func TestBadReleaseIsTakenBack(t *testing.T) {
	r := releasing(t)
	if err := r.green.Fail(r.ctx, 0.5); err != nil {
		t.Fatal(err)
	}
	r.untilServed("the rollback", func(s *policy.Served) bool {
		return s.Release == nil && s.Last != nil && s.Last.Result == policy.RolledBack
	})
	served := r.served("shop")
	if served.Live.Backend != "blue" || served.Blocked == nil || !strings.Contains(served.Last.Reason, "errors") {
		t.Errorf("after the rollback: live %s, blocked %v, reason %q", served.Live.Ref, served.Blocked, served.Last.Reason)
	}
	for i := range r.envoys {
		if w := r.weight(i); w != "" && w != "0" {
			t.Errorf("Envoy %d still has weight %s", i, w)
		}
	}
}

// DESIGN §3: deleting the permit is the rollback, whoever does it.
func TestDeletedPermitIsARollback(t *testing.T) {
	r := releasing(t)
	r.del("permits/shop/", clientv3.WithPrefix())
	r.untilServed("the rollback", func(s *policy.Served) bool {
		return s.Release == nil && s.Last != nil && s.Last.Result == policy.RolledBack
	})
}

// DESIGN §9: deleting the document while a release runs is refused; the release goes on.
func TestDeletedDocumentInMidReleaseChangesNothing(t *testing.T) {
	r := releasing(t)
	r.del("services/shop")
	r.put("orders/shop", "advance")
	r.at(5000)
	if got := r.ask("shop.example.com"); got != "v1" && got != "v2" {
		t.Errorf("answered by %s", got)
	}
}

// DESIGN §3: a deleted prefix never empties a proxy. What is served stays until adopt.
func TestDeletedPrefixKeepsWhatIsServed(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	e := r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	config := r.config(e)
	r.del("", clientv3.WithPrefix())
	r.put("services/other", strings.NewReplacer("service: shop", "service: other", "shop.example.com", "other.example.com", "[edge]", "[default]").Replace(r.document("blue")))
	r.until("the leader working on", func() (bool, error) { return r.served("other") != nil, nil })
	if got := r.ask("shop.example.com"); got != "v1" || r.config(e) != config {
		t.Errorf("answered by %s; configuration unchanged: %v", got, r.config(e) == config)
	}
}

func TestDeletedServedKeyIsNotTakenForANewService(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.del("served/services/shop")
	r.put("services/shop", r.document("green"))
	r.put("services/other", strings.NewReplacer("service: shop", "service: other", "shop.example.com", "other.example.com").Replace(r.document("blue")))
	r.until("the leader working on", func() (bool, error) { return r.served("other") != nil, nil })
	if got := r.ask("shop.example.com"); got != "v1" {
		t.Errorf("answered by %s, want v1", got)
	}
	r.put("adopt", "it was on purpose")
	r.untilAnswers("v2")
}

// A proxy that is connected and never ACKs holds the step, and is named.
func TestSilentProxyHoldsTheStepAndIsNamed(t *testing.T) {
	r := releasing(t)
	if err := r.envoys[1].Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.envoys[1].Resume() })
	r.put("orders/shop", "advance")
	r.untilServed("a wait for the silent proxy", func(s *policy.Served) bool {
		return s.Release != nil && s.Release.Phase == policy.Shifting && s.Release.Weight == 5000 && strings.HasPrefix(s.Release.Waits, "1 of 2 proxies")
	})
	r.until("the other proxy moved", func() (bool, error) { return r.weight(0) == "5000", fmt.Errorf("weight %s", r.weight(0)) })
	if err := r.envoys[1].Resume(); err != nil {
		t.Fatal(err)
	}
	r.at(5000)
}

// A proxy that joins in mid-release is brought to its weight; one that leaves is not waited for.
func TestProxiesMayComeAndGoInMidRelease(t *testing.T) {
	r := releasing(t)
	r.envoy("edge", "edge-3")
	r.until("the newcomer at the release's weight", func() (bool, error) { return r.weight(2) == "1000", fmt.Errorf("weight %s", r.weight(2)) })
	if err := r.envoys[0].Kill(); err != nil {
		t.Fatal(err)
	}
	r.put("orders/shop", "advance")
	r.at(5000)
}

// An etcd that stops and comes back within the dead-man's time disturbs no proxy and no release.
func TestEtcdRestartKeepsTheReleaseGoing(t *testing.T) {
	r := releasing(t)
	release := r.served("shop").Release.ID
	if err := r.etcd.Restart(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.put("orders/shop", "advance")
	served := r.at(5000)
	if served.Release.ID != release {
		t.Errorf("release %s became %s", release, served.Release.ID)
	}
}

// Any number of replicas may run over one etcd: when the leader goes, the other goes on with the same release.
func TestAnotherReplicaGoesOnWithTheRelease(t *testing.T) {
	r := newRig(t)
	r.startReplica("b")
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.load(100)
	r.put("services/shop", slow(r.document("green")))
	release := r.at(1000).Release.ID
	r.stops[0]()
	r.put("orders/shop", "advance")
	served := r.at(5000)
	if served.Release.ID != release {
		t.Errorf("release %s became %s", release, served.Release.ID)
	}
	r.until("the Envoy with the other replica", func() (bool, error) { return len(r.proxies(1)) == 1, nil })
}

// When etcd is out of space nothing can be written, but the rollback, which only deletes, goes through; here the permit goes while every put would fail.
func TestRollbackIsPushedWithoutEtcd(t *testing.T) {
	r := releasing(t)
	if err := r.etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.green.Fail(r.ctx, 0.9); err != nil {
		t.Fatal(err)
	}
	for i := range r.envoys {
		r.until("weight 0 from memory or by the dead-man's switch", func() (bool, error) {
			w := r.weight(i)
			return w == "0" || w == "", fmt.Errorf("weight %s", w)
		})
	}
	if err := r.etcd.Restart(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.untilServed("an end of the release or its new beginning", func(s *policy.Served) bool {
		return s.Release == nil || s.Release.Weight == 0 || s.Release.Phase == policy.Gated
	})
}

// Two Envoys with one node id count as two proxies.
func TestTwoStreamsWithOneNodeIDAreTwoProxies(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "twin")
	r.untilAnswers("v1")
	r.envoy("edge", "twin")
	r.until("two proxies, flagged", func() (bool, error) {
		views := r.proxies(0)
		return len(views) == 2 && views[0].Duplicate && views[1].Duplicate, fmt.Errorf("%+v", views)
	})
}
