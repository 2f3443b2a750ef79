package envoy

import (
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rampart-proxy/rampart/policy"
)

var (
	errLate    = errors.New("of a cluster that is not asked for any more")
	errDoubled = errors.New("it was counted already")
)

// reportStream is one proxy's stream of load reports. Collector.mu guards what may change.
type reportStream struct {
	number        uint64            // fixed
	node, gateway string            // fixed
	blind         bool              // fixed: its reports leave out refused connections while nothing else is tried (envoy-measured.md §2)
	client        bool              // fixed: of a gRPC client (clientreport.go)
	stream        grpc.ServerStream // fixed
	telling       sync.WaitGroup    // who sends its orders

	told     bool          // somebody sends its orders
	ended    bool          // no orders any more
	lot      uint64        // its place in the roster
	slow     bool          // it is not in the sample
	asked    time.Duration // interval that was ordered; 0: none yet
	since    time.Time     // when it was
	clusters []string      // that were ordered
	ordered  time.Duration // the interval in the one order that a client takes; 0: it has none yet
	listed   map[string]*listing
	heard    time.Time // of the last report
	complaints
}

// listing is a cluster that a proxy is asked about.
type listing struct {
	fresh   bool          // nothing has come of it since it was listed or changed
	first   bool          // nothing has come of it on this stream
	sampled bool          // what comes of it counts with the sample's
	last    clusterReport // the last one counted
	at      time.Time     // when it came
	due     time.Time     // when it was to come, as those say that came fastest
	busy    time.Time     // when the first success came in this release
	active  uint64        // tries in progress by the newest report
	unseen  unseen
}

// ask notes an order. Clusters that stay listed go on counting; new ones start from zero, somewhere within an interval.
func (s *reportStream) ask(clusters []string, interval time.Duration, now time.Time) {
	listed := make(map[string]*listing, len(clusters))
	for _, cluster := range clusters {
		listed[cluster] = s.listed[cluster]
		if listed[cluster] == nil {
			listed[cluster] = &listing{fresh: true, first: true, sampled: !s.slow}
		}
	}
	s.asked, s.since, s.clusters, s.listed = interval, now, clusters, listed
}

// counts reports whether what comes of a cluster counts with the sample's.
func (s *reportStream) counts(l *listing) bool { return l.sampled && !s.slow }

// lists reports whether the proxy is asked about both sides of a release.
func (s *reportStream) lists(w Wanted) bool {
	return s.listed[w.LivePool] != nil && s.listed[w.CandidatePool] != nil
}

// covers reports whether it is, and something was heard from it.
func (s *reportStream) covers(w Wanted) bool { return s.lists(w) && !s.heard.IsZero() }

// repeats reports whether r is the report before, come again: no interval, which is in nanoseconds, is ever like another, and a new one is not over that early.
func (l *listing) repeats(r clusterReport, now time.Time) bool {
	return !l.at.IsZero() && r == l.last && r.counts != policy.Counts{} && now.Sub(l.at) < r.interval/2
}

// forgets is the part of each interval by which what was expected of a proxy is given up, should its clock be slower than ours or an interval be missing.
const forgets = 32

// late reports whether a report that comes now was held up on its way, so that it does not tell of the time just past. A proxy's intervals follow one another without a gap,
// so their sum tells when each was over.
func (l *listing) late(r clusterReport, now time.Time) bool {
	l.due = l.due.Add(r.interval + r.interval/forgets)
	if l.first || now.Before(l.due) {
		l.due = now
	}
	return now.Sub(l.due) > fastest
}

// inProgress are the sample's tries.
func (l *listing) inProgress() uint64 {
	if !l.sampled {
		return 0
	}
	return l.active
}

func (l *listing) note(r clusterReport, now time.Time) {
	l.fresh, l.first, l.last, l.at = false, false, r, now
	if l.busy.IsZero() && r.counts.OK > 0 {
		l.busy = now
	}
}

// begin forgets what came in another release.
func (l *listing) begin() { l.busy, l.unseen = time.Time{}, unseen{} }

// unseen are connections that were refused, by a proxy's statistics, on their way into the counts of a proxy whose load reports leave them out: all those of an
// interval in which nothing else was tried, and none otherwise. So of what one flush of statistics brings, only what exceeds the errors that were reported meanwhile
// is counted. Meanwhile is from the flush before to the first report that must have been made after the flush, so that none is counted twice.
type unseen struct {
	found  uint64    // and not counted yet
	at     time.Time // of the newest flush
	window uint64    // errors reported up to then, since the flush before
	errors uint64    // errors reported since
}

// flush takes what new statistics say.
func (u *unseen) flush(found uint64, now time.Time) {
	if u.found == 0 {
		u.window = 0
	}
	u.found, u.at = u.found+found, now
	u.window, u.errors = u.window+u.errors, 0
}

// settle takes a report, and returns how many refused connections are to be counted besides what it says.
func (u *unseen) settle(r clusterReport, now time.Time) uint64 {
	u.errors += r.counts.Errors
	if u.found == 0 || now.Sub(u.at) < r.interval/2 {
		return 0
	}
	extra := u.found - min(u.found, u.window+u.errors)
	u.found = 0
	return extra
}

// reports reports whether the proxy covers a release and was heard from lately. One that must report slowly has time until its first report is due.
func (s *reportStream) reports(w Wanted, now time.Time) bool {
	if s.slow && s.lists(w) && now.Sub(s.since) <= heardOf*s.asked {
		return true
	}
	return s.covers(w) && now.Sub(s.heard) <= heardOf*s.asked
}
