package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// lanesFor is how many connections users keep. All Envoys share one port, and the kernel draws for each connection which of them accepts it: with 16 for each of
// n Envoys, one of them stays without any with a probability of about n·e^-16. That all get some is checked.
func lanesFor(proxies int) int { return 16 * proxies }

// stageConfig says how a stage is set up.
type stageConfig struct {
	rate    float64
	proxies int  // 0: as many as the demo has
	quiet   bool // standard output is for machines: what happens is told on standard error
}

// stage is a fleet under load, and what is seen of it from outside: through etcd, the Envoys' admin pages and the users' eyes.
type stage struct {
	// Fixed after newStage.
	app   *app
	fleet *fleet
	load  *testenv.Load // fixed before the first act
	quiet bool

	mu      sync.Mutex
	picture picture        // guarded by mu: the newest
	changed chan struct{}  // guarded by mu: closed when the picture changes, and replaced
	heading string         // guarded by mu: the act that is played
	before  testenv.Totals // guarded by mu: what users had seen when it began
	drawn   *frame         // guarded by mu: the live view, nil where there is none
	notes   []string       // guarded by mu: for the live view
}

func newStage(a *app, f *fleet, c stageConfig) *stage {
	s := &stage{app: a, fleet: f, quiet: c.quiet, changed: make(chan struct{})}
	load, err := testenv.NewLoad(testenv.LoadConfig{
		Targets: []string{loopback(f.ports.users)}, Host: demoHost, Rate: c.rate, Lanes: lanesFor(f.proxies),
	})
	if err != nil {
		panic(err) // a rate above 0 and one target are all it asks for
	}
	s.load = load
	if a.screen.live && !c.quiet {
		s.drawn = newFrame(a)
	}
	return s
}

// run sends load and watches while something is played, and ends with it.
func (s *stage) run(ctx context.Context, play func(context.Context, *stage) error) error {
	group, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancel(ctx)
	group.Go(func() error { return s.load.Run(ctx) })
	group.Go(func() error {
		if err := s.watch(ctx); ctx.Err() == nil {
			return fmt.Errorf("watch %s: %w", demoService, err)
		}
		return nil
	})
	group.Go(func() error {
		defer end()
		if err := s.ready(ctx); err != nil {
			return err
		}
		return play(ctx, s)
	})
	return group.Wait()
}

// watch follows the service as `rampart watch` does.
func (s *stage) watch(ctx context.Context) error {
	p, err := s.app.look(ctx, s.fleet.store, demoService)
	if err != nil {
		return err
	}
	w := &watcher{app: s.app, store: s.fleet.store, picture: p, show: s.see}
	return w.run(ctx, demoService)
}

// see takes the newest picture. It is called by watch only.
func (s *stage) see(p picture, fresh []store.Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.picture.service == nil
	s.picture = p
	close(s.changed)
	s.changed = make(chan struct{})
	switch {
	case s.drawn != nil:
		s.draw()
	case !first:
		for _, l := range fresh {
			s.print(timeText(l.Time, p.now) + "  " + l.Text)
		}
	}
}

// print writes one line about what happens. The caller holds mu.
func (s *stage) print(line string) {
	if s.quiet {
		s.app.complain(clean(line))
		return
	}
	s.app.say("%s", clean(line))
}

// note tells what the demo itself does.
func (s *stage) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.app.now()
	line := timeText(now, now) + "  " + fmt.Sprintf(format, args...)
	if s.drawn == nil || s.picture.service == nil {
		s.print(line)
		return
	}
	s.notes = append(s.notes, line)
	s.draw()
}

// draw shows the act, the service, and what users see. The caller holds mu.
func (s *stage) draw() {
	screen := s.app.screen
	screen.width = screen.widthNow()
	lines := []string{screen.paint(bold, screen.fit(s.heading)), ""}
	lines = append(lines, s.picture.view(screen)...)
	lines = append(lines, "", screen.fit(usersText(s.load.Totals().Minus(s.before), s.load.Seconds(1))))
	for _, note := range s.notes[max(0, len(s.notes)-shownNotes):] {
		lines = append(lines, screen.paint(faint, screen.fit(clean(note))))
	}
	s.drawn.replace(lines)
}

const shownNotes = 4

// usersText is what users saw: in the last second, and since the act began.
func usersText(since testenv.Totals, last []testenv.Second) string {
	rate := testenv.Count{}
	if len(last) > 0 {
		rate = last[0].Count
	}
	return fmt.Sprintf("  users      %d req/s, %d failed in the last second; in this act %d requests, %d failed; p99 %s",
		rate.Requests, rate.Failed, since.Requests, since.Failed, since.Latency.Quantile(0.99).Round(time.Millisecond))
}

// curtain ends the live view, so that what follows stands below it.
func (s *stage) curtain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn = nil
}

// announce begins an act.
func (s *stage) announce(heading string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heading, s.notes, s.before = heading, nil, s.load.Totals()
	if s.drawn == nil {
		s.print("")
		s.print(heading)
	}
}

// now is the newest picture, and what is closed when there is a newer one.
func (s *stage) now() (picture, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.picture, s.changed
}

// until waits for a condition of the picture, and fails with what is to be seen when it does not come in time.
func (s *stage) until(ctx context.Context, what string, holds func(picture) bool) error {
	return s.untilWithin(ctx, fleetTimeout, what, holds)
}

func (s *stage) untilWithin(ctx context.Context, within time.Duration, what string, holds func(picture) bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		p, changed := s.now()
		if p.service != nil && holds(p) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("waited %s in vain for %s: %s", within, what, p.said())
			}
			return ctx.Err()
		}
	}
}

// said is the picture in one line, also before there is one.
func (p picture) said() string {
	if p.service == nil {
		return "nothing is to be seen of the service"
	}
	lines := p.why()
	return strings.Join(lines[:min(len(lines), 2)], " ")
}

// ready waits until the service is to be seen and every Envoy carries a part of the load.
func (s *stage) ready(ctx context.Context) error {
	if err := s.until(ctx, "the service to be served", func(p picture) bool { return p.service.served.Serves() }); err != nil {
		return err
	}
	for _, e := range s.fleet.envoys {
		wait, cancel := context.WithTimeout(ctx, fleetTimeout)
		err := testenv.Eventually(wait, func() (bool, error) { return loaded(wait, e) })
		cancel()
		if err != nil {
			return fmt.Errorf("wait for %s to get its part of the load: %w", e.ID, err)
		}
	}
	return nil
}

// loaded reports whether an Envoy has sent users' requests to model servers. Its page of clusters counts them, whatever statistics it keeps.
func loaded(ctx context.Context, e *testenv.Envoy) (bool, error) {
	page, err := e.Admin(ctx, "/clusters")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(page)) {
		parts := strings.Split(strings.TrimSpace(line), "::")
		if len(parts) == 4 && strings.HasPrefix(parts[0], demoService+"/") && parts[2] == "rq_success" && parts[3] != "0" {
			return true, nil
		}
	}
	return false, nil
}

// confirmedAt reports whether a release is confirmed at a weight, or at one above it.
func confirmedAt(p picture, weight policy.Weight) bool {
	r := p.service.release()
	return r != nil && r.Weight >= weight && (r.Phase == policy.Soaking || r.Phase == policy.Baking)
}
