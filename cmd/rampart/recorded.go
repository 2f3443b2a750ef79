package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// readRecording returns what is kept of a release's readings; of the newest that is kept if none is named.
func readRecording(ctx context.Context, s *store.Store, service, release string) ([]policy.Recording, error) {
	kept, err := recordedReleases(ctx, s, service)
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 {
		if _, err := readService(ctx, s, service); err != nil {
			return nil, err
		}
		return nil, refusal("no readings of %s are kept: they are while a release runs, and of its newest ones afterwards", service)
	}
	names := make([]string, len(kept))
	for i, k := range kept {
		names[i] = k.Release
	}
	if release == "" {
		release = names[len(names)-1]
	}
	if !slices.Contains(names, release) {
		return nil, refusal("no readings of %s %s are kept; there are those of %s", service, clean(release), listed(names))
	}
	packed, err := s.Readings(ctx, service, release)
	if err != nil {
		return nil, err
	}
	pieces := make([]policy.Recording, len(packed))
	for i, data := range packed {
		if pieces[i], err = policy.DecodeRecording(data); err != nil {
			return nil, fmt.Errorf("read the readings of %s %s: %w", service, release, err)
		}
	}
	return pieces, nil
}

// recordedReleases waits a moment for the first recording: that of a release that has just ended is being written.
func recordedReleases(ctx context.Context, s *store.Store, service string) (kept []store.Recorded, err error) {
	for range 8 {
		if kept, err = s.RecordedReleases(ctx, service); err != nil || len(kept) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
	return kept, err
}

// turnsOf are all turns of a recording.
func turnsOf(pieces []policy.Recording) []policy.TurnRecord {
	turns := []policy.TurnRecord{}
	for _, piece := range pieces {
		turns = append(turns, piece.Turns...)
	}
	return turns
}
