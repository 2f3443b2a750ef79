package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestReadingsComeBackInOrderAndOnlyTheNewestReleasesAreKept(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	// Release ids do not sort by age: the revision in them grows a digit.
	for i, release := range []string{"green-98", "blue-99", "green-100", "blue-101"} {
		for _, piece := range []int64{9_000, 10_000} {
			from := at(int64(i)*100_000 + piece)
			if err := s.SaveReadings(t.Context(), Recorded{"shop", release, from}, fmt.Append(nil, release, piece)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.SaveReadings(t.Context(), Recorded{"shop-2", "green-1", at(1)}, []byte("of another service")); err != nil {
		t.Fatal(err)
	}
	if err := s.TrimReadings(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveReadings(t.Context(), Recorded{"shop", "green-1", at(1)}, make([]byte, MaxValue+1)); err == nil {
		t.Error("a piece of any length is written")
	}
	kept, err := s.RecordedReleases(t.Context(), "shop")
	want := []Recorded{{"shop", "blue-99", at(109_000)}, {"shop", "green-100", at(209_000)}, {"shop", "blue-101", at(309_000)}}
	if err != nil || !slices.Equal(kept, want) {
		t.Errorf("kept %v, %v, want %v", kept, err, want)
	}
	pieces, err := s.Readings(t.Context(), "shop", "green-100")
	if err != nil || len(pieces) != 2 || string(pieces[0]) != "green-1009000" || string(pieces[1]) != "green-10010000" {
		t.Errorf("pieces %q, %v", pieces, err)
	}
	if pieces, err := s.Readings(t.Context(), "shop", "green-98"); err != nil || len(pieces) != 0 {
		t.Errorf("of a release that was trimmed: %q, %v", pieces, err)
	}
	if kept, err := s.RecordedReleases(t.Context(), "shop-2"); err != nil || len(kept) != 1 {
		t.Errorf("another service has %v, %v", kept, err)
	}
}
