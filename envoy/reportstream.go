package envoy

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

var (
	errLate    = errors.New("of a cluster that is not asked for any more")
	errDoubled = errors.New("it was counted already")
)

// reportStream is one proxy's stream of load reports. Collector.mu guards what may change.
type reportStream struct {
	number        uint64 // fixed
	node, gateway string // fixed
	wake          chan struct{}
	done          chan struct{} // closed when the stream ends

	asked    bool          // an order was sent
	interval time.Duration // that was asked for
	listed   map[string]*listing
	heard    time.Time           // of the last report
	refused  map[string]struct{} // why reports were not counted, so that each reason is logged once
}

// listing is a cluster that a proxy is asked about.
type listing struct {
	fresh bool          // nothing has come of it since it was listed or changed
	first bool          // nothing has come of it on this stream
	last  clusterReport // the last one counted
	at    time.Time     // when it came
}

// ask notes an order, and reports whether it must be sent. Clusters that stay listed go on counting; new ones start from zero, somewhere within an interval.
func (s *reportStream) ask(clusters []string, interval time.Duration) bool {
	if s.asked && s.interval == interval && slices.Equal(clusters, slices.Sorted(maps.Keys(s.listed))) {
		return false
	}
	listed := make(map[string]*listing, len(clusters))
	for _, cluster := range clusters {
		listed[cluster] = s.listed[cluster]
		if listed[cluster] == nil {
			listed[cluster] = &listing{fresh: true, first: true}
		}
	}
	s.asked, s.interval, s.listed = true, interval, listed
	return true
}

// covers reports whether the proxy is asked about both sides of a release.
func (s *reportStream) covers(w Wanted) bool {
	return s.listed[w.LivePool] != nil && s.listed[w.CandidatePool] != nil && !s.heard.IsZero()
}

// refuse logs that something is not counted, once per stream and reason. Late reports are usual: one is under way whenever an order changes.
func (s *reportStream) refuse(log *slog.Logger, cluster string, reason error) {
	if _, known := s.refused[reason.Error()]; known {
		return
	}
	if s.refused == nil {
		s.refused = map[string]struct{}{}
	}
	s.refused[reason.Error()] = struct{}{}
	if errors.Is(reason, errLate) {
		log.Debug("a load report is not counted", "proxy", s.node, "reason", reason, "cluster", cluster)
		return
	}
	log.Warn("a load report is not counted", "proxy", s.node, "err", reason)
}

// repeats reports whether r is the report before, come again: no interval, which is in nanoseconds, is ever like another, and a new one is not over that early.
func (l *listing) repeats(r clusterReport, now time.Time) bool {
	return !l.at.IsZero() && r == l.last && r.counts != policy.Counts{} && now.Sub(l.at) < r.interval/2
}

func (l *listing) note(r clusterReport, now time.Time) {
	l.fresh, l.first, l.last, l.at = false, false, r, now
}

// tally is what came of one service since the last Take.
type tally struct {
	unsettled bool
	nodes     map[uint64]*share // by stream, for two proxies may have one node id
}

// share is one proxy's part of it.
type share struct {
	node            string
	live, candidate policy.Counts
	interval        time.Duration // the longest
	odd             bool          // something in it reaches back further than it should
}

// add counts a report. The first of a cluster after it was listed may cover a part of an interval, and after a reconnection much more than one: it counts, but what
// an arm should have got in that time is not known. A late one reaches further back than weights are remembered.
func (t *tally) add(s *reportStream, listed *listing, to pledge, r clusterReport) {
	one := t.nodes[s.number]
	if one == nil {
		one = &share{node: s.node}
		t.nodes[s.number] = one
	}
	t.unsettled = t.unsettled || listed.fresh
	one.odd = one.odd || listed.first || r.interval > 2*s.interval
	one.interval = max(one.interval, r.interval)
	if to.candidate {
		one.candidate = one.candidate.Add(r.counts)
		return
	}
	one.live = one.live.Add(r.counts)
}

// reading adds the tally to a reading. A report is steady if its proxy was for as long as it reaches back; since tells from when on.
func (t *tally) reading(r policy.Reading, now time.Time, since map[string]time.Time) policy.Reading {
	r.Unsettled = t.unsettled
	for _, one := range t.nodes {
		r.Live, r.Candidate = r.Live.Add(one.live), r.Candidate.Add(one.candidate)
		at, steady := since[one.node]
		if steady && !one.odd && now.Sub(at) >= one.interval-fastest {
			r.SteadyLive, r.SteadyCandidate = r.SteadyLive.Add(one.live), r.SteadyCandidate.Add(one.candidate)
		}
	}
	return r
}
