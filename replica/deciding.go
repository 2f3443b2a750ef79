package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/queries"
	"github.com/rampart-proxy/rampart/store"
)

// turnEvery is how often the deciding half looks at running releases (judge.md 2g).
const turnEvery = 250 * time.Millisecond

// Deciding is the half of a replica that judges. On the leader it decides about every service and saves; on every other replica it only keeps the guard rail
// over its own proxies' reports.
type Deciding struct {
	// Fixed after NewDeciding.
	serving *Serving
	store   *store.Store
	metrics *metrics
	config  DecidingConfig
	log     *slog.Logger

	// Owned by Run.
	tracks  map[string]*track
	judging map[string]struct{} // services with tracks of releases that were judged
	last    time.Time
	judged  time.Time // when the reports were last taken
	lead    *lead     // nil: follows
	tapes   []*tape

	mu      sync.Mutex
	reports map[string]store.Report // guarded by mu: the replicas' reports, ours among them
	lost    map[string]lostReplica  // guarded by mu
}

// DecidingConfig is what a deciding half works with.
type DecidingConfig struct {
	ID        string
	LeaderTTL time.Duration
	LeaseFile string
	Queries   *queries.Poller
	Now       func() time.Time
	Log       *slog.Logger
}

// lostReplica is a replica whose report is gone: its proxies count as connected and unconfirmed until no overlay of theirs can still be alive.
type lostReplica struct {
	report store.Report
	since  time.Time
}

// lead is one term of leadership.
type lead struct {
	proof   *store.Leadership
	gaps    map[string]bool // releases whose overlays may have expired before this term
	beaten  time.Time
	quiet   time.Time // since when only other replicas have this fleet's reports; zero: not
	stalled time.Time // etcd did not answer in time: it is not asked before, so that judging goes on
	over    string    // why to resign; empty: not yet

	alone    int                            // so many decisions are saved one by one, because together they could not be
	gateways int64                          // revision of the newest save of a gateway
	unseen   map[string]unseen              // by service: what was saved and the watch has yet to bring
	waiting  map[string]map[string]struct{} // by host: services whose newest documents, which are not accepted, want it
}

// unseen is a service's copy that was saved at a revision; nil: it is no longer served.
type unseen struct {
	served   *policy.Served
	revision int64
}

func newLead(proof *store.Leadership, gaps map[string]bool) *lead {
	return &lead{proof: proof, gaps: gaps, unseen: map[string]unseen{}, waiting: map[string]map[string]struct{}{}}
}

// NewDeciding makes a deciding half that follows until it is elected.
func NewDeciding(c DecidingConfig, s *Serving, m *metrics) *Deciding {
	return &Deciding{
		serving: s, store: s.store, metrics: m, config: c, log: c.Log,
		tracks: map[string]*track{}, judging: map[string]struct{}{}, reports: map[string]store.Report{}, lost: map[string]lostReplica{},
	}
}

// Run turns until ctx ends. Elections run beside it, so that a replica that waits for leadership goes on keeping the guard rail.
func (d *Deciding) Run(ctx context.Context) error {
	elected := make(chan *store.Leadership)
	over := make(chan struct{}, 1)
	go d.campaign(ctx, elected, over)
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.handOver()
			close(over)
			return nil
		case proof := <-elected:
			d.begin(ctx, proof)
		case <-d.lostLead():
			d.resign()
			d.end(over, "the lease may be lost")
		case <-d.serving.wake:
			d.turn(ctx, false)
		case <-tick.C:
			d.turn(ctx, true)
		}
		if d.lead != nil && d.lead.over != "" {
			d.resign()
			d.end(over, d.lead.over)
		}
	}
}

// lostLead is closed when this term may be over by our own clock; nil while there is none.
func (d *Deciding) lostLead() <-chan struct{} {
	if d.lead == nil {
		return nil
	}
	return d.lead.proof.Done()
}

// begin starts a term: the first beat, and the question whether overlays may have expired before it.
func (d *Deciding) begin(ctx context.Context, proof *store.Leadership) {
	now := d.config.Now()
	d.lead = newLead(proof, d.serving.gaps(now))
	d.log.Info("leads", "replica", d.config.ID)
	d.metrics.leads(true)
	clear(d.tracks)
	clear(d.judging)
	d.tapes = nil
	// After a gap a beat would prove weights that have expired, and bring them back until their releases have begun again.
	if len(d.lead.gaps) == 0 {
		d.beat(ctx, now)
	}
	d.serving.touchAll()
}

func (d *Deciding) end(over chan<- struct{}, why string) {
	d.log.Info("no longer leads", "replica", d.config.ID, "reason", why)
	d.metrics.leads(false)
	d.lead = nil
	d.serving.forgetNeeds()
	over <- struct{}{}
}

func (d *Deciding) resign() {
	if d.lead == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	d.endTapes(ctx)
	if err := d.lead.proof.Resign(ctx); err != nil {
		d.log.Warn("could not resign; the lease will run out", "err", err)
	}
}

// gaps lists the running releases whose overlays may have expired since the last beat: it is too old, or its time makes no sense.
func (s *Serving) gaps(now time.Time) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	gaps := map[string]bool{}
	since := now.Sub(time.UnixMilli(s.state.beat.At)).Abs()
	for _, name := range s.state.running() {
		deadman, _ := s.state.deadman(s.state.services[name].served)
		if deadman > 0 && since > deadman {
			gaps[s.state.services[name].served.Release.ID] = true
		}
	}
	return gaps
}

// touchAll makes the deciding half look at everything.
func (s *Serving) touchAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.state.services {
		s.dirty[name] = true
	}
	s.dirtyGw = true
	poke(s.wake)
}

// turn is one turn. A tick also takes the reports; between ticks only what the watch touched is looked at.
func (d *Deciding) turn(ctx context.Context, tick bool) {
	now := d.config.Now()
	elapsed := time.Duration(0)
	if tick {
		if !d.last.IsZero() {
			elapsed = now.Sub(d.last)
		}
		d.last = now
	}
	work := d.serving.work()
	if tick {
		d.judgeIfDue(now, work)
	}
	if d.lead == nil {
		return
	}
	for _, name := range work.running {
		d.convict(name)
	}
	if now.Before(d.lead.stalled) {
		d.serving.putBack(work)
		return
	}
	if work.gateways {
		d.decideGateways(ctx)
	}
	if !d.decideAll(ctx, work, turnInput{now: now, elapsed: elapsed}) {
		return
	}
	if tick {
		d.writeTapes(ctx, now)
		d.beatIfDue(ctx, now, work)
		d.yieldIfBlind(now, work)
	}
}

// beat proves to every replica that etcd and this leader live.
func (d *Deciding) beat(ctx context.Context, now time.Time) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	record := store.BeatRecord{At: now.UnixMilli(), Leader: d.config.ID}
	if err := d.store.Beat(short, d.lead.proof, record); err != nil {
		d.log.Warn("no heartbeat: overlays will expire if this goes on", "err", err)
		d.lead.stall(d.config.Now(), err)
		return
	}
	d.lead.beaten = now
	d.metrics.beat(now)
}

// beatIfDue beats while releases run, six times within the shortest dead-man's time.
func (d *Deciding) beatIfDue(ctx context.Context, now time.Time, w work) {
	if len(w.running) == 0 {
		return
	}
	every := min(max(w.deadman/6, turnEvery), time.Second)
	if now.Sub(d.lead.beaten) >= every-turnEvery/2 {
		d.beat(ctx, now)
	}
}

// blindFor is how long a leader may lack the reports that another replica has before it resigns in that one's favour.
const blindFor = 2 * time.Second

// yieldIfBlind resigns when releases run, no proxy of theirs is connected here, and another replica has them.
func (d *Deciding) yieldIfBlind(now time.Time, w work) {
	blind := false
	for _, name := range w.running {
		if d.serving.connected(name) > 0 {
			d.lead.quiet = time.Time{}
			return
		}
		blind = blind || d.elsewhere(name) > 0
	}
	switch {
	case !blind:
		d.lead.quiet = time.Time{}
	case d.lead.quiet.IsZero():
		d.lead.quiet = now
	case now.Sub(d.lead.quiet) >= blindFor:
		d.lead.over = "another replica has the reports"
	}
}

// elsewhere counts the proxies of a service that report to other replicas.
func (d *Deciding) elsewhere(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	count := 0
	for id, report := range d.reports {
		if id != d.config.ID {
			count += report.Releases[name].Reporting
		}
	}
	return count
}

// FollowReplicas keeps the other replicas' reports until ctx ends.
func (d *Deciding) FollowReplicas(ctx context.Context) error {
	return d.store.WatchReplicas(ctx, func(current map[string]store.Report) error {
		now := d.config.Now()
		d.mu.Lock()
		defer d.mu.Unlock()
		for id, report := range d.reports {
			if _, still := current[id]; !still && id != d.config.ID {
				d.lost[id] = lostReplica{report: report, since: now}
			}
		}
		for id := range current {
			delete(d.lost, id)
		}
		d.reports = current
		poke(d.serving.wake)
		return nil
	})
}

// saved looks at the outcome of a save. It reports whether this term may go on.
func (d *Deciding) saved(name string, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, store.ErrNotLeader):
		d.lead.over = "fenced: another replica leads"
		return false
	case errors.Is(err, store.ErrStale):
		// Something it was decided on has changed; the watch brings it, and the next turn decides anew.
		return true
	}
	d.log.Warn("a decision could not be saved; it is made again", "service", name, "err", err)
	d.lead.stall(d.config.Now(), err)
	return true
}

// patience is how long the deciding half waits for etcd, and how long it then leaves it alone: it has to judge every turn.
const patience = time.Second

// stall notes that etcd did not answer in time.
func (l *lead) stall(now time.Time, err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		l.stalled = now.Add(patience)
	}
}
