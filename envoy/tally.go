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
	nodes     map[uint64]*share // by load report stream, for two proxies may have one node id
	times     *policy.Times
	statuses  *policy.Statuses
	quality   []policy.ArmSamples
}

// share is one proxy's part of the load reports.
type share struct {
	node            string
	live, candidate policy.Counts
	unseen          policy.ProxyReading // only its counts: refused connections that no load report had in it
	interval        time.Duration       // the longest
	client          bool                // of a gRPC client
	odd             bool                // something in it reaches back further than it should
}

// add counts a report. The first of a cluster after it was listed may cover a part of an interval, and after a reconnection much more than one: it counts, but what
// an arm should have got in that time is not known. A late one reaches further back than weights are remembered.
func (t *tally) add(s *reportStream, listed *listing, to *watch, r clusterReport) *share {
	one := t.nodes[s.number]
	if one == nil {
		one = &share{node: s.node, client: s.client}
		t.nodes[s.number] = one
	}
	t.unsettled = t.unsettled || listed.fresh
	one.odd = one.odd || listed.first || r.interval > 2*s.interval
	one.interval = max(one.interval, r.interval)
	arm := one.arm(to)
	*arm = arm.Add(r.counts)
	return one
}

// arm are the counts that a pool's belong to.
func (s *share) arm(to *watch) *policy.Counts {
	if to.role == candidatePool {
		return &s.candidate
	}
	return &s.live
}

// countUnseen counts refused connections as errors, as the load reports of a newer Envoy would.
func (s *share) countUnseen(to *watch, n uint64) {
	s.arm(to).Errors += n
	if to.role == candidatePool {
		s.unseen.Candidate += n
		return
	}
	s.unseen.Live += n
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
	proxies := make(map[string]policy.ProxyReading, len(t.nodes))
	for number, one := range t.nodes {
		r.Live, r.Candidate = r.Live.Add(one.live), r.Candidate.Add(one.candidate)
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
