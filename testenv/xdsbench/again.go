package xdsbench

import (
	"context"
	"slices"
	"time"
)

// patience is how long fleets that connect again and again may take before three times are enough.
const patience = 3 * time.Minute

// connectAgain has other fleets connect to both servers in turn, either first every other time: so often because what is measured takes seconds at most, and differs from time to time.
func (t *trial) connectAgain(ctx context.Context, ours, limit subject) error {
	if err := sleep(ctx, min(t.Rest, ours.calm)); err != nil {
		return err
	}
	type server struct {
		of   subject
		side *Side
	}
	both := []server{{ours, &t.cell.Rampart}, {limit, &t.cell.Limit}}
	began := time.Now()
	for n := 1; n < t.Connects && (n < 3 || time.Since(began) < patience); n++ {
		slices.Reverse(both)
		for _, one := range both {
			err := t.with(ctx, one.of, func(ctx context.Context, b *bench) error { return b.connect(ctx, one.side) })
			if err != nil {
				return err
			}
			if err := sleep(ctx, min(t.Rest, one.of.calm)); err != nil {
				return err
			}
		}
	}
	return nil
}

// limitBack cuts a fleet off from the limit.
func (t *trial) limitBack(ctx context.Context, limit subject, y *yardstick) error {
	return t.with(ctx, limit, func(ctx context.Context, b *bench) error {
		var unused Side
		if err := b.connect(ctx, &unused); err != nil {
			return err
		}
		if err := sleep(ctx, min(t.Rest, limit.calm)); err != nil {
			return err
		}
		var err error
		t.cell.LimitBack, err = b.cutOff(ctx, y.weight)
		return err
	})
}
