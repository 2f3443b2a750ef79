package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// Whatever happens to the keys, the index says what a look at every service says.
func TestTheIndexEqualsALookAtEveryService(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newState()
		for revision := int64(1); revision < 40; revision++ {
			if rapid.IntRange(0, 9).Draw(t, "adopt") == 0 {
				s.adopt()
			}
			s.apply(store.Batch{Revision: revision, Changes: rapid.SliceOfN(someChange(revision), 1, 3).Draw(t, "changes")})
			wanted := newIndex()
			for name, v := range s.services {
				wanted.take(name, v)
			}
			for what, pair := range map[string][2]map[string]struct{}{
				"running": {s.index.running, wanted.running}, "unaccepted": {s.index.unaccepted, wanted.unaccepted}, "alarmed": {s.index.alarmed, wanted.alarmed},
			} {
				if !maps.Equal(pair[0], pair[1]) {
					t.Fatalf("%s: %v, but a look at all finds %v", what, pair[0], pair[1])
				}
			}
			sharing(t, s)
		}
	})
}

// sharing compares who shares a host with a look at every service.
func sharing(t *rapid.T, s *state) {
	wish := policy.Service{Name: "s0", Gateways: []string{"edge"}, Hosts: rapid.SliceOfN(someHost(), 1, 2).Draw(t, "hosts")}
	var want []string
	for name, v := range s.services {
		around := policy.Around{Others: map[string]*policy.Served{name: v.served}, Gateways: map[string]policy.Gateway{"edge": {}}}
		if name != wish.Name && len(policy.Accept(wish, around)) > 0 {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	found := s.index.hosts.Sharing(wish)
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Fatalf("%v is shared with %v, but a look at all finds %v", wish.Hosts, got, want)
	}
	for name, served := range found {
		if served != s.services[name].served {
			t.Fatalf("an old copy of %s is found", name)
		}
	}
}

func someHost() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a.example.com", "A.example.com", "b.example.com", "*"})
}

func someChange(revision int64) *rapid.Generator[store.Change] {
	return rapid.Custom(func(t *rapid.T) store.Change {
		c := store.Change{
			Name: fmt.Sprintf("s%d", rapid.IntRange(0, 2).Draw(t, "service")), Mod: revision, Release: "green-1", Deleted: rapid.Bool().Draw(t, "deleted"),
			Kind: rapid.SampledFrom([]store.Kind{store.ServiceDoc, store.ServedService, store.ServedService, store.Permit}).Draw(t, "kind"),
		}
		if c.Kind == store.ServedService && !c.Deleted {
			c.Value = someServed(t, revision)
		}
		return c
	})
}

// someServed is a served copy: of the newest document or an older one, with or without a release, with nothing live, or unreadable.
func someServed(t *rapid.T, revision int64) []byte {
	served := policy.Served{Accepted: revision - rapid.Int64Range(0, 3).Draw(t, "age")}
	served.Service.Gateways = []string{"edge"}
	served.Service.Hosts = rapid.SliceOfN(someHost(), 0, 2).Draw(t, "hosts")
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		return []byte("{")
	case 1:
		served.Release = &policy.Release{ID: "green-1"}
		fallthrough
	case 2:
		served.Live.Backend = "blue"
	}
	data, err := json.Marshal(served)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
