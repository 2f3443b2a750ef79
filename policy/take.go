package policy

import (
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Take weighs one turn's reading of a running release and returns what it comes to. The words of a judgement are chosen anew once a second and when the verdict
// changes; its verdict and its evidence are those of this turn.
func (e *Evidence) Take(reading Reading, s *Served) Judgement {
	r := s.Release
	if e.accepted != s.Accepted {
		e.set(s.Service.Analysis)
		e.accepted = s.Accepted
	}
	e.recent.add(reading)
	e.Rates = e.recent.rates()
	t := e.turnOf(reading, s)
	if r.Weight == 0 {
		e.observe(t)
		e.Latest = Judgement{Reason: "live is being observed", Lacks: "live to be observed"}
		return e.Latest
	}
	e.weigh(t)
	return e.judge(t)
}

// turn is one turn as the judges take it.
type turn struct {
	judge.Turn
	reading Reading
	served  *Served
	times   Times // with the tries that were found to hang
	timed   bool  // there are any

	found   judge.Evidence // of errors
	log     float64        // of the evidence of all metrics
	trip    judge.Trip
	tripped bool
}

// turnOf prepares a turn. Tries that hang have no time; they are slower than all that have.
func (e *Evidence) turnOf(reading Reading, s *Served) *turn {
	weight := s.Release.Weight
	t := &e.turn
	*t = turn{reading: reading, served: s, timed: reading.Times != nil, Turn: judge.Turn{
		Length: reading.Interval, Share: weight.Share(), NewStep: weight != e.weight,
		Live: judged(reading.Live), Candidate: judged(reading.Candidate), Warming: warming(s),
	}}
	if t.timed {
		t.times = *reading.Times
	}
	if e.Latency == nil {
		return t
	}
	after := e.Latency.HungAfter()
	e.live.After(after)
	e.next.After(after)
	live := e.live.Turn(reading.Interval, reading.Live.Issued, reading.Live.Finished()+e.lacking[0].turn(
		reading.Interval, reading.Live.Finished()-reading.UntimedLive, t.times.Live.Total(), t.timed), reading.LiveActive)
	next := e.next.Turn(reading.Interval, reading.Candidate.Issued, reading.Candidate.Finished()+e.lacking[1].turn(
		reading.Interval, reading.Candidate.Finished()-reading.UntimedCandidate, t.times.Candidate.Total(), t.timed), reading.CandidateActive)
	if t.timed = t.timed || live+next > 0; t.timed {
		e.live.Settle(&t.times.Live)
		e.next.Settle(&t.times.Candidate)
	}
	return t
}

func judged(c Counts) judge.Counts { return judge.Counts{Good: c.OK, Bad: c.Errors} }

// warming reports whether only the guard rail counts: within the plan's warm-up, at its first step.
func warming(s *Served) bool {
	r, plan := s.Release, s.Service.Plan
	return r.Mode == ByPlan && r.Weight <= plan.first() && (r.Phase == Shifting || r.InPhase < plan.Warmup.Std())
}

// observe learns what live does while the candidate gets nothing.
func (e *Evidence) observe(t *turn) {
	e.weight = 0
	e.Errors.Observe(t.Live, t.Length)
	if live, _, ok := e.named(t); ok {
		e.Statuses.Observe(live, t.Length)
	}
	if e.Latency != nil {
		e.Latency.Observe(&t.times.Live, t.Length)
	}
	for i, g := range e.Quality {
		live, _ := t.quality(i)
		g.Judge.Observe(live, t.Length)
	}
	for i, g := range e.Queries {
		live, _ := t.query(i)
		g.Judge.Observe(live, t.Length)
	}
}

// weigh has all judges bet on a turn. Errors come first: they tell whether live is in an incident, in which no comparison counts.
func (e *Evidence) weigh(t *turn) {
	if t.NewStep {
		e.Step.reset()
	}
	e.weight = t.served.Release.Weight
	e.Step.add(t)
	e.Whole.add(t)
	e.Errors.Turn(t.Turn)
	t.found = e.Errors.Evidence()
	e.since.add(t.Turn, t.found.Log)
	t.trip, t.tripped = e.Guard.Turn(t.Turn, t.found.Phi, t.found.Level)
	e.calm(t.found.Incident || ailing(t.found) || struck(t.Live), t.Length)
	e.Seen.Turn(e.seen(t))
	if live, candidate, ok := e.named(t); ok {
		named := t.Turn
		named.Live, named.Candidate = live, candidate
		e.Statuses.Turn(named)
		e.sinceGRPC.add(named, e.Statuses.Evidence().Log)
	}
	held := t.found.Incident
	e.time(t)
	for i := range e.Quality {
		live, candidate := t.quality(i)
		g := &e.Quality[i]
		g.Judge.Turn(judge.GaugeTurn{Length: t.Length, Live: live, Candidate: candidate, Warming: t.Warming, Held: held})
		if g.Quiet += t.Length; candidate.Count > 0 {
			g.Quiet = 0
		}
	}
	for i, g := range e.Queries {
		live, candidate := t.query(i)
		g.Judge.Turn(judge.GaugeTurn{Length: t.Length, Live: live, Candidate: candidate, Warming: t.Warming, Held: held})
	}
}

// time has the times of a turn judged. In most turns there are none: proxies flush their statistics once a second.
func (e *Evidence) time(t *turn) {
	if e.Latency == nil {
		return
	}
	lt := judge.LatencyTurn{Length: t.Length, Share: t.Share, NewStep: t.NewStep, Warming: t.Warming, Held: t.found.Incident}
	if t.timed {
		lt.Live, lt.Candidate = &t.times.Live, &t.times.Candidate
	}
	e.Latency.Turn(lt)
	if t.timed || t.NewStep {
		e.slow = e.Latency.Evidence()
	}
}

// named are the requests whose gRPC status the document names as an error, of both arms.
func (e *Evidence) named(t *turn) (live, candidate judge.Counts, ok bool) {
	if e.Statuses == nil || t.reading.Statuses == nil {
		return live, candidate, false
	}
	for status := range GRPCStatuses {
		bad := countsAsError(t.served.Service.Analysis, status)
		live = plus(live, t.reading.Statuses.Live[status], bad)
		candidate = plus(candidate, t.reading.Statuses.Candidate[status], bad)
	}
	return live, candidate, true
}

// countsAsError reports whether a document counts a gRPC status as an error.
func countsAsError(a Analysis, status int) bool {
	return slices.ContainsFunc(a.Errors.GRPC, func(name string) bool {
		number, known := GRPCStatus(name)
		return known && number == status
	})
}

func plus(c judge.Counts, n uint64, bad bool) judge.Counts {
	if bad {
		c.Bad += n
	} else {
		c.Good += n
	}
	return c
}

// quality is what requests reported of one quantity.
func (t *turn) quality(i int) (live, candidate judge.Sample) {
	if i >= len(t.reading.Quality) {
		return live, candidate
	}
	return t.reading.Quality[i].Live, t.reading.Quality[i].Candidate
}

// query is one answer for both arms, if it came in this turn and counts.
func (t *turn) query(i int) (live, candidate judge.Sample) {
	if i >= len(t.reading.Queries) {
		return live, candidate
	}
	q := t.reading.Queries[i]
	if !q.Fresh || q.Problem != "" {
		return live, candidate
	}
	return judge.Sample{Sum: q.Live, Count: 1}, judge.Sample{Sum: q.Candidate, Count: 1}
}

// seen is the turn as share seen takes it.
func (e *Evidence) seen(t *turn) judge.SeenTurn {
	e.issued = e.issued[:0]
	for _, p := range t.reading.Proxies {
		e.issued = append(e.issued, judge.ProxyIssued{Proxy: p.Proxy, Issued: judge.Issued{Live: p.Live, Candidate: p.Candidate}, Steady: p.Steady})
	}
	return judge.SeenTurn{
		Length: t.Length, Share: t.Share, Steady: !t.NewStep && e.unrest == 0,
		Fleet:   judge.Issued{Live: t.reading.SteadyLive.Issued, Candidate: t.reading.SteadyCandidate.Issued},
		Proxies: e.issued,
	}
}

// shaken is how long after an incident of live share seen says nothing. In an incident Envoys eject the endpoints of both sides, for half a minute each time, and
// live's may be back seconds before the candidate's: it gets little then, and is not to blame. A candidate that is really cut off does not climb meanwhile.
const shaken = time.Minute

// ailing reports whether live fails enough to have endpoints of its own ejected, at traffic too low to call it an incident: three errors eject one.
func ailing(found judge.Evidence) bool {
	live := found.RecentLive
	return live.Bad >= 3 && float64(live.Bad) > found.Level*float64(live.Good+live.Bad)
}

// struck reports whether so many of live's requests failed in one turn that an Envoy may have met three in a row, however usual that is for this service. A tenth is
// where that becomes likely: of a thousand requests one is then the third.
func struck(live judge.Counts) bool { return live.Bad >= 3 && 10*live.Bad > live.Good+live.Bad }

// calm counts down the time after an incident.
func (e *Evidence) calm(incident bool, length time.Duration) {
	e.unrest = max(0, e.unrest-length)
	if incident {
		e.unrest = shaken
	}
}
