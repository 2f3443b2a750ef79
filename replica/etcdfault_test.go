package replica_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// The gateway of these tests has no dead-man's switch: a weight that changes was pushed, not let go.

// untilWeights waits until every Envoy that runs routes by a weight of the candidate.
func (r *rig) untilWeights(wanted string) {
	r.t.Helper()
	for i, e := range r.envoys {
		select {
		case <-e.Ended():
			continue
		default:
		}
		r.until(fmt.Sprintf("%s at weight %q", e.ID, wanted), func() (bool, error) {
			got := r.weight(i)
			return got == wanted, fmt.Errorf("its weight is %q", got)
		})
	}
}

// onlyAnswers demands that everybody is answered by one version.
func (r *rig) onlyAnswers(version string) {
	r.t.Helper()
	for range 40 {
		if got := r.ask("shop.example.com"); got != version {
			r.t.Fatalf("answered by %s, want %s", got, version)
		}
	}
}

// fail makes a share of the candidate's requests fail.
func (r *rig) fail(share float64) {
	r.t.Helper()
	for _, green := range append([]*testenv.Model{r.green}, r.greens...) {
		if err := green.Fail(r.ctx, share); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Envoys eject an endpoint after three errors in a row. With this much load, and so many endpoints beside the first, the guard rail has seen enough of errors at
// this share before all are out.
const (
	busy   = 200
	many   = 4
	faulty = 0.45
)

// convicted is what the judge says of a candidate that fails: that it does, or, where Envoys have ejected all of it before that was enough, that it gets nothing.
// Which of them comes first is a matter of how the load falls.
const convicted = "^(errors|share seen): "

// DESIGN §3: any replica rolls back, with or without etcd. The weight is taken to 0 from memory; etcd learns of it when it is back.
func TestRollbackIsPushedWithoutEtcd(t *testing.T) {
	r := releasingIn(t, world{deadman: "off", greens: many})
	load := r.load(busy)
	r.put("orders/shop", "advance")
	release := r.at(5000).Release.ID
	configs := r.picture(r.envoys).configs
	if err := r.etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	r.fail(faulty)
	r.untilWeights("0")
	r.fail(0)
	r.onlyAnswers("v1")
	before := load.Totals()
	for e, config := range configs {
		if now := r.config(e); now != config {
			t.Errorf("more than weights was pushed to %s: %s", e.ID, firstDifference(config, now))
		}
	}
	if err := r.etcd.Restart(r.ctx); err != nil {
		t.Fatal(err)
	}
	served := r.rolledBack()
	if served.Last.Release != release || !regexp.MustCompile(convicted).MatchString(served.Last.Reason) {
		t.Errorf("the outcome of %s is that of %s, because %q", release, served.Last.Release, served.Last.Reason)
	}
	r.until("the record of the rollback", func() (bool, error) {
		var record store.RollbackRecord
		r.read("rollbacks/shop/"+release, &record)
		return record.Replica == "a" && record.Reason == served.Last.Reason, fmt.Errorf("recorded by %q: %q", record.Replica, record.Reason)
	})
	if since := load.Totals().Minus(before); since.Failed > 0 || since.Versions["v2"].Requests > 0 {
		t.Errorf("after the rollback: %+v, by version %v", since.Outcomes, since.Versions)
	}
}

// When etcd is out of space nothing can be written, and all that is served stays. The rollback only deletes, so it goes through, whoever asks for it.
func TestRollbackWorksWhenEtcdIsOutOfSpace(t *testing.T) {
	r := releasingIn(t, world{deadman: "off", greens: many, quota: 4 << 20})
	r.load(busy)
	for _, c := range []struct {
		name, reason string
		takeBack     func()
	}{
		{"by deleting the permit", "permit was deleted", func() { r.del("permits/shop/", clientv3.WithPrefix()) }},
		{"by the errors of the candidate", convicted, func() {
			r.fail(faulty)
			r.until("the permit gone", func() (bool, error) { return r.permits() == 0, fmt.Errorf("%d permits", r.permits()) })
			r.fail(0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.put("orders/shop", "advance")
			r.at(5000)
			r.unchanged(r.flood)
			c.takeBack()
			r.untilWeights("0")
			r.onlyAnswers("v1")
			if served := r.served("shop"); served.Release == nil || served.Release.Weight != 5000 {
				t.Error("the outcome is written: etcd is not out of space, and nothing is tested")
			}
			r.drain()
			if served := r.rolledBack(); !regexp.MustCompile(c.reason).MatchString(served.Last.Reason) {
				t.Errorf("taken back because %q, want %q in it", served.Last.Reason, c.reason)
			}
			r.put("orders/shop", "retry")
			r.untilServed("the next release", func(s *policy.Served) bool { return s.Release != nil })
			r.put("orders/shop", "advance")
			r.at(1000)
		})
	}
	r.t = t
}

func (r *rig) permits() int {
	r.t.Helper()
	return len(must[*clientv3.GetResponse](r.t)(r.raw.Get(r.ctx, store.Prefix+"permits/", clientv3.WithPrefix())).Kvs)
}

// flood fills etcd until it takes no more, not even a key without a value.
func (r *rig) flood() {
	r.t.Helper()
	for i := 0; ; i++ {
		if i == 100 {
			r.t.Fatal("etcd does not run out of space")
		}
		if _, err := r.raw.Put(r.ctx, fmt.Sprintf("/flood/%d", i), strings.Repeat("x", 200<<10)); err != nil {
			break
		}
	}
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	if _, err := r.raw.Put(ctx, store.Prefix+"pauses/shop", ""); err == nil {
		r.t.Fatal("etcd is out of space and takes a put")
	}
}

// drain gives etcd its space back.
func (r *rig) drain() {
	r.t.Helper()
	_ = must[*clientv3.DeleteResponse](r.t)(r.raw.Delete(r.ctx, "/flood", clientv3.WithPrefix()))
	if err := r.etcd.Restart(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	r.until("etcd taking writes again", func() (bool, error) {
		ctx, cancel := context.WithTimeout(r.ctx, time.Second)
		defer cancel()
		_, err := r.raw.Put(ctx, "/drained", "")
		return err == nil, err
	})
}
