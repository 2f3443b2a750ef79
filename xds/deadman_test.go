package xds

import (
	"testing"
	"testing/synctest"
	"time"
)

// The tests of this file hold the rules of envoy-measured.md 9. The layers' TTL is 3 s: a heartbeat is due after 1 s, too late after 1.5 s, proof is fresh for 1 s.

func TestAHeartbeatCarriesTheTTLAndExactlyTheVersionThatWasACKed(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		acked := versionOf(t, c.take("Runtime l1=l1:k/3s"), "l1")
		for range 10 {
			time.Sleep(999 * time.Millisecond)
			c.quiet()
			time.Sleep(time.Millisecond)
			if beat := versionOf(t, c.take("Runtime l1~/3s"), "l1"); beat != acked {
				t.Fatalf("the heartbeat names %s, ACKed was %s", beat, acked)
			}
		}
	})
}

func TestEachLayerHasItsOwnHeartbeat(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"), layer("l2", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1", "l2")
		c.take("Runtime l1=l1:k/3s")
		c.take("Runtime l2=l2:k/3s")
		time.Sleep(1001 * time.Millisecond)
		for range 2 {
			if m := c.next(); len(m.Resources) != 1 || m.Resources[0].Resource != nil {
				t.Errorf("got %s, want one heartbeat", describe(m))
			} else {
				c.ack(m)
			}
		}
		c.quiet()
	})
}

func TestARejectedHeartbeatIsFollowedByTheFullBodyAtOnce(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		time.Sleep(time.Second)
		beat := c.expect("Runtime l1~/3s")
		c.nack(beat, "type URL mismatch")
		c.take("Runtime l1=l1:k/3s")
		c.quiet()
		if p := r.s.Proxies()[0]; len(p.Rejections) > 0 {
			t.Errorf("a rejected heartbeat parked %v", p.Rejections)
		}
		time.Sleep(time.Second)
		c.take("Runtime l1~/3s")
	})
}

func TestAnUnansweredHeartbeatIsFollowedByTheFullBody(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		time.Sleep(time.Second)
		c.expect("Runtime l1~/3s")
		time.Sleep(time.Second)
		c.expect("Runtime l1=l1:k/3s")
		time.Sleep(10 * time.Second)
		c.quiet() // one body in flight, not one after another to a proxy that does not answer
	})
}

func TestAnACKOlderThanHalfTheTTLIsFollowedByTheFullBody(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		m := c.expect("Runtime l1=l1:k/3s")
		time.Sleep(1600 * time.Millisecond)
		c.quiet()
		c.ack(m)
		c.take("Runtime l1=l1:k/3s")
	})
}

func TestAWeightChangeGoesWhileAHeartbeatIsInFlight(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "1"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:1/3s")
		time.Sleep(time.Second)
		beat := c.expect("Runtime l1~/3s")
		r.set(12, layer("l1", "2"))
		body := c.expect("Runtime l1=l1:2/3s")
		c.nack(beat, "expired")
		c.quiet() // the newer body is under way already
		c.ack(body)
		c.quiet()
	})
}

func TestWithoutFreshProofNothingIsKeptAlive(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		stop := r.proving()
		r.set(11, layer("l1", "k"))
		want := Requirement{Key: Key{RuntimeType, "l1"}, Revision: 11}
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		time.Sleep(time.Second)
		c.take("Runtime l1~/3s")
		stop()
		time.Sleep(100 * time.Millisecond)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			for len(c.came) > 0 {
				// What was due within the last proof's time may still go.
				if m := c.next(); time.Since(*r.s.proof.Load()) > time.Second {
					t.Fatalf("%s was sent %s after the last proof", describe(m), time.Since(*r.s.proof.Load()))
				} else {
					c.ack(m)
				}
			}
		}
		if got := r.standing(want); got != "0 of 1, 0 rejected" {
			t.Errorf("an expired layer counts as held: %s", got)
		}
		r.s.Prove(time.Now())
		c.take("Runtime l1=l1:k/3s") // it has expired, a heartbeat would not bring it back
		if got := r.standing(want); got != "1 of 1, 0 rejected" {
			t.Errorf("the full body did not count: %s", got)
		}
	})
}

func TestAChangeWithoutProofGoesAtOnceWithoutPartsAndWithoutTTL(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, layer("l1", "1"), layer("l2", "1"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1", "l2")
		c.take("Runtime l1=l1:1/3s")
		c.take("Runtime l2=l2:1/3s")
		c.quiet()
		time.Sleep(1200 * time.Millisecond) // proven once, at the start of the bubble: heartbeats at 1 s were the last
		for range 2 {
			c.ack(c.next())
		}
		r.set(11, layer("l1", "rolled back"))
		c.take("Runtime l1=l1:")
		c.quiet()
		r.s.Prove(time.Now())
		c.take("Runtime l1=l1:rolled back/3s")
		c.quiet()
	})
}

func TestARestartedServerWithholdsLayersUntilItIsProven(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.set(11, layer("l1", "k"))
		r.s.Open()
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.ask(ClusterType)
		c.take("Cluster")
		c.quiet()
		time.Sleep(2 * time.Second)
		c.quiet()
		r.s.Prove(time.Now())
		c.take("Runtime l1=l1:k/3s")
	})
}

func TestAServerThatIsNeverProvenSendsTheSafeBodyWhenTheLayersMustHaveExpired(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.set(11, layer("l1", "k"))
		r.s.Open()
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		time.Sleep(2999 * time.Millisecond)
		c.quiet()
		time.Sleep(time.Millisecond)
		c.take("Runtime l1=l1:")
		c.quiet()
		c2 := r.client("n2")
		c2.ask(RuntimeType, "l1")
		c2.take("Runtime l1=l1:")
	})
}

func TestAnUnprovenServerSendsAChangeAtOnceAllTheSame(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.set(11, layer("l1", "k"))
		r.s.Open()
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.quiet()
		r.set(11, layer("l1", "rolled back"))
		c.take("Runtime l1=l1:")
	})
}

func TestAnEmptiedLayerGoesWithoutTTLAndIsNotHeartbeaten(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		r.set(12, Resource{Key: Key{RuntimeType, "l1"}, Body: []byte("l1:")})
		c.take("Runtime l1=l1:")
		time.Sleep(10 * time.Second)
		c.quiet()
	})
}

func TestALayerNoneOfWhosePartsGoHasNoTTL(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		l := layer("l1", "k")
		l.Parts[0].Needs = []Need{arm("arm")}
		r.set(11, l)
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:")
		time.Sleep(10 * time.Second)
		c.quiet()
	})
}

func TestAChangedTTLIsSent(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		l := layer("l1", "k")
		r.set(11, l)
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		l.TTL = 6 * time.Second
		r.set(12, l)
		c.take("Runtime l1=l1:k/6s")
	})
}

// A proxy that refuses newer weights must not be kept on the old ones: they may be of a release that was rolled back.
func TestALayerWhoseNewerVersionWasRejectedIsNotKeptAlive(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "1"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:1/3s")
		r.set(12, layer("l1", "bad"))
		c.nack(c.expect("Runtime l1=l1:bad/3s"), "bad")
		time.Sleep(10 * time.Second)
		c.quiet()
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:") // a subscription to it is answered with the safe body
	})
}

func TestALayerWithATTLIsSentInFullOnEveryResubscription(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		r.set(11, layer("l1", "k"))
		c := r.client("n1")
		c.ask(RuntimeType, "l1")
		held := versionOf(t, c.take("Runtime l1=l1:k/3s"), "l1")
		c.ask(RuntimeType, "l1")
		c.take("Runtime l1=l1:k/3s")
		c.hangUp()
		c = r.client("n1")
		c.resume(RuntimeType, map[string]string{"l1": held})
		c.take("Runtime l1=l1:k/3s")
		time.Sleep(time.Second)
		c.take("Runtime l1~/3s")
	})
}
