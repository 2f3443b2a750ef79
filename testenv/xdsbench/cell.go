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

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv/fleet"
)

// Config says what is measured.
type Config struct {
	Self      string        // the rampart binary
	Folder    string        // an empty one for everything
	Services  []int         // worlds
	Proxies   []int         // fleets, in each world
	Steps     int           // per cell
	Latency   int           // steps of the first fleet in each world, instead
	Envoys    int           // real ones, for RunReal
	Endpoints int           // of the backend that changes, for RunChurn
	Rest      time.Duration // from the last proxy connected until memory is read
	Pause     time.Duration // between steps
	Idle      time.Duration // over which the use at rest is told
	Tell      func(format string, args ...any)
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
	for _, services := range c.Services {
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
			t := trial{Config: c, rampart: r, steps: c.Steps, cell: Cell{Services: services, Proxies: proxies, Load: loadOf()}}
			if n == 0 {
				t.steps = max(t.steps, c.Latency)
			}
			if err := t.measure(ctx); err != nil {
				return errors.Join(fmt.Errorf("%d proxies of %d services: %w", proxies, services, err), r.stop())
			}
			done(t.cell)
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

// trial is the measurement of one cell.
type trial struct {
	Config
	rampart *rampart
	steps   int
	cell    Cell
	world   captured // what the limit is to send, as rampart sent it
	carrier []byte   // of a step
}

// measure measures rampart, then the limit.
func (t *trial) measure(ctx context.Context) error {
	t.tell("S = %d, N = %d: rampart", t.cell.Services, t.cell.Proxies)
	if err := errors.Join(t.measureRampart(ctx), t.rampart.end()); err != nil {
		return err
	}
	t.tell("S = %d, N = %d: limit", t.cell.Services, t.cell.Proxies)
	return t.measureLimit(ctx)
}

func (t *trial) measureRampart(ctx context.Context) error {
	r := t.rampart
	var err error
	if t.cell.Rampart.Ready, err = r.serve(ctx); err != nil {
		return err
	}
	if t.world, err = capture(ctx, r.xds, t.cell.Services); err != nil {
		return err
	}
	of := subject{name: "rampart", xds: r.xds, pid: func() int { return r.proc.Pid() }, prepare: r.prepare, calm: 11 * time.Second}
	if err := t.prelude(ctx, of); err != nil {
		return err
	}
	return t.with(ctx, of, func(ctx context.Context, b *bench) error {
		if err := b.connect(ctx, &t.cell.Rampart); err != nil {
			return err
		}
		if err := r.begin(ctx); err != nil {
			return err
		}
		w, _, err := b.step(ctx, lowest-1)
		if err != nil {
			return err
		}
		t.carrier = w.Carrier()
		if err := b.steps(ctx, &t.cell.Rampart, t.steps); err != nil {
			return err
		}
		return b.faults(ctx, r, &t.cell)
	})
}

func (t *trial) measureLimit(ctx context.Context) error {
	y, err := startYardstick(ctx, t.Self, t.rampart.folder, t.world)
	if err != nil {
		return err
	}
	y.carrier = t.carrier
	of := subject{name: "limit", xds: y.xds, pid: y.proc.Pid, prepare: y.prepare, calm: 2 * time.Second}
	if err := t.prelude(ctx, of); err != nil {
		return errors.Join(err, y.proc.Stop())
	}
	err = t.with(ctx, of, func(ctx context.Context, b *bench) error {
		if err := b.connect(ctx, &t.cell.Limit); err != nil {
			return err
		}
		return b.steps(ctx, &t.cell.Limit, t.steps)
	})
	return errors.Join(err, y.proc.Stop())
}

// prelude has a few proxies come and go, so that what the server holds for the world, whoever connects, is there before the first proxy that counts, and that
// it has given back what it no longer needs of its start.
func (t *trial) prelude(ctx context.Context, of subject) error {
	first := *t
	first.cell.Proxies = 200
	err := first.with(ctx, of, func(ctx context.Context, b *bench) error {
		wait, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		b.fleet.Connect(0)
		if _, err := b.fleet.Settled(wait); err != nil {
			return err
		}
		return sleep(ctx, min(t.Rest, of.calm))
	})
	if err != nil {
		return err
	}
	return sleep(ctx, min(t.Rest, of.calm))
}

// with measures a server with a fleet of its own.
func (t *trial) with(ctx context.Context, of subject, measure func(context.Context, *bench) error) error {
	f, err := fleet.New(fleet.Config{Server: of.xds, Clients: t.cell.Proxies, Gateway: gatewayName, Layers: layerNames()})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	err = measure(ctx, &bench{Config: t.Config, fleet: f, of: of, n: t.cell.Proxies})
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

// rollback measures from the deletion of a permit until every proxy has answered weight 0.
func (b *bench) rollback(ctx context.Context, r *rampart) (time.Duration, error) {
	s, err := served(ctx, r.client)
	if err != nil {
		return 0, err
	}
	if s.Release == nil {
		return 0, fmt.Errorf("take the release back: none runs: %+v", s.Last)
	}
	if s.Release.Phase != policy.Soaking {
		if err := r.climb(ctx); err != nil {
			return 0, err
		}
	}
	if _, _, err := b.step(ctx, lowest); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	w := b.fleet.Watch(weightKey(), 0)
	if _, err := r.client.Delete(ctx, store.Prefix+"permits/"+shop+"/"+s.Release.ID); err != nil {
		return 0, fmt.Errorf("delete the permit: %w", err)
	}
	took, err := w.Wait(ctx)
	if err != nil {
		return 0, fmt.Errorf("take the release back: %w", err)
	}
	return slices.Max(took), nil
}
