package replica

import (
	"context"
	"maps"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
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
	history   bool      // it is known that the service has none
	asked     bool      // past is known
	past      *store.Line
	cause     string // why the release was taken back, if this replica knows
	tape      *tape  // nil: nothing is being recorded
	wish      policy.Wish
	hosts     []string // that it had when it was last decided about
	stale     int      // decisions in a row that something had changed under
}

// work is what one turn has to look at.
type work struct {
	dirty    map[string]bool
	running  []string
	gateways bool
	deadman  time.Duration // the shortest of all gateways of running releases
}

// mostDirty is how many changed services a turn takes on. More than there is time for would only be carried back and forth.
const mostDirty = 500

// work takes what has changed since it was last called, or as much of it as a turn takes on.
func (s *Serving) work() work {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := work{dirty: s.dirty, running: s.state.running(), gateways: s.dirtyGw}
	s.dirtyGw = false
	if len(s.dirty) <= mostDirty {
		s.dirty = map[string]bool{}
	} else {
		w.dirty = s.someDirty()
		poke(s.wake)
	}
	for _, name := range w.running {
		if d, _ := s.state.deadman(s.state.services[name].served); d > 0 && (w.deadman == 0 || d < w.deadman) {
			w.deadman = d
		}
	}
	return w
}

// someDirty takes mostDirty of the changed services, any of them. The caller holds mu.
func (s *Serving) someDirty() map[string]bool {
	some := make(map[string]bool, mostDirty)
	for name := range s.dirty {
		if len(some) == mostDirty {
			break
		}
		some[name] = true
		delete(s.dirty, name)
	}
	return some
}

// putBack has what a turn did not get to looked at in the next.
func (s *Serving) putBack(w work) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range w.dirty {
		s.dirty[name] = true
	}
	s.dirtyGw = s.dirtyGw || w.gateways
}

// again makes the deciding half look at a service in its next turn, too.
func (s *Serving) again(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[name] = true
}

// deadman is the shortest dead-man's time of a service's gateways that have one, and the longest; longest is 0 when the proxies of one never go back by themselves.
func (s *state) deadman(served *policy.Served) (shortest, longest time.Duration) {
	endless := false
	for _, name := range served.Service.Gateways {
		g, ok := s.gatewayServed(name)
		if !ok || g.Deadman == nil || *g.Deadman == 0 {
			endless = true
			continue
		}
		d := time.Duration(*g.Deadman)
		longest = max(longest, d)
		if shortest == 0 || d < shortest {
			shortest = d
		}
	}
	if endless {
		longest = 0
	}
	return shortest, longest
}

// view copies what a decision about one service reads, and the revision up to which the watch has come.
func (s *Serving) view(name string) (service, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := *s.state.service(name)
	v.permits = maps.Clone(v.permits)
	return v, s.state.revision
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

// newest is the newest document, parsed once for as long as it is not accepted.
func (t *track) newest(name string, v service) policy.Wish {
	if v.docMod == 0 || v.accepted() || t.wish.Mod != v.docMod {
		t.wish = v.wish(name)
	}
	return t.wish
}

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

// staleMost is how often in a row a document may change while it is decided about. Then the one that was read is accepted all the same, if that moves no traffic: its
// endpoints change all the time, and a copy that is a moment old is better than none.
const staleMost = 3

// turnInput is what one turn knows of time.
type turnInput struct {
	now     time.Time
	elapsed time.Duration
}

// decide takes one decision about one service and carries it out. It reports whether this term may go on.
func (d *Deciding) decide(ctx context.Context, name string, in turnInput) bool {
	if save, due := d.think(ctx, name, in); due {
		return d.save(ctx, save, in.now)
	}
	return true
}

// think takes one decision about one service and carries out all of it but the save, if one is due.
func (d *Deciding) think(ctx context.Context, name string, in turnInput) (save store.Save, due bool) {
	v, revision := d.serving.view(name)
	t := d.track(name)
	if t.after > revision || d.lead.gateways > revision && v.docMod > 0 && !v.accepted() {
		// The watch has yet to bring what was saved last, or the gateways that a document may name.
		d.serving.again(name)
		return save, false
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
		return save, false
	}
	if decision.Save || decision.Delete || decision.DropOrder || !turn.Orphan && t.timesDue(decision.Served, in.now) {
		save = d.saveOf(name, v, turn, decision)
		save.AnyWish = t.stale >= staleMost && !v.releasing() && decision.CreatePermit == "" && !decision.Delete
		return save, true
	}
	t.served, t.mod = decision.Served, v.servedMod
	d.lead.bridged(decision.Served)
	d.storeEvidence(ctx, name, t, in.now)
	return save, false
}

// convict takes back a bad release from memory: that must not wait for etcd.
func (d *Deciding) convict(name string) {
	v, _ := d.serving.view(name)
	t := d.track(name)
	served := t.present(v)
	if !served.Serves() || served.Release == nil || v.permits[served.Release.ID] == 0 || t.cause != "" {
		return // there is nothing to take back, or it is taken back already
	}
	release := served.Release.ID
	if found := t.about(release); found.Verdict == policy.Unhealthy && !d.serving.latched(name, served) {
		t.cause = found.Reason
		d.serving.Rollback(name, policy.Rollback{Release: release, Reason: found.Reason, Numbers: found.Numbers})
	}
}

// bridged notes that a release has been decided about in this term: a gap before it has had its effect.
func (l *lead) bridged(served *policy.Served) {
	if served != nil && served.Release != nil {
		delete(l.gaps, served.Release.ID)
	}
}

// read gathers everything one decision depends on.
func (d *Deciding) read(name string, v service, in turnInput) policy.Turn {
	t := d.track(name)
	t.hosts = hosts(v.served)
	turn := policy.Turn{
		Now: in.now, Elapsed: in.elapsed, Served: t.present(v), Wish: t.newest(name, v), Permit: v.permitted(), Paused: v.paused, Order: v.order,
		Orphan: d.orphan(name, v), Restore: v.restore,
	}
	d.serving.mu.Lock()
	turn.Revision = d.serving.state.revision
	if v.served.Serves() {
		_, turn.Deadman = d.serving.state.deadman(v.served)
	}
	d.serving.mu.Unlock()
	if v.docMod > 0 && !v.accepted() {
		turn.Around = d.around(name, t, turn)
	}
	if v.served.Serves() && v.served.Release != nil {
		release := v.served.Release
		turn.Fleet = d.mergedFleet(name, v, in.now)
		turn.Gap = d.lead.gaps[release.ID]
		turn.Judgement = t.about(release.ID)
		turn.Cause = d.causeOf(name, v)
	}
	return turn
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	longest, moved := d.serving.standingOf(name, v)
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, report := range d.reports {
		if id == d.config.ID {
			continue
		}
		part := report.Releases[name].Fleet
		fleet.Connected += part.Connected
		if report.Applied >= moved {
			fleet.Confirmed += part.Confirmed
			fleet.Ready += part.Ready
		}
		fleet.Rejected += part.Rejected
		fleet.Slow += part.Slow
		fleet.Waiting = append(fleet.Waiting, part.Waiting...)
		if part.LastAck.After(fleet.LastAck) {
			fleet.LastAck = part.LastAck
		}
	}
	fleet.Connected += d.lostProxies(name, now, longest)
	fleet.Waiting = fleet.Waiting[:min(len(fleet.Waiting), maxWords)]
	return fleet
}

// mergedConnected is a merged fleet's Connected, without a look at how far it has come.
func (d *Deciding) mergedConnected(name string, v service, now time.Time) int {
	connected := d.serving.connected(name)
	longest, _ := d.serving.standingOf(name, v)
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, report := range d.reports {
		if id != d.config.ID {
			connected += report.Releases[name].Fleet.Connected
		}
	}
	return connected + d.lostProxies(name, now, longest)
}

// lostProxies counts the proxies of lost replicas whose overlays may still be alive, and forgets the replicas of which none can be. The caller holds mu.
func (d *Deciding) lostProxies(name string, now time.Time, longest time.Duration) (connected int) {
	for id, gone := range d.lost {
		if gone.over(now, longest) {
			delete(d.lost, id)
			continue
		}
		connected += gone.report.Releases[name].Fleet.Connected
	}
	return connected
}

// withoutSwitch is how long the proxies of a lost replica count when they have no dead-man's switch: other replicas have them long before.
const withoutSwitch = time.Minute

// over reports whether no overlay of a lost replica's proxies can still be alive.
func (l lostReplica) over(now time.Time, deadman time.Duration) bool {
	if deadman == 0 {
		deadman = withoutSwitch
	}
	return now.Sub(l.since) > deadman
}

// standingOf returns the longest dead-man's time of a service, and the revision that another replica must have published for its word to be about what is served now.
func (s *Serving) standingOf(name string, v service) (longest time.Duration, moved int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, longest = s.state.deadman(v.served)
	return longest, s.renderer.Moved(name)
}
