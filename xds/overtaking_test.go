package xds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// What is queued for a stream and not handed to its connection yet is overtaken, and so are other streams' turns.
func TestARollbackOvertakesWhateverIsQueued(t *testing.T) {
	const proxies = 200
	s := New(Config{Cluster: "c1", Now: time.Now, Group: func(*corev3.Node, Protocol) string { return "edge" }})
	calm := Resource{Key: Key{ClusterType, "x"}, Body: []byte("x")}
	s.Publish(10, []Update{{Group: "edge", Set: []Resource{route(""), {Key: Key{RuntimeType, "l1"}, Body: []byte("0")}}}, {Group: "calm", Set: []Resource{calm}}})
	s.Open()
	var edge, other []*session
	for i := range proxies {
		edge = append(edge, joined(t, s, "edge", fmt.Sprint("e", i), requestOf(RouteType), requestOf(RuntimeType)))
	}
	s.groupOf = func(*corev3.Node, Protocol) string { return "calm" }
	for i := range proxies {
		other = append(other, joined(t, s, "calm", fmt.Sprint("c", i), requestOf(ClusterType)))
	}
	calm.Body = []byte("y")
	s.Publish(11, []Update{{Group: "calm", Set: []Resource{calm}}, {Group: "edge", Set: []Resource{route(strings.Repeat("r", 1<<20))}}})
	s.Publish(12, []Update{{Group: "edge", Set: []Resource{{Key: Key{RuntimeType, "l1"}, Body: []byte("back")}}, Urgent: true}})
	served := map[*session]bool{}
	for range proxies {
		one := s.queue.take(make([]*session, 0, 1))[0]
		f := one.upcoming(time.Now()).flight
		if one.group.name != "edge" || served[one] || f == nil || f.t.url != RuntimeType {
			t.Fatalf("turn %d is of %s, with %+v", len(served), one.node, f)
		}
		served[one] = true
		if f = one.upcoming(time.Now()).flight; f == nil || f.t.url != RouteType {
			t.Fatalf("the routes did not follow: %+v", f)
		}
		s.queue.rest(one)
	}
	if one := s.queue.take(make([]*session, 0, 1))[0]; one != other[0] {
		t.Errorf("then it is the turn of %s", one.node)
	}
	for _, one := range append(edge, other...) {
		s.part(one)
	}
}

// What is published together for several groups is published for one after the other, which takes time.
func TestARollbackIsPublishedBeforeAnythingElse(t *testing.T) {
	s := New(Config{Cluster: "c1", Now: time.Now, Group: func(n *corev3.Node, _ Protocol) string { return n.Cluster }})
	layer := Resource{Key: Key{RuntimeType, "l1"}, Body: []byte("0")}
	s.Publish(10, []Update{{Group: "calm", Set: []Resource{route("1")}}, {Group: "edge", Set: []Resource{layer}}})
	s.Open()
	calm, edge := joined(t, s, "calm", "c", requestOf(RouteType)), joined(t, s, "edge", "e", requestOf(RuntimeType))
	for range 2 { // they came
		s.queue.rest(s.queue.take(make([]*session, 0, 1))[0])
	}
	s.groups["calm"].mu.Lock() // publishing for it takes for ever
	layer.Body = []byte("back")
	published := make(chan struct{})
	go func() {
		defer close(published)
		s.Publish(11, []Update{{Group: "calm", Set: []Resource{route("2")}}, {Group: "edge", Set: []Resource{layer}, Urgent: true}})
	}()
	if one := s.queue.take(make([]*session, 0, 1))[0]; one != edge {
		t.Errorf("it is the turn of %s", one.node)
	}
	s.groups["calm"].mu.Unlock()
	<-published
	s.part(calm)
	s.part(edge)
}
