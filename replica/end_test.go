package replica_test

import (
	"testing"
	"time"
)

// promisedEnd is how long a replica may take to end.
const promisedEnd = 10 * time.Second

// halfway has replica a lead a release of shop that has half of the traffic of one Envoy, with replica b beside it.
func (r *rig) halfway() {
	r.t.Helper()
	r.until("a leader", func() (bool, error) { return r.beat().Leader == "a", nil })
	r.startReplica("b")
	r.put("services/shop", r.with("blue", half, ""))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.put("services/shop", r.with("green", half, ""))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	r.at(5000)
}

// A leader that is to end leaves a release to the others, and its proxies. An etcd that hangs has it do without their thanks, and in time.
func TestALeaderEndsInTimeThoughEtcdHangs(t *testing.T) {
	r := newRigIn(t, world{drain: 6 * time.Second})
	r.halfway()
	if err := r.etcd.Pause(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.stops[0]()
	}()
	timer := time.NewTimer(promisedEnd)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		t.Errorf("not ended %s after it was asked to", promisedEnd)
	}
	<-ended
	if err := r.etcd.Resume(); err != nil {
		t.Fatal(err)
	}
	r.until("the other replica leading", func() (bool, error) { return r.beat().Leader == "b", nil })
}
