package xds

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// A dead-man's time that was shortened makes a heartbeat due before the alarm that is set; something else that is sent first must not make the server forget it.
func TestAHeartbeatIsThoughtOfThoughSomethingElseGoesFirst(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := New(Config{Cluster: "c1", Now: func() time.Time { return now }, Group: func(*corev3.Node, Protocol) string { return "edge" }})
	mortal := func(body string, ttl time.Duration) Resource {
		r := layer("l1", body)
		r.TTL = ttl
		return r
	}
	s.Publish(1, []Update{{Group: "edge", Set: []Resource{cluster("a", "1"), mortal("0", 60*time.Second)}}})
	s.Open()
	s.Prove(now)
	one := joined(t, s, "edge", "n1", &discoveryv3.DeltaDiscoveryRequest{TypeUrl: RuntimeType, ResourceNamesSubscribe: []string{"l1"}}, requestOf(ClusterType))
	s.Publish(2, []Update{{Group: "edge", Set: []Resource{mortal("1", 3*time.Second)}}})
	sent := one.upcoming(now)
	if sent.flight == nil || !sent.last {
		t.Fatalf("of a step %+v is sent", sent)
	}
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: RuntimeType, ResponseNonce: string(appendNonce(nil, sent.flight.nonce))}
	if err := one.apply(requested(t, one.server, ack)); err != nil {
		t.Fatal(err)
	}
	s.Publish(3, []Update{{Group: "edge", Set: []Resource{cluster("a", "2")}}})
	for last := false; !last; {
		last = one.upcoming(now).last
	}
	if due := now.Add(time.Second); one.armed.After(due) || one.armed.IsZero() {
		t.Errorf("it is looked at again at %s; a heartbeat is due at %s", one.armed, due)
	}
	s.part(one)
}
