package xds

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// inSync is a server with many resources, and proxies that have them all.
func inSync(t *testing.T, proxies, resources int, now *time.Time) (*Server, []*session, []string) {
	t.Helper()
	s := New(Config{Cluster: "c1", Now: func() time.Time { return *now }, Group: func(*corev3.Node, Protocol) string { return "edge" }})
	u, names := Update{Group: "edge"}, make([]string, resources)
	for i := range names {
		names[i] = fmt.Sprint("pool-", i)
		u.Set = append(u.Set, cluster(names[i], "c"), endpoints(names[i], "e"))
	}
	s.Publish(10, []Update{u})
	s.Open()
	sessions := make([]*session, proxies)
	for i := range sessions {
		sessions[i] = joined(t, s, "edge", fmt.Sprint("n", i), requestOf(ClusterType), &discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesSubscribe: names})
	}
	return s, sessions, names
}

func TestAProxyInSyncCostsNothingPerResource(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, sessions, names := inSync(t, 100, 10_000, &now)
	for _, one := range sessions {
		for _, url := range []string{ClusterType, EndpointType} {
			if kept := one.interest(url); kept.apart.len() > 0 || kept.apart.more != nil || kept.dirty.len() > 0 || kept.names != sessions[0].interest(url).names {
				t.Fatalf("%s has %d notes of its own, %d dirty", one.node, kept.apart.len(), kept.dirty.len())
			}
		}
		if one.leaving != nil || len(one.warming) > 0 || len(one.rejections) > 0 || len(one.flights) > 0 {
			t.Fatalf("%s: %d leaving, %d warming, %d in flight", one.node, len(one.leaving), len(one.warming), len(one.flights))
		}
	}

	brought := map[string]map[string]string{ClusterType: {}, EndpointType: {}}
	for url, versions := range brought {
		for _, name := range names {
			versions[name] = s.groups["edge"].entry(Key{url, name}).full.version
		}
	}
	for i, one := range sessions[:10] {
		s.part(one)
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: ClusterType, InitialResourceVersions: brought[ClusterType]}
		again := joined(t, s, "edge", fmt.Sprint("n", i), r,
			&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesSubscribe: names, InitialResourceVersions: brought[EndpointType]})
		if again.launched != 0 || again.interest(EndpointType).apart.len() > 0 || again.interest(EndpointType).names != sessions[99].interest(EndpointType).names {
			t.Fatalf("%s was sent %d responses", again.node, again.launched)
		}
		sessions[i] = again
	}
	for _, one := range sessions {
		s.part(one)
	}
}

func TestAChangeIsNotedByItselfAndForgottenAgain(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, sessions, names := inSync(t, 10, 100, &now)
	s.Publish(11, []Update{{Group: "edge", Set: []Resource{endpoints(names[7], "changed")}}})
	for _, one := range sessions {
		if n := ackAll(t, one); n != 1 || one.interest(EndpointType).apart.len() != 1 {
			t.Fatalf("%s was sent %d responses, and has %d notes", one.node, n, one.interest(EndpointType).apart.len())
		}
	}
	now = now.Add(foldAfter)
	s.expelSilent(now)
	for _, one := range sessions {
		if kept := one.interest(EndpointType); kept.apart.len() > 0 || kept.apart.more != nil || kept.dirty.len() > 0 || kept.dirty.more != nil {
			t.Errorf("%s still has notes", one.node)
		}
	}
	if got := s.Standing("edge", []Requirement{{Key: Key{EndpointType, names[7]}, Revision: 11}}); got.Met != 10 {
		t.Errorf("%d meet it", got.Met)
	}
}

// The bytes of all that a proxy gets when it comes are there while proxies come, and not for ever after.
func TestTheBytesOfAPackAreLetGoEachTime(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, _, _ := inSync(t, 1, 10, &now)
	p := s.groups["edge"].shelf(ClusterType).pack
	for range 3 {
		joined(t, s, "edge", "another", requestOf(ClusterType))
		if p.encoded[Delta] == nil {
			t.Fatal("the pack was not used")
		}
		now = now.Add(packKept)
		s.expelSilent(now)
		if p.encoded[Delta] != nil || len(s.groups["edge"].packs) > 0 {
			t.Fatal("its bytes are still there")
		}
	}
}

func TestSetsOfNamesThatNobodyUsesAreForgotten(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, _, names := inSync(t, 1, 200, &now)
	parts := make([]Part, 32)
	for i := range parts {
		parts[i] = part("x", pool(names[i]))
	}
	s.Publish(11, []Update{{Group: "edge", Set: []Resource{routes(parts...)}}})
	library := s.groups["edge"].shelf(EndpointType).library
	for i := range names[:150] {
		one := joined(t, s, "edge", "passing", &discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesSubscribe: names[:i+1]},
			&discoveryv3.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: []string{"edge"}})
		s.part(one)
	}
	if n := len(s.groups["edge"].entry(Key{RouteType, "edge"}).covered); n > maxCovered {
		t.Errorf("%d sets are remembered with the routes", n)
	}
	kept := func() int {
		library.mu.Lock()
		defer library.mu.Unlock()
		return len(library.sets)
	}
	for range 100 {
		if kept() <= maxCovered+1 {
			return
		}
		runtime.GC()
		runtime.Gosched()
	}
	t.Errorf("%d sets are kept", kept())
}
