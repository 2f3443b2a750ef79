package envoy_test

import (
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

func TestAnEnvoyGoesOnToTheNextReplicaWhenTheFirstCannotBeReached(t *testing.T) {
	r := newRig(t)
	nobody, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	r.serve(shopOf(newModel(t, "blue"), newModel(t, "green")), envoy.State{})
	text, err := envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: "edge-1", Servers: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(nobody)), r.server}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	one, err := testenv.StartEnvoy(r.ctx, testenv.EnvoyConfig{Bootstrap: text, ID: "edge-1", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Kill() })
	r.confirmed("shop", 1)
	t.Logf("served by the second replica after %s", time.Since(began).Round(time.Millisecond))
}

// TestUsersNoticeNothingOfAWholeRelease asks all the time while arms come, weights rise, the base changes and arms go.
func TestUsersNoticeNothingOfAWholeRelease(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	rest, permit := shopOf(blue, green), envoy.State{Permit: true}
	r.serve(rest, envoy.State{})
	r.envoy("edge-1", asWritten)
	r.confirmed("shop", 1)

	var asked, failed atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			asked.Add(1)
			if status, _, err := r.request("/"); err != nil || status != http.StatusOK {
				failed.Add(1)
			}
		}
	}()
	// more waits for that many requests, so that each state sees some.
	more := func(n int64) {
		t.Helper()
		until := asked.Load() + n
		if err := testenv.Eventually(r.ctx, func() (bool, error) { return asked.Load() >= until, nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []policy.Weight{0, 100, 5000, 9999} {
		r.serve(releasing(rest, policy.Shifting, w), permit)
		r.confirmed("shop", 1)
		more(100)
	}
	committing := releasing(rest, policy.Committing, 9999)
	r.serve(committing, permit)
	r.confirmed("shop", 1)
	more(100)
	after := *committing
	after.Live, after.Release = committing.Release.Candidate, nil
	r.serve(&after, envoy.State{})
	r.confirmed("shop", 1)
	gone := blue.hits.Load()
	more(100)
	close(stop)
	<-done
	if failed.Load() > 0 || asked.Load() < 600 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	if late := blue.hits.Load() - gone; late > 0 {
		t.Errorf("blue got %d requests after the commit", late)
	}
}
