package replica

import (
	"context"
	"encoding/json"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

const (
	reportEvery   = 250 * time.Millisecond // when something changed
	reportRefresh = time.Second            // while releases run, so that times stay fresh
	reportIdle    = 10 * time.Second
)

// Reporting tells the other replicas and the operators' tools what this replica's proxies have accepted, under replicas/<id>.
type Reporting struct {
	Serving *Serving
	ID      string
	HTTP    string        // address of this replica's read-only HTTP listener
	TTL     time.Duration // of the key when this replica dies
}

// Run publishes until ctx ends. An etcd that does not answer is only logged: what proxies hold does not depend on it.
func (r Reporting) Run(ctx context.Context) error {
	var last string
	var at time.Time
	for sleep(ctx, reportEvery) {
		now := r.Serving.now()
		report := r.report(now)
		said := fingerprint(report)
		refresh := reportIdle
		if len(report.Releases) > 0 {
			refresh = reportRefresh
		}
		if said == last && now.Sub(at) < refresh {
			continue
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := r.Serving.store.PublishReport(short, r.ID, r.TTL, report)
		cancel()
		if err != nil {
			r.Serving.log.Warn("other replicas do not see this one's proxies", "err", err)
			continue
		}
		last, at = said, now
	}
	return nil
}

func (r Reporting) report(now time.Time) store.Report {
	s := r.Serving
	s.mu.Lock()
	running := s.state.running()
	releases := map[string]store.ReleaseReport{}
	for _, name := range running {
		releases[name] = store.ReleaseReport{Release: s.state.services[name].served.Release.ID, Moved: s.renderer.Moved(name)}
	}
	report := store.Report{ID: r.ID, HTTP: r.HTTP, Applied: s.state.revision, At: now.UnixMilli(), Releases: releases}
	s.mu.Unlock()
	for _, name := range running {
		entry := releases[name]
		entry.Fleet = s.fleet(name)
		entry.Reporting = s.reporting(name, now)
		releases[name] = entry
	}
	report.Proxies = s.xds.Connected()
	report.Alarms = s.alarms()
	return report
}

// reporting counts the proxies that serve a service and were heard from lately. A gRPC client tells only of what it has sent requests to, so that it uses a service is
// known from what it subscribed to.
func (s *Serving) reporting(name string, now time.Time) int {
	s.mu.Lock()
	confirmed := s.renderer.Confirmed(name)
	s.mu.Unlock()
	count := len(s.collector.Reporting(name, now))
	for group, want := range confirmed {
		if !envoy.OfClients(group) {
			continue
		}
		for node, streams := range s.xds.Concerned(group, want) {
			if s.collector.Hears(node, now) {
				count += streams
			}
		}
	}
	return count
}

// fingerprint is a report without what changes by itself: its time, how long proxies have been silent, and the revision.
func fingerprint(report store.Report) string {
	report.At, report.Applied = 0, 0
	plain := map[string]store.ReleaseReport{}
	for name, entry := range report.Releases {
		waiting := append([]policy.ProxyWords(nil), entry.Fleet.Waiting...)
		for i := range waiting {
			waiting[i].Silent = 0
		}
		entry.Fleet.Waiting = waiting
		plain[name] = entry
	}
	report.Releases = plain
	data, err := json.Marshal(report)
	if err != nil {
		return ""
	}
	return string(data)
}
