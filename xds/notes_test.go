package xds

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Notes are a map that has no zero values.
func TestNotesAreAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var got notes[int]
		want := map[string]int{}
		for range rapid.IntRange(0, 30).Draw(t, "operations") {
			name := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "name")
			if v := rapid.IntRange(0, 3).Draw(t, "value"); v == 0 {
				got.drop(name)
				got.shrink()
				delete(want, name)
			} else {
				got.set(name, v)
				want[name] = v
			}
			all := map[string]int{}
			for name, v := range got.all() {
				if _, twice := all[name]; twice {
					t.Fatalf("%q comes twice", name)
				}
				all[name] = v
			}
			if !maps.Equal(all, want) || got.len() != len(want) || !slices.Equal(got.names(), slices.Sorted(maps.Keys(want))) || got.get(name) != want[name] {
				t.Fatalf("%+v, not %v", got, want)
			}
		}
	})
}

func TestEarlierACKsAreTheNewest(t *testing.T) {
	var a acks
	for i := range 2*maxEarlier + 3 {
		a.add(ack{v: &variant{version: string(rune('a' + i))}})
		newest, n := i, 0
		for one := range a.backward() {
			if one.v.version != string(rune('a'+newest-n)) {
				t.Fatalf("after %d, the %dth from the end is %q", i+1, n, one.v.version)
			}
			n++
		}
		if n != min(i+1, maxEarlier) {
			t.Fatalf("after %d there are %d", i+1, n)
		}
	}
}
