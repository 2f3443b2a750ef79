package xdsbench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/testenv/fleet"
)

// subject is a server that is measured.
type subject struct {
	name    string
	xds     string
	pid     func() int
	prepare func(context.Context, int) (func() error, error) // makes a step to a weight ready and returns what sets it off
	calm    time.Duration                                    // when it has noticed that nobody comes or goes any more
}

// Side is what one server cost.
type Side struct {
	Ready    time.Duration   `json:"ready,omitzero"` // from its start until it let proxies in
	Connects []Connect       `json:"connects"`       // of the whole fleet, one after the other
	Before   int64           `json:"before"`         // bytes of memory before the first proxy
	Settled  int64           `json:"settled"`        // per proxy, at rest
	Peak     int64           `json:"peak"`           // per proxy, while they connected
	Idle     float64         `json:"idle"`           // share of a core at rest
	StepCPU  time.Duration   `json:"stepCPU"`        // per proxy and step, from the put to the last ACK, less what it uses at rest
	SpanCPU  time.Duration   `json:"spanCPU"`        // the same over the whole time in which the steps were made, pauses included
	StepSim  time.Duration   `json:"stepSim"`        // CPU of the simulator, per proxy and step
	Steps    []time.Duration `json:"steps"`          // from the put to the last ACK
}

// Connect is how a whole fleet connected.
type Connect struct {
	Took  time.Duration `json:"took"`  // until the last proxy had all it asked for
	CPU   time.Duration `json:"cpu"`   // of the server, per proxy
	Sim   time.Duration `json:"sim"`   // of the simulator, per proxy
	Bytes int64         `json:"bytes"` // of responses, per proxy
}

// Connect is the one in the middle, by its cost; zero if there was none.
func (s Side) Connect() Connect {
	sorted := slices.SortedFunc(slices.Values(s.Connects), func(a, b Connect) int { return cmp.Compare(a.CPU, b.CPU) })
	if len(sorted) == 0 {
		return Connect{}
	}
	return sorted[len(sorted)/2]
}

// bench is what a measurement works with.
type bench struct {
	Config
	fleet *fleet.Fleet
	of    subject
	n     int
}

// longest is how long a whole fleet may take for what it does, when both cores are busy with it.
const longest = 5 * time.Minute

// tail is how long after the last ACK was written the server's work on it still counts.
const tail = 20 * time.Millisecond

// settle brings the fleet up and measures what that cost, and what the server holds at rest.
func (b *bench) settle(ctx context.Context, side *Side) error {
	before, _, err := memoryOf(b.of.pid())
	if err != nil {
		return err
	}
	forgetPeak(b.of.pid())
	if err := b.connect(ctx, side); err != nil {
		return err
	}
	if err := sleep(ctx, b.Rest); err != nil {
		return err
	}
	now, peak, err := memoryOf(b.of.pid())
	n := int64(b.n)
	side.Before, side.Settled, side.Peak = before, (now-before)/n, (peak-before)/n
	b.tell("%s: %d KiB each at rest, %d at most", b.of.name, side.Settled>>10, side.Peak>>10)
	return err
}

// connect brings the fleet up and measures what that cost.
func (b *bench) connect(ctx context.Context, side *Side) error {
	cpu, err := cpuOf(b.of.pid())
	if err != nil {
		return err
	}
	own, began := ownCPU(), time.Now()
	b.fleet.Connect(0)
	wait, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	last, err := b.fleet.Settled(wait)
	if err != nil {
		return fmt.Errorf("%s: connect: %w", b.of.name, err)
	}
	used, err := cpuOf(b.of.pid())
	if err != nil {
		return err
	}
	n, now := time.Duration(b.n), b.fleet.Counts()
	if now.Losses > 0 { // who comes back counts as soon as it has asked
		return fmt.Errorf("%s: connect: %d connections broke meanwhile, the last because %s", b.of.name, now.Losses, now.LastLoss)
	}
	c := Connect{Took: last.Sub(began), CPU: (used - cpu) / n, Sim: (ownCPU() - own) / n, Bytes: now.ResponseBytes / int64(b.n)}
	side.Connects = append(side.Connects, c)
	b.tell("%s: %d proxies have all they asked for after %s, %s CPU and %d bytes each", b.of.name, n, round(c.Took), round(c.CPU), c.Bytes)
	return nil
}

// step makes one step and waits until the last proxy has answered it.
func (b *bench) step(ctx context.Context, weight int) (*fleet.Watch, time.Duration, error) {
	set, err := b.of.prepare(ctx, weight)
	if err != nil {
		return nil, 0, err
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	w := b.fleet.Watch(weightKey(), float64(weight))
	if err := set(); err != nil {
		return nil, 0, err
	}
	took, err := w.Wait(wait)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: step to %d: %w", b.of.name, weight, err)
	}
	return w, slices.Max(took), nil
}

// sleep lets time pass, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(100 * time.Nanosecond)
}
