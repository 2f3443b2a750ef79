package envoy

import (
	"maps"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

// tally is what came of one service since the last Take.
type tally struct {
	unsettled bool
	live      armTally
	candidate armTally
	nodes     map[uint64]*share // by load report stream, for two proxies may have one node id
	times     *policy.Times
	statuses  *policy.Statuses
	quality   []policy.ArmSamples
}

// armTally is what the sample reported of one arm. Issued, finished and in progress must fit together (judge.Pending); so what a proxy has in progress when it comes into
// the sample counts as issued then, and when it leaves the sample it is taken back out.
type armTally struct {
	counts     policy.Counts
	came, left uint64 // in progress
}

// received is one report of a cluster, how many refused connections it lacks, and whether it was held up.
type received struct {
	clusterReport
	unseen uint64
	late   bool
}

// add counts a report. Refused connections are errors, as in the load reports of a newer Envoy.
func (a *armTally) add(r received) {
	a.counts = a.counts.Add(r.counts)
	a.counts.Errors += r.unseen
}

// settled returns the counts, and what is to be taken out of the next ones.
func (a armTally) settled() (counts policy.Counts, left uint64) {
	counts = a.counts
	counts.Issued += a.came
	out := min(a.left, counts.Issued)
	counts.Issued -= out
	return counts, a.left - out
}

// next is what of a tally goes on in the one after it; nil is nothing.
func (t *tally) next() *tally {
	_, live := t.live.settled()
	_, candidate := t.candidate.settled()
	if live+candidate == 0 {
		return nil
	}
	return &tally{live: armTally{left: live}, candidate: armTally{left: candidate}, nodes: map[uint64]*share{}}
}

func (t *tally) arm(to *watch) *armTally {
	if to.role == candidatePool {
		return &t.candidate
	}
	return &t.live
}

// share is one proxy's part of the load reports, in the sample or not: how a proxy divides its tries between the arms tells by itself, however seldom it reports.
type share struct {
	node            string
	live, candidate policy.Counts
	unseen          policy.ProxyReading // only its counts: refused connections that no load report had in it
	interval        time.Duration       // the longest
	client          bool                // of a gRPC client
	odd             bool                // something in it reaches back further than it should
}

// addShare notes what a proxy did. The first report of a cluster after it was listed may cover a part of an interval, and after a reconnection much more than one: what
// an arm should have got in that time is not known. A long one reaches further back than weights are remembered, and so does a late one.
func (t *tally) addShare(s *reportStream, listed *listing, to *watch, r received) {
	one := t.nodes[s.number]
	if one == nil {
		one = &share{node: s.node, client: s.client}
		t.nodes[s.number] = one
	}
	one.odd = one.odd || listed.first || r.late || r.interval > 2*s.asked
	one.interval = max(one.interval, r.interval)
	counts := r.counts
	counts.Errors += r.unseen
	if to.role == candidatePool {
		one.candidate = one.candidate.Add(counts)
		one.unseen.Candidate += r.unseen
		return
	}
	one.live = one.live.Add(counts)
	one.unseen.Live += r.unseen
}

// sample adds what requests reported of themselves, of the metrics that are asked for.
func (t *tally) sample(to *watch, samples []sampleReport, metrics []string) {
	for _, s := range samples {
		i := slices.Index(metrics, s.metric)
		if i < 0 {
			continue
		}
		if t.quality == nil {
			t.quality = make([]policy.ArmSamples, len(metrics))
		}
		arm := &t.quality[i].Live
		if to.role == candidatePool {
			arm = &t.quality[i].Candidate
		}
		*arm = judge.Sample{Sum: arm.Sum + s.sample.Sum, Count: arm.Count + s.sample.Count}
	}
}

// addStatuses adds the gRPC statuses in one message.
func (t *tally) addStatuses(of *watch, arm *armStats) {
	for i, n := range arm.change[firstStatus:] {
		if n == 0 {
			continue
		}
		if t.statuses == nil {
			t.statuses = &policy.Statuses{}
		}
		if of.role == candidateArm {
			t.statuses.Candidate[i] += n
			continue
		}
		t.statuses.Live[i] += n
	}
}

// reading adds the tally to a reading. A report is steady if its proxy was for as long as it reaches back; since tells from when on. Names are those of streams.
func (t *tally) reading(r policy.Reading, now time.Time, since map[string]time.Time, names map[uint64]string) policy.Reading {
	r.Unsettled, r.Times, r.Statuses, r.Quality = t.unsettled, t.times, t.statuses, t.quality
	r.Live, _ = t.live.settled()
	r.Candidate, _ = t.candidate.settled()
	proxies := make(map[string]policy.ProxyReading, len(t.nodes))
	for number, one := range t.nodes {
		if one.client {
			r.UntimedLive += one.live.Finished()
			r.UntimedCandidate += one.candidate.Finished()
		}
		at, steady := since[one.node]
		steady = steady && !one.odd && now.Sub(at) >= one.interval-fastest
		if steady {
			r.SteadyLive, r.SteadyCandidate = r.SteadyLive.Add(one.live), r.SteadyCandidate.Add(one.candidate)
		}
		name, there := names[number]
		if !there {
			name = one.node // it has left
		}
		p, twice := proxies[name]
		proxies[name] = policy.ProxyReading{
			Proxy: name, Live: p.Live + one.live.Issued + one.unseen.Live, Candidate: p.Candidate + one.candidate.Issued + one.unseen.Candidate,
			Steady: steady && (!twice || p.Steady),
		}
	}
	for _, name := range slices.Sorted(maps.Keys(proxies)) {
		r.Proxies = append(r.Proxies, proxies[name])
	}
	return r
}
