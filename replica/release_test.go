package replica_test

import (
	"errors"
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
	t.Helper()
	return releasingIn(t, world{})
}

func releasingIn(t *testing.T, w world) *rig {
	t.Helper()
	r := newRigIn(t, w)
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.envoy("edge", "edge-2")
	r.untilAnswers("v1")
	r.load(100)
	r.begin()
	return r
}

func begun(s *policy.Served) bool { return s.Release != nil }

func committed(s *policy.Served) bool { return s.Release == nil && s.Live.Backend == "green" }

// begin brings a release of green to its first step. It is ordered there: to observe live at first takes longer than most tests.
func (r *rig) begin() *policy.Served {
	r.t.Helper()
	r.put("services/shop", slow(r.document("green")))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	return r.at(1000)
}

// rolledBack waits for the end of a release that was taken back.
func (r *rig) rolledBack() *policy.Served {
	r.t.Helper()
	var found *policy.Served
	r.untilServed("the rollback", func(s *policy.Served) bool {
		found = s
		return s.Release == nil && s.Last != nil && s.Last.Result == policy.RolledBack
	})
	return found
}

func TestGoodReleaseIsCommittedWithoutAFailedRequest(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.envoy("edge", "edge-2")
	r.untilAnswers("v1")
	load := r.load(200)
	r.put("services/shop", r.document("green"))
	r.untilServed("the commit", committed)
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
	served := r.rolledBack()
	// Three errors in a row have an Envoy leave the candidate alone. If that comes early, what is missing convicts before what failed does.
	named := strings.HasPrefix(served.Last.Reason, "errors: green") || strings.HasPrefix(served.Last.Reason, "share seen: ")
	if served.Live.Backend != "blue" || served.Blocked == nil || !named {
		t.Errorf("after the rollback: live %s, blocked %v, reason %q", served.Live.Ref, served.Blocked, served.Last.Reason)
	}
	for i := range r.envoys {
		if w := r.weight(i); w != "" && w != "0" {
			t.Errorf("Envoy %d still has weight %s", i, w)
		}
	}
}

// DESIGN §3: deleting the permit is the rollback, whoever does it. Afterwards all is as it was before the release.
func TestDeletedPermitIsARollback(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	config := undated(r.config(r.envoys[0]))
	r.begin()
	r.del("permits/shop/", clientv3.WithPrefix())
	served := r.rolledBack()
	if served.Live.Backend != "blue" || !strings.Contains(served.Last.Reason, "permit was deleted") {
		t.Errorf("after the rollback: live %s, reason %q", served.Live.Ref, served.Last.Reason)
	}
	for range 20 {
		if got := r.ask("shop.example.com"); got != "v1" {
			t.Fatalf("answered by %s after the rollback", got)
		}
	}
	r.until("the configuration of before", func() (bool, error) {
		now := undated(r.config(r.envoys[0]))
		return now == config, errors.New(firstDifference(config, now))
	})
}

// DESIGN §9: deleting the document while a release runs is refused; the release goes on.
func TestDeletedDocumentInMidReleaseChangesNothing(t *testing.T) {
	r := releasing(t)
	r.unchanged(func() {
		r.del("services/shop")
		r.untilAlarm("a", "deleted while a release runs")
	})
	r.put("orders/shop", "advance")
	r.at(5000)
}

// DESIGN §3: a deleted prefix never empties a proxy. What is served stays until adopt.
func TestDeletedPrefixKeepsWhatIsServed(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	before := r.picture(r.envoys)
	r.del("", clientv3.WithPrefix())
	r.put("services/other", strings.NewReplacer("service: shop", "service: other", "shop.example.com", "other.example.com", "[edge]", "[default]").Replace(r.document("blue")))
	r.until("the leader working on", func() (bool, error) { return r.served("other") != nil, nil })
	r.untilAlarm("a", "until `rampart adopt`")
	before.served = r.picture(nil).served // what was deleted is not written again unasked
	if len(before.served) != 1 {
		t.Errorf("written again: %v", before.served)
	}
	r.same(before)
}

func TestDeletedServedKeyIsNotTakenForANewService(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	before := r.picture(r.envoys)
	r.del("served/services/shop")
	r.put("services/shop", r.document("green"))
	r.put("services/other", strings.NewReplacer("service: shop", "service: other", "shop.example.com", "other.example.com", "[edge]", "[default]").Replace(r.document("blue")))
	r.until("the leader working on", func() (bool, error) { return r.served("other") != nil, nil })
	r.untilAlarm("a", "its served key is gone")
	before.served = r.picture(nil).served
	r.same(before)
	r.put("adopt", "it was on purpose")
	r.untilServed("a release of what is wished, from what was served", func(s *policy.Served) bool {
		return s.Live.Backend == "blue" && s.Release != nil && s.Release.Candidate.Backend == "green"
	})
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
	r.unchanged(func() {
		if err := r.etcd.Restart(r.ctx); err != nil {
			t.Fatal(err)
		}
		beat := r.beat()
		r.until("a new beat", func() (bool, error) { return r.beat() != beat, nil })
	})
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
	release := r.begin().Release.ID
	r.stops[0]()
	r.put("orders/shop", "advance")
	served := r.at(5000)
	if served.Release.ID != release {
		t.Errorf("release %s became %s", release, served.Release.ID)
	}
	r.until("the Envoy with the other replica", func() (bool, error) { return len(r.proxies(1)) == 1, nil })
}

// Two Envoys with one node id count as two proxies.
func TestTwoStreamsWithOneNodeIDAreTwoProxies(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "twin")
	r.untilAnswers("v1")
	r.unchanged(func() {
		r.envoy("edge", "twin")
		r.until("two proxies, flagged", func() (bool, error) {
			views := r.proxies(0)
			return len(views) == 2 && views[0].Duplicate && views[1].Duplicate, fmt.Errorf("%+v", views)
		})
	})
}
