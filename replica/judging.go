package replica

import (
	"context"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/queries"
)

// judgeIfDue judges as often as proxies report. A clock that jumped back begins anew.
func (d *Deciding) judgeIfDue(now time.Time, w work) {
	elapsed := now.Sub(d.judged)
	switch due := d.serving.collector.Interval() - turnEvery/2; {
	case d.judged.IsZero() || elapsed < 0:
		elapsed = 0
	case elapsed < due:
		return
	}
	d.judged = now
	d.judge(now, elapsed, w)
}

// judge takes the reports of one turn and weighs them. On followers only the guard rail may act.
func (d *Deciding) judge(now time.Time, elapsed time.Duration, w work) {
	since := map[string]map[string]time.Time{}        // of those services that something was reported of
	reach := elapsed + d.serving.collector.Interval() // how far a report may reach back
	readings := d.serving.collector.Take(now, func(service, node string) bool {
		if _, known := since[service]; !known {
			since[service] = d.serving.steadySince(service)
		}
		at, held := since[service][node]
		return held && now.Sub(at) > reach
	})
	d.config.Queries.Want(d.wantedQueries(w))
	for _, name := range w.running {
		reading := readings[name]
		reading.Interval = elapsed
		reading.Missing = d.missing(name, now)
		reading.Queries = d.config.Queries.Take(now, name)
		d.weigh(name, reading)
	}
	d.forget(w)
}

// wantedQueries are what Prometheus is asked about running releases: only the leader asks, because only it judges them.
func (d *Deciding) wantedQueries(w work) []queries.Wanted {
	if d.lead == nil {
		return nil
	}
	var wanted []queries.Wanted
	for _, name := range w.running {
		v, _ := d.serving.view(name)
		if !v.served.Serves() || v.served.Release == nil || len(v.served.Service.Analysis.Queries) == 0 {
			continue
		}
		wanted = append(wanted, queries.Wanted{
			Service: name, Release: v.served.Release.ID, Queries: v.served.Service.Analysis.Queries,
			Live: v.served.Live.Ref, Candidate: v.served.Release.Candidate.Ref,
		})
	}
	return wanted
}

// missing counts the proxies that are connected, here or to another replica, and have not reported here lately.
func (d *Deciding) missing(name string, now time.Time) int {
	v, _ := d.serving.view(name)
	return max(0, d.mergedConnected(name, v, now)-d.serving.reporting(name, now))
}

// weigh judges one service's reading.
func (d *Deciding) weigh(name string, reading policy.Reading) {
	v, _ := d.serving.view(name)
	if !v.served.Serves() || v.served.Release == nil {
		return
	}
	t := d.track(name)
	d.judging[name] = struct{}{}
	served := t.present(v)
	if t.evidence == nil || t.evidence.Release != served.Release.ID {
		t.evidence = d.loadEvidence(name, served)
	}
	d.prepare(t, served)
	t.judgement = t.evidence.Take(reading, served)
	t.tape.record(served, policy.Record(d.judged, served, reading, t.judgement))
	d.metrics.judged(name, t.judgement)
	if d.lead == nil && t.judgement.Guarded && v.permitted() && !d.serving.latched(name, v.served) {
		d.serving.Rollback(name, policy.Rollback{Release: served.Release.ID, Reason: t.judgement.Reason, Numbers: t.judgement.Numbers})
	}
}

// loadEvidence goes on where the last leader stopped, or starts anew.
func (d *Deciding) loadEvidence(name string, served *policy.Served) *policy.Evidence {
	fresh := policy.NewEvidence(served.Release.ID, served.Service.Analysis)
	if d.lead == nil {
		return fresh
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	data, err := d.store.Evidence(ctx, name)
	if err != nil || len(data) == 0 {
		return fresh
	}
	stored, err := policy.LoadEvidence(data, served.Release.ID, served.Service.Analysis)
	if err != nil {
		d.log.Info("the judge starts anew", "service", name, "release", served.Release.ID, "reason", err.Error())
		return fresh
	}
	return stored
}

// forget drops the judges of releases that have ended.
func (d *Deciding) forget(w work) {
	for name := range d.judging {
		if _, running := slices.BinarySearch(w.running, name); running {
			continue
		}
		t := d.track(name)
		d.endTape(t)
		t.evidence = nil
		t.judgement = policy.Judgement{}
		d.metrics.unjudged(name)
		delete(d.judging, name)
	}
}

// storeEvidence keeps the judge's state beside the decision, without touching what is served.
func (d *Deciding) storeEvidence(ctx context.Context, name string, t *track, now time.Time) {
	if t.evidence == nil || now.Sub(t.stored) < evidenceEvery {
		return
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.store.SaveEvidence(short, d.lead.proof, name, encode(t.evidence)); err != nil {
		d.log.Warn("the judge's state could not be stored", "service", name, "err", err)
		d.lead.stall(d.config.Now(), err)
	}
	t.stored = now
}
