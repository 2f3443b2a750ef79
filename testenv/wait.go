package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// pollPause lies between two looks at a condition: short against everything that is waited for, long against what a look costs.
const pollPause = 10 * time.Millisecond

// Eventually looks at a condition until it holds or ctx ends. An error of the condition means "not yet, because": it is told when the wait was in vain.
func Eventually(ctx context.Context, condition func() (bool, error)) error {
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		holds, err := condition()
		if err == nil && holds {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err == nil {
				err = errors.New("the condition never held")
			}
			return fmt.Errorf("waited in vain (%w): %w", context.Cause(ctx), err)
		}
	}
}

// during runs a wait that also ends when a process does: what waits for a dead process waits for ever.
func during(ctx context.Context, p *Proc, wait func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.Ended():
			err := p.Wait()
			if err == nil {
				err = errors.New("the process has ended")
			}
			cancel(err)
		case <-ctx.Done():
		}
	}()
	return wait(ctx)
}

// The range that FreePort takes from. Systems take ports for those who leave the choice to them, and for what connects, from 32768 on or above: a port from there
// would be somebody else's before its user has come.
const (
	firstFree = 15000
	pastFree  = 32000
	freeTries = 100
)

// FreePort is a TCP port on loopback that nobody listened on a moment ago. Whoever can bind port 0 itself should.
func FreePort() (int, error) {
	var last error
	for range freeTries {
		port := firstFree + rand.IntN(pastFree-firstFree)
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}
