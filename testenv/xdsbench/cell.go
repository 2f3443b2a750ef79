package xdsbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/testenv/fleet"
)

// Config says what is measured.
type Config struct {
	Self     string        // the rampart binary
	Folder   string        // an empty one for everything
	Services []int         // worlds
	Proxies  []int         // fleets, in each world
	Steps    int           // per cell
	Latency  int           // steps of the first fleet in the first world, instead
	Rest     time.Duration // from the last proxy connected until memory is read
	Pause    time.Duration // between steps
	Idle     time.Duration // over which the use at rest is told
	Tell     func(format string, args ...any)
}

// Cell is one fleet in one world: what rampart cost, and what the limit.
type Cell struct {
	Services  int           `json:"services"`
	Proxies   int           `json:"proxies"`
	Load      string        `json:"load"` // of the machine when it began
	Rampart   Side          `json:"rampart"`
	Limit     Side          `json:"limit"`
	Reconnect Return        `json:"reconnect"` // all connections cut at once
	Restart   Return        `json:"restart"`   // the server killed, and started again
	Rollback  time.Duration `json:"rollback"`  // from the deletion of the permit to the last ACK of weight 0
	Problems  []string      `json:"problems,omitempty"`
}

// Return is how a fleet came back with all that it had.
type Return struct {
	Took      time.Duration    `json:"took"`      // until the last proxy had the running layer again
	CPU       time.Duration    `json:"cpu"`       // of the server, per proxy
	Responses map[string]int64 `json:"responses"` // by type
	Bytes     int64            `json:"bytes"`     // of responses
}

// Run measures every fleet in every world and hands each cell on when it is done.
func Run(ctx context.Context, c Config, done func(Cell)) error {
	for w, services := range c.Services {
		folder := filepath.Join(c.Folder, fmt.Sprintf("s%d", services))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		c.tell("S = %d: loading the world", services)
		r, err := startRampart(ctx, c.Self, folder, services)
		if err != nil {
			return err
		}
		for n, proxies := range c.Proxies {
			steps := c.Steps
			if w == 0 && n == 0 {
				steps = max(steps, c.Latency)
			}
			cell, err := c.cell(ctx, r, Cell{Services: services, Proxies: proxies, Load: loadOf()}, steps)
			if err != nil {
				return errors.Join(fmt.Errorf("with %d services and %d proxies: %w", services, proxies, err), r.stop())
			}
			done(cell)
		}
		if err := r.stop(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) tell(format string, args ...any) {
	if c.Tell != nil {
		c.Tell(format, args...)
	}
}

// loadOf is the load of the machine.
func loadOf() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:1], "")
}

// cell measures rampart, then the limit.
func (c Config) cell(ctx context.Context, r *rampart, cell Cell, steps int) (Cell, error) {
	c.tell("S = %d, N = %d: rampart", cell.Services, cell.Proxies)
	var err error
	if cell.Rampart.Ready, err = r.serve(ctx); err != nil {
		return cell, err
	}
	world, err := capture(ctx, r.xds, cell.Services)
	if err != nil {
		return cell, err
	}
	if err := sleep(ctx, time.Second); err != nil {
		return cell, err
	}
	var carrier []byte
	of := subject{name: "rampart", xds: r.xds, pid: func() int { return r.proc.Pid() }, prepare: r.prepare}
	err = c.with(ctx, of, cell.Proxies, func(ctx context.Context, b *bench) error {
		if err := b.connect(ctx, &cell.Rampart); err != nil {
			return err
		}
		if err := r.begin(ctx); err != nil {
			return err
		}
		w, _, err := b.step(ctx, lowest-1)
		if err != nil {
			return err
		}
		carrier = w.Carrier()
		if err := b.steps(ctx, &cell.Rampart, steps); err != nil {
			return err
		}
		return b.faults(ctx, r, &cell)
	})
	if err := errors.Join(err, r.end()); err != nil {
		return cell, err
	}
	return cell, c.measureLimit(ctx, &cell, world, carrier, r.folder, steps)
}

func (c Config) measureLimit(ctx context.Context, cell *Cell, world captured, carrier []byte, folder string, steps int) error {
	c.tell("S = %d, N = %d: limit", cell.Services, cell.Proxies)
	y, err := startYardstick(ctx, c.Self, folder, world)
	if err != nil {
		return err
	}
	y.carrier = carrier
	of := subject{name: "limit", xds: y.xds, pid: y.proc.Pid, prepare: y.prepare}
	err = c.with(ctx, of, cell.Proxies, func(ctx context.Context, b *bench) error {
		if err := b.connect(ctx, &cell.Limit); err != nil {
			return err
		}
		return b.steps(ctx, &cell.Limit, steps)
	})
	return errors.Join(err, y.proc.Stop())
}

// with measures something with a fleet.
func (c Config) with(ctx context.Context, of subject, proxies int, measure func(context.Context, *bench) error) error {
	f, err := fleet.New(fleet.Config{Server: of.xds, Clients: proxies, Gateway: gatewayName, Layers: layerNames()})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	err = measure(ctx, &bench{Config: c, fleet: f, of: of, n: proxies})
	end()
	return errors.Join(err, <-ended)
}

// faults measures what happens to a running release's fleet that does not go as planned.
func (b *bench) faults(ctx context.Context, r *rampart, cell *Cell) error {
	var err error
	if cell.Reconnect, err = b.comeBack(ctx, r, func() error { b.fleet.Cut(); return nil }); err != nil {
		return err
	}
	b.tell("rampart: %d proxies were cut off and are back after %s, %s CPU each; responses %v", b.n, round(cell.Reconnect.Took), round(cell.Reconnect.CPU), cell.Reconnect.Responses)
	if cell.Restart, err = b.comeBack(ctx, r, func() error {
		if err := r.proc.Kill(); err != nil {
			return err
		}
		_, err := r.serve(ctx)
		return err
	}); err != nil {
		// It is told, and what else was measured is not lost.
		cell.Problems = append(cell.Problems, "restart: "+err.Error())
	}
	b.tell("rampart: killed and restarted, %d proxies are back after %s; responses %v", b.n, round(cell.Restart.Took), cell.Restart.Responses)
	cell.Rollback, err = b.rollback(ctx, r)
	b.tell("rampart: the permit is deleted, the last of %d proxies answered weight 0 after %s", b.n, round(cell.Rollback))
	return err
}

// comeBack measures from a break until every proxy has got and answered the running layer again.
func (b *bench) comeBack(ctx context.Context, r *rampart, breaks func() error) (Return, error) {
	s, err := served(ctx, r.client)
	if err != nil {
		return Return{}, err
	}
	if s.Release == nil {
		return Return{}, fmt.Errorf("no release runs: %+v", s.Last)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before, pid := b.fleet.Counts(), b.of.pid()
	cpu, err := cpuOf(pid)
	if err != nil {
		return Return{}, err
	}
	w := b.fleet.Watch(weightKey(), float64(s.Release.Weight))
	if err := breaks(); err != nil {
		return Return{}, err
	}
	if b.of.pid() != pid {
		cpu = 0 // another process has nothing behind it
	}
	took, err := w.Wait(ctx)
	if err != nil {
		return Return{}, err
	}
	if err := sleep(ctx, tail); err != nil {
		return Return{}, err
	}
	used, err := cpuOf(b.of.pid())
	after := b.fleet.Counts()
	back := Return{Took: slices.Max(took), CPU: (used - cpu) / time.Duration(b.n), Bytes: after.ResponseBytes - before.ResponseBytes, Responses: map[string]int64{}}
	for typeURL, n := range after.Responses {
		if n -= before.Responses[typeURL]; n > 0 {
			back.Responses[typeURL[strings.LastIndexByte(typeURL, '.')+1:]] = n
		}
	}
	return back, err
}

func (b *bench) rollback(ctx context.Context, r *rampart) (time.Duration, error) {
	permit, err := r.permit(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	w := b.fleet.Watch(weightKey(), 0)
	if _, err := r.client.Delete(ctx, permit); err != nil {
		return 0, fmt.Errorf("delete the permit: %w", err)
	}
	took, err := w.Wait(ctx)
	if err != nil {
		return 0, err
	}
	return slices.Max(took), nil
}
