package replica

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// track is what the deciding half remembers of one service between turns.
type track struct {
	evidence  *policy.Evidence // nil: no release runs
	judgement policy.Judgement
	served    *policy.Served // with its times advanced since it was saved at mod
	mod       int64
	after     int64     // nothing is decided before the watch has delivered this revision
	stored    time.Time // when evidence was last stored
	timed     time.Time // when times were last saved
	alarm     string    // what a person must look at
	history   bool      // it is known that the service has none
	cause     string    // why the release was taken back, if this replica knows
}

// work is what one turn has to look at.
type work struct {
	dirty    map[string]bool
	running  []string
	gateways bool
	deadman  time.Duration // the shortest of all gateways of running releases
}

// names lists the services to decide about, sorted.
func (w work) names() []string {
	all := maps.Clone(w.dirty)
	for _, name := range w.running {
		all[name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// work takes what has changed since it was last called.
func (s *Serving) work() work {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := work{dirty: s.dirty, running: s.state.running(), gateways: s.dirtyGw}
	s.dirty, s.dirtyGw = map[string]bool{}, false
	for _, name := range w.running {
		if d := s.state.deadman(s.state.services[name].served); d > 0 && (w.deadman == 0 || d < w.deadman) {
			w.deadman = d
		}
	}
	return w
}

// again makes the deciding half look at a service in its next turn, too.
func (s *Serving) again(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[name] = true
}

// deadman is the shortest dead-man's time of a service's gateways; 0 when one has none at all.
func (s *state) deadman(served *policy.Served) time.Duration {
	gateways := s.servedGateways()
	shortest := time.Duration(0)
	for _, name := range served.Service.Gateways {
		g, ok := gateways[name]
		if !ok || g.Deadman == nil || *g.Deadman == 0 {
			continue
		}
		if d := time.Duration(*g.Deadman); shortest == 0 || d < shortest {
			shortest = d
		}
	}
	return shortest
}

// view copies what a decision about one service reads.
func (s *Serving) view(name string) (service, *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := *s.state.service(name)
	v.permits = maps.Clone(v.permits)
	return v, s.state
}

func (d *Deciding) track(name string) *track {
	t := d.tracks[name]
	if t == nil {
		t = &track{}
		d.tracks[name] = t
	}
	return t
}

// forget drops what was found about the service's last release: a new one that begins before the next tick must not be judged by it.
func (t *track) forget() { t.evidence, t.judgement, t.cause = nil, policy.Judgement{}, "" }

// about is the judgement of one release: what was found about the one before it convicts nobody.
func (t *track) about(release string) policy.Judgement {
	if t.evidence == nil || t.evidence.Release != release {
		return policy.Judgement{Reason: "nothing is known yet", Lacks: "the first reports"}
	}
	return t.judgement
}

// present is the served state with its times as they are now: ours, if nobody has saved since.
func (t *track) present(v service) *policy.Served {
	if t.served != nil && t.mod == v.servedMod {
		return t.served
	}
	return v.served
}

// turnInput is what one turn knows of time.
type turnInput struct {
	now     time.Time
	elapsed time.Duration
}

// decide takes one decision about one service and carries it out. It reports whether this term may go on.
func (d *Deciding) decide(ctx context.Context, name string, in turnInput) bool {
	v, st := d.serving.view(name)
	t := d.track(name)
	if t.after > st.revisionNow(d.serving) {
		d.serving.again(name)
		return true
	}
	turn := d.read(name, v, in)
	decision := policy.Decide(turn)
	d.alarm(name, decision.Alarm)
	if decision.CreatePermit != "" {
		t.forget()
	}
	if decision.Rollback != nil {
		t.cause = decision.Rollback.Reason
		d.serving.Rollback(name, *decision.Rollback)
		return true
	}
	if decision.Save || decision.Delete || decision.DropOrder || t.timesDue(decision.Served, in.now) {
		return d.save(ctx, d.saveOf(name, v, turn, decision), in.now)
	}
	t.served, t.mod = decision.Served, v.servedMod
	d.lead.bridged(decision.Served)
	d.storeEvidence(ctx, name, t, in.now)
	return true
}

// bridged notes that a release has been decided about in this term: a gap before it has had its effect.
func (l *lead) bridged(served *policy.Served) {
	if served != nil && served.Release != nil {
		delete(l.gaps, served.Release.ID)
	}
}

// revisionNow reads the newest revision under its lock.
func (s *state) revisionNow(owner *Serving) int64 {
	owner.mu.Lock()
	defer owner.mu.Unlock()
	return s.revision
}

// read gathers everything one decision depends on.
func (d *Deciding) read(name string, v service, in turnInput) policy.Turn {
	t := d.track(name)
	turn := policy.Turn{
		Now: in.now, Elapsed: in.elapsed, Served: t.present(v), Wish: v.wish, Permit: v.permitted(), Paused: v.paused, Order: v.order,
		Orphan: v.servedMod == 0 && (v.served != nil || len(v.permits) > 0 || d.hadHistory(name, v)),
	}
	d.serving.mu.Lock()
	turn.Revision = d.serving.state.revision
	if v.served.Serves() {
		turn.Deadman = d.serving.state.deadman(v.served)
	}
	if v.docMod > 0 && (!v.served.Serves() || v.served.Accepted != v.docMod) {
		turn.Around = d.serving.state.around(name)
	}
	d.serving.mu.Unlock()
	if v.served.Serves() && v.served.Release != nil {
		release := v.served.Release
		turn.Fleet = d.mergedFleet(name, v, in.now)
		turn.Gap = d.lead.gaps[release.ID]
		turn.Judgement = t.about(release.ID)
		turn.Cause = d.causeOf(name, v)
	}
	return turn
}

// hadHistory asks once whether a service that serves nothing ever served something.
func (d *Deciding) hadHistory(name string, v service) bool {
	t := d.track(name)
	if t.history || v.docMod == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	lines, err := d.store.History(ctx, name, 1)
	if err != nil || (len(lines) > 0 && lines[0].Event != "stopped") {
		return true
	}
	t.history = true
	return false
}

// causeOf says why a permit is gone: what this replica knows, or what another recorded.
func (d *Deciding) causeOf(name string, v service) string {
	if v.permitted() || v.served.Release.Phase == policy.RollingBack {
		return ""
	}
	if t := d.track(name); t.cause != "" {
		return t.cause
	}
	for _, entry := range d.serving.latch.All() {
		if entry.Service == name && entry.Release == v.served.Release.ID {
			return entry.Reason
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	records, err := d.store.Rollbacks(ctx, name)
	if err != nil {
		return ""
	}
	for _, record := range records {
		if record.Release == v.served.Release.ID {
			return record.Reason
		}
	}
	return ""
}

// mergedFleet adds what other replicas report of a service's proxies to what is connected here. A report about an older state confirms nothing, and the
// proxies of a lost replica stay in the count until no overlay of theirs can be alive.
func (d *Deciding) mergedFleet(name string, v service, now time.Time) policy.Fleet {
	fleet := d.serving.fleet(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, report := range d.reports {
		if id == d.config.ID {
			continue
		}
		part := report.Releases[name].Fleet
		fleet.Connected += part.Connected
		if report.Applied >= v.servedMod {
			fleet.Confirmed += part.Confirmed
			fleet.Ready += part.Ready
		}
		fleet.Rejected += part.Rejected
		fleet.Waiting = append(fleet.Waiting, part.Waiting...)
		if part.LastAck.After(fleet.LastAck) {
			fleet.LastAck = part.LastAck
		}
	}
	for id, gone := range d.lost {
		if now.Sub(gone.since) > d.config.deadmanOf(d.serving, v) {
			delete(d.lost, id)
			continue
		}
		fleet.Connected += gone.report.Releases[name].Fleet.Connected
	}
	fleet.Waiting = fleet.Waiting[:min(len(fleet.Waiting), maxWords)]
	return fleet
}

func (c DecidingConfig) deadmanOf(s *Serving, v service) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.deadman(v.served)
}
