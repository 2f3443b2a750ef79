package xdsbench

import (
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
	Ready        time.Duration   `json:"ready,omitzero"` // from its start until it let proxies in
	Connect      time.Duration   `json:"connect"`        // until the last proxy had all it asked for
	ConnectCPU   time.Duration   `json:"connectCPU"`     // per proxy
	ConnectBytes int64           `json:"connectBytes"`   // per proxy, of responses
	ConnectSim   time.Duration   `json:"connectSim"`     // CPU of the simulator, per proxy
	Before       int64           `json:"before"`         // bytes of memory before the first proxy
	Settled      int64           `json:"settled"`        // per proxy, at rest
	Peak         int64           `json:"peak"`           // per proxy, while they connected
	Idle         float64         `json:"idle"`           // share of a core at rest
	StepCPU      time.Duration   `json:"stepCPU"`        // per proxy and step, from the put to the last ACK, less what it uses at rest
	SpanCPU      time.Duration   `json:"spanCPU"`        // the same over the whole time in which the steps were made, pauses included
	StepSim      time.Duration   `json:"stepSim"`        // CPU of the simulator, per proxy and step
	Steps        []time.Duration `json:"steps"`          // from the put to the last ACK
}

// bench is what a measurement works with.
type bench struct {
	Config
	fleet *fleet.Fleet
	of    subject
	n     int
}

// tail is how long after the last ACK was written the server's work on it still counts.
const tail = 20 * time.Millisecond

// connect brings the fleet up and measures what that cost, and what it holds at rest.
func (b *bench) connect(ctx context.Context, side *Side) error {
	before, _, err := memoryOf(b.of.pid())
	if err != nil {
		return err
	}
	forgetPeak(b.of.pid())
	cpu, err := cpuOf(b.of.pid())
	if err != nil {
		return err
	}
	own, began := ownCPU(), time.Now()
	b.fleet.Connect(0)
	wait, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	last, err := b.fleet.Settled(wait)
	if err != nil {
		return err
	}
	used, err := cpuOf(b.of.pid())
	if err != nil {
		return err
	}
	n := int64(b.n)
	counts := b.fleet.Counts()
	side.Connect, side.ConnectCPU, side.ConnectSim = last.Sub(began), (used-cpu)/time.Duration(n), (ownCPU()-own)/time.Duration(n)
	side.ConnectBytes, side.Before = counts.ResponseBytes/n, before
	b.tell("%s: %d proxies have all they asked for after %s, %s CPU and %d bytes each", b.of.name, n, round(side.Connect), round(side.ConnectCPU), side.ConnectBytes)
	if err := sleep(ctx, b.Rest); err != nil {
		return err
	}
	now, peak, err := memoryOf(b.of.pid())
	side.Settled, side.Peak = (now-before)/n, (peak-before)/n
	b.tell("%s: %d KiB each at rest, %d at most", b.of.name, side.Settled>>10, side.Peak>>10)
	return err
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

const (
	warmUp  = 3
	lowest  = 200 // weights of steps go up from it
	highest = 4900
)

// steps measures steps, each when the server has had time to come to rest after the one before.
func (b *bench) steps(ctx context.Context, side *Side, steps int) error {
	for i := range warmUp {
		if _, _, err := b.step(ctx, lowest+i); err != nil {
			return err
		}
	}
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	var inSteps, during, own time.Duration
	first, err := cpuOf(b.of.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range steps {
		cpu, err := cpuOf(b.of.pid())
		if err != nil {
			return err
		}
		ownBefore, stepped := ownCPU(), time.Now()
		_, took, err := b.step(ctx, lowest+warmUp+i%(highest-lowest))
		if err != nil {
			return err
		}
		if err := sleep(ctx, tail); err != nil {
			return err
		}
		after, err := cpuOf(b.of.pid())
		if err != nil {
			return err
		}
		inSteps, during, own = inSteps+after-cpu, during+time.Since(stepped), own+ownCPU()-ownBefore
		side.Steps = append(side.Steps, took)
		b.tell("%s: step %d of %d: %s", b.of.name, i+1, steps, round(took))
		if err := sleep(ctx, b.Pause); err != nil {
			return err
		}
	}
	all, err := cpuOf(b.of.pid())
	if err != nil {
		return err
	}
	span := time.Since(began)
	// Steps come more often than heartbeats, so what is subtracted must be free of them, too.
	quiet, err := b.idle(ctx, min(betweenBeats, b.Idle))
	if err != nil {
		return err
	}
	if side.Idle, err = b.idle(ctx, b.Idle); err != nil {
		return err
	}
	per := float64(b.n * steps)
	side.StepCPU = time.Duration((float64(inSteps) - quiet*float64(during)) / per)
	side.SpanCPU = time.Duration((float64(all-first) - quiet*float64(span)) / per)
	side.StepSim = time.Duration(float64(own) / per)
	return nil
}

// betweenBeats is less than the time from a step to the heartbeat after it, a third of the dead-man's time.
const betweenBeats = 3 * time.Second

// idle is the share of a core that the server uses at rest.
func (b *bench) idle(ctx context.Context, over time.Duration) (float64, error) {
	before, err := cpuOf(b.of.pid())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := sleep(ctx, over); err != nil {
		return 0, err
	}
	after, err := cpuOf(b.of.pid())
	return float64(after-before) / float64(time.Since(began)), err
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
