package main

import (
	"context"
	"errors"
	"time"

	"github.com/rampart-proxy/rampart/testenv"
)

// fail makes a share of the requests to a side fail, from the next one on; 0 mends it.
func (s *side) fail(ctx context.Context, share float64) error {
	var all error
	for _, m := range s.models {
		all = errors.Join(all, m.Fail(ctx, share))
	}
	return all
}

// behave makes a side serve in another way from the next request on.
func (s *side) behave(ctx context.Context, b testenv.Behaviour) error {
	if b == (testenv.Behaviour{}) {
		return nil
	}
	var all error
	for _, m := range s.models {
		all = errors.Join(all, m.Behave(ctx, b))
	}
	return all
}

// stamps are when a side gave its first and last bad answer, got its first odd request and was last asked, zero being never, and how many requests it has answered.
type stamps struct {
	firstBad, lastBad, firstOdd, lastAsked time.Time
	answered, bad, odd                     int64
}

// stamps reads what the model servers stamped.
func (s *side) stamps(ctx context.Context) (stamps, error) {
	var all stamps
	for _, m := range s.models {
		r, err := m.Report(ctx)
		if err != nil {
			return all, err
		}
		all.firstBad = earlier(all.firstBad, r.FirstBad)
		all.firstOdd = earlier(all.firstOdd, r.FirstOdd)
		all.bad += r.Bad
		all.odd += r.Odd
		all.lastBad = later(all.lastBad, r.LastBad)
		all.lastAsked = later(all.lastAsked, r.LastAsked)
		all.answered += r.Good + r.Bad
	}
	return all, nil
}

func earlier(t time.Time, unixNano int64) time.Time {
	if unixNano == 0 || !t.IsZero() && !time.Unix(0, unixNano).Before(t) {
		return t
	}
	return time.Unix(0, unixNano)
}

func later(t time.Time, unixNano int64) time.Time {
	if unixNano == 0 || time.Unix(0, unixNano).Before(t) {
		return t
	}
	return time.Unix(0, unixNano)
}
