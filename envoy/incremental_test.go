package envoy

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// What is rendered again is taken from what was rendered before where nothing changed: after any path it is what is rendered from nothing.
func TestTheWayToAStateDoesNotShowInWhatIsRendered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changed := NewRenderer()
		gateway := policy.Gateway{Name: "edge"}
		changed.SetGateway("edge", &gateway, 1)
		got := map[string]string{}
		for i := range rapid.IntRange(1, 8).Draw(t, "states") {
			served, state := someState(t), State{Permit: rapid.Bool().Draw(t, "permit"), Latched: rapid.Bool().Draw(t, "latched")}
			changed.SetService("shop", served, state, int64(i+2))
			keep(got, changed.Flush(int64(i+2)))
			fresh := NewRenderer()
			fresh.SetGateway("edge", &gateway, 1)
			fresh.SetService("shop", served, state, int64(i+2))
			want := map[string]string{}
			keep(want, fresh.Flush(int64(i+2)))
			for key, body := range want {
				if got[key] != body {
					t.Fatalf("%s is %q, rendered from nothing %q", key, got[key], body)
				}
			}
			for key := range got {
				if _, there := want[key]; !there {
					t.Fatalf("%s is there, rendered from nothing it is not", key)
				}
			}
		}
	})
}

// keep applies updates.
func keep(published map[string]string, updates []xds.Update) {
	at := func(group string, key xds.Key) string { return fmt.Sprint(group, " ", key.Type, " ", key.Name) }
	for _, u := range updates {
		for _, r := range u.Set {
			published[at(u.Group, r.Key)] = fmt.Sprintf("%s %s %q %v", r.Tag, r.TTL, r.Body, r.Parts)
		}
		for _, key := range u.Remove {
			delete(published, at(u.Group, key))
		}
	}
}

// someState is the shop at rest or in a release, each of its parts now and then another.
func someState(t *rapid.T) *policy.Served {
	some := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(t, what) }
	s := shop()
	green := s.Service.Backends["green"]
	green.Revision = some("revision", "v2", "v3")
	s.Service.Backends["green"] = green
	s.Live.Definition.Endpoints = []string{some("blue", "10.0.0.1:8080", "10.0.0.4:8080")}
	s.Service.Hosts = []string{some("host", "shop.example.com", "shop.example.org")}
	if orca := some("quality", "", "score"); orca != "" {
		s.Service.Analysis.Quality = []policy.Quality{{ORCA: orca}}
	}
	if rapid.Bool().Draw(t, "release") {
		candidate := arm(s.Service, "green")
		candidate.Definition.Endpoints = []string{some("candidate", "10.0.0.2:8080", "10.0.0.3:8080")} // the document may be newer
		s.Release = &policy.Release{
			ID: some("id", "green-2", "green-3"), Phase: policy.Shifting, Weight: policy.Weight(rapid.IntRange(0, 10_000).Draw(t, "weight")),
			Candidate: candidate,
		}
	}
	return s
}
