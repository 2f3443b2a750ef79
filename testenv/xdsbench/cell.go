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
	Connects  int           // how often a whole fleet connects to each server; less often, but three times, when that takes long
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
	Load      string        `json:"load"`   // of the machine when it began
	InTurn    bool          `json:"inTurn"` // steps of both were made in turn, and not rampart's first
	Rampart   Side          `json:"rampart"`
	Limit     Side          `json:"limit"`
	Reconnect Return        `json:"reconnect"` // all connections cut at once
	LimitBack Return        `json:"limitBack"` // the same of the limit
	Restart   Return        `json:"restart"`   // the server killed, and started again
	Rollback  time.Duration `json:"rollback"`  // from the deletion of the permit to the last ACK of weight 0
	Problems  []string      `json:"problems,omitempty"`
}

// Return is how a fleet came back with all that it had.
type Return struct {
	Took      time.Duration    `json:"took"`      // until the last proxy had said what it has and had the running layer again, and the server had read it
	CPU       time.Duration    `json:"cpu"`       // of the server, per proxy
	Sim       time.Duration    `json:"sim"`       // of the simulator, per proxy
	Responses map[string]int64 `json:"responses"` // by type
	Bytes     int64            `json:"bytes"`     // of responses
	Peak      int64            `json:"peak"`      // bytes of memory that the server held at most, since the break or its start
	Expired   int64            `json:"expired"`   // times that a proxy's layers had no sign of life for longer than the dead-man's time
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
}

// measure measures rampart and the limit.
func (t *trial) measure(ctx context.Context) (err error) {
	t.tell("S = %d, N = %d", t.cell.Services, t.cell.Proxies)
	r := t.rampart
	defer func() { err = errors.Join(err, r.end()) }()
	if t.cell.Rampart.Ready, err = r.serve(ctx); err != nil {
		return err
	}
	world, err := capture(ctx, r.xds, t.cell.Services)
	if err != nil {
		return err
	}
	y, err := startYardstick(ctx, t.Self, r.folder, world)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.proc.Stop()) }()
	return t.compare(ctx, r, y)
}

// compare measures both servers with a fleet each, which are connected at the same time if this process may have so many connections.
func (t *trial) compare(ctx context.Context, r *rampart, y *yardstick) error {
	ours := subject{name: "rampart", xds: r.xds, pid: func() int { return r.proc.Pid() }, prepare: r.prepare, calm: 11 * time.Second}
	limit := subject{name: "limit", xds: y.xds, pid: y.proc.Pid, prepare: y.prepare, calm: 2 * time.Second}
	for _, of := range []subject{ours, limit} {
		if err := t.prelude(ctx, of); err != nil {
			return err
		}
	}
	beside := func(ctx context.Context, rampart ...*stepping) error {
		return t.with(ctx, limit, func(ctx context.Context, b *bench) error {
			if err := b.settle(ctx, &t.cell.Limit); err != nil {
				return err
			}
			return inTurn(ctx, t.steps, append(rampart, &stepping{bench: b, side: &t.cell.Limit})...)
		})
	}
	steps := func(ctx context.Context, s *stepping) error { return inTurn(ctx, t.steps, s) }
	if t.cell.InTurn = connectionsAllowed() >= 2*t.cell.Proxies; t.cell.InTurn {
		steps = func(ctx context.Context, s *stepping) error { return beside(ctx, s) }
	}
	if err := t.ofRampart(ctx, ours, y, steps); err != nil {
		return err
	}
	if !t.cell.InTurn {
		if err := beside(ctx); err != nil { // rampart's figures stand
			t.cell.Problems = append(t.cell.Problems, err.Error())
			return ctx.Err()
		}
	}
	if err := t.connectAgain(ctx, ours, limit); err != nil {
		t.cell.Problems = append(t.cell.Problems, "connect again: "+err.Error())
	}
	if err := t.limitBack(ctx, limit, y); err != nil {
		t.cell.Problems = append(t.cell.Problems, "limit: come back: "+err.Error())
	}
	return ctx.Err()
}

// ofRampart measures rampart, and shows the limit what a step is before any is measured.
func (t *trial) ofRampart(ctx context.Context, of subject, y *yardstick, measureSteps func(context.Context, *stepping) error) error {
	again := func() error { _, err := t.rampart.serve(ctx); return err } // it outlives the fleet
	return t.with(ctx, of, func(ctx context.Context, b *bench) error {
		if err := b.settle(ctx, &t.cell.Rampart); err != nil {
			return err
		}
		if err := t.rampart.begin(ctx); err != nil {
			return err
		}
		w, _, err := b.step(ctx, lowest-1)
		if err != nil {
			return err
		}
		y.carrier = w.Carrier()
		if err := measureSteps(ctx, &stepping{bench: b, side: &t.cell.Rampart}); err != nil {
			return err
		}
		if err := sleep(ctx, min(t.Rest, 2*time.Second)); err != nil { // the limit's fleet has just gone
			return err
		}
		return b.faults(ctx, t.rampart, again, &t.cell)
	})
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
func (b *bench) faults(ctx context.Context, r *rampart, again func() error, cell *Cell) error {
	weight, err := r.weight(ctx)
	if err != nil {
		return err
	}
	if cell.Reconnect, err = b.cutOff(ctx, weight); err != nil {
		return err
	}
	if weight, err = r.weight(ctx); err != nil { // a gap that was too long may have begun the release again
		return err
	}
	if cell.Restart, err = b.comeBack(ctx, weight, func() error {
		if err := r.proc.Kill(); err != nil {
			return err
		}
		return again()
	}); err != nil {
		// It is told, and what else was measured is not lost.
		cell.Problems = append(cell.Problems, "restart: "+err.Error())
	}
	b.tell("rampart: killed and restarted, %d proxies are back after %s, %d MiB at most; responses %v", b.n, round(cell.Restart.Took), cell.Restart.Peak>>20, cell.Restart.Responses)
	cell.Rollback, err = b.rollback(ctx, r)
	b.tell("rampart: the permit is deleted, the last of %d proxies answered weight 0 after %s", b.n, round(cell.Rollback))
	return err
}

// cutOff breaks all connections at once and measures until all proxies are back.
func (b *bench) cutOff(ctx context.Context, weight int) (Return, error) {
	back, err := b.comeBack(ctx, weight, func() error { b.fleet.Cut(); return nil })
	if err == nil {
		b.tell("%s: %d proxies were cut off and are back after %s, %s CPU each, %d MiB at most; responses %v", b.of.name, b.n, round(back.Took), round(back.CPU), back.Peak>>20, back.Responses)
	}
	return back, err
}

// comeBack measures from a break until every proxy has said all that it has, has got and answered the layer with this weight again, and the server has read all of that.
func (b *bench) comeBack(ctx context.Context, weight int, breaks func() error) (Return, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	before, pid := b.fleet.Counts(), b.of.pid()
	cpu, err := cpuOf(pid)
	if err != nil {
		return Return{}, err
	}
	forgetPeak(pid)
	own := ownCPU()
	w := b.fleet.Watch(weightKey(), float64(weight))
	if err := breaks(); err != nil {
		return Return{}, err
	}
	if b.of.pid() != pid {
		cpu = 0 // another process has nothing behind it
	}
	answered, err := w.Wait(ctx)
	if err != nil {
		return Return{}, err
	}
	own = ownCPU() - own
	took := slices.Max(answered)
	if calm, err := b.calmed(ctx); err != nil {
		return Return{}, err
	} else if !calm.IsZero() {
		took = calm.Sub(w.Started())
	}
	used, err := cpuOf(b.of.pid())
	if err != nil {
		return Return{}, err
	}
	_, peak, err := memoryOf(b.of.pid())
	after := b.fleet.Counts()
	back := Return{Took: took, Peak: peak, Expired: after.Expired - before.Expired, CPU: (used - cpu) / time.Duration(b.n), Sim: own / time.Duration(b.n), Bytes: after.ResponseBytes - before.ResponseBytes, Responses: map[string]int64{}}
	for typeURL, n := range after.Responses {
		if n -= before.Responses[typeURL]; n > 0 {
			back.Responses[typeURL[strings.LastIndexByte(typeURL, '.')+1:]] = n
		}
	}
	return back, err
}

// calmed waits until the server has read what clients have written: what the kernel holds for it may be a lot. It returns when that was, zero if nothing was left.
func (b *bench) calmed(ctx context.Context) (at time.Time, err error) {
	before, err := cpuOf(b.of.pid())
	for err == nil {
		if err := sleep(ctx, look); err != nil {
			return at, err
		}
		used := time.Duration(0)
		if used, err = cpuOf(b.of.pid()); used-before < look/5 {
			return at, err
		}
		before, at = used, time.Now()
	}
	return at, err
}

// look is how often it is looked whether a server is still busy: with more than a fifth of a core, which none uses at rest.
const look = 50 * time.Millisecond

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
