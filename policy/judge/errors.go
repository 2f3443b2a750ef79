// Package judge decides from counts whether a candidate is worse than live, with a guarantee that holds however often one looks.
//
// Errors is an e-process on the errors of both arms: its wealth reaches 1/α with probability α at most while the candidate is healthy, whatever live's rate does
// and whatever the split is. Guard is the hard rail beside it, for the warm-up and for what needs no statistics. Seen convicts a candidate that its proxies cannot
// reach. Latency is to times what Errors is to errors, and Pending finds the requests that no time comes of. Gauge compares what requests report of themselves, or what is
// read of both arms from time to time; Mix makes one decision of all of them. All are plain values: no clock, no goroutine, no allocation per turn, memory of fixed size
// (but for what Seen keeps of each proxy). None may be used by two goroutines at once.
//
// The reference is judge.md: section 1 (why), 2a (errors), 2b (latency), 2c (gauges), 2d (guard rail), 2f (all together) and 2g (turns below a second).
package judge

import (
	"math"
	"time"
)

// Settings are the margins and the risk of one release.
type Settings struct {
	Alpha  float64 // probability that a healthy release is convicted; outside (0,1): 0.01
	Ratio  float64 // the candidate may have this many times live's error share; not above 0: 1.1
	Points float64 // and this much more, as a share; 0 is none
	Limit  float64 // operator's limit on the candidate's error share whatever live does; outside (0,1): none. With one, it and the comparison get half of Alpha each
	// Blip is how long the candidate alone may fail once without being convicted, at most 4 s: it counts as one turn, and no single turn decides.
	Blip time.Duration
}

// fit replaces what makes no sense.
func (s Settings) fit() Settings {
	if !(s.Alpha > 0 && s.Alpha < 1) {
		s.Alpha = 0.01
	}
	if !(s.Ratio > 0) {
		s.Ratio = 1.1
	}
	s.Ratio = min(s.Ratio, 1e6)
	if !(s.Points > 0) {
		s.Points = 0
	}
	s.Points = min(s.Points, 1)
	if !(s.Limit > 0 && s.Limit < 1) {
		s.Limit = 0
	}
	s.Blip = min(max(s.Blip, 0), burstSpan)
	return s
}

// Errors judges the errors of one release. NewErrors makes one; the zero value judges with the defaults of Settings.
type Errors struct {
	settings Settings
	limit    float64 // ln(1/α) of each process; 0 marks the zero value

	margin   process  // against live, with the margin
	episodes episodes // the same by clusters of errors, with a part of the wealth
	now      float64  // ln of the wealth of both
	peak     float64  // its maximum
	weighed  bool     // bets were made
	ceiling  process  // against the operator's limit; untouched without one
	excess   excess
	noise    dispersion
	incident incident
	held     bool
	by       string // what convicted

	recent window
	all    arms // since the release began
	step   arms // since the present step began
}

// What convicts, as Evidence.By says it.
const (
	byErrors = "errors"
	byLimit  = "limit"
)

// NewErrors begins a release without evidence.
func NewErrors(settings Settings) *Errors {
	e := &Errors{}
	e.begin(settings)
	return e
}

func (e *Errors) begin(settings Settings) {
	e.noise = newDispersion()
	e.bet(settings.fit())
}

// bet starts both processes from nothing.
func (e *Errors) bet(settings Settings) {
	e.settings, e.by = settings, ""
	e.limit = -math.Log(e.settings.Alpha)
	if e.settings.Limit > 0 {
		e.limit += math.Ln2
	}
	e.margin, e.ceiling, e.excess = newProcess(), newProcess(), excess{}
	e.episodes.stake, e.episodes.rest, e.now, e.peak, e.weighed = 0, 0, 0, 0, false
}

// Judge sets the margins and the risk. If they differ from those so far, the evidence begins anew under them; what is known of live stays.
func (e *Errors) Judge(settings Settings) {
	if settings = settings.fit(); e.limit != 0 && e.settings == settings {
		return
	}
	if e.limit == 0 {
		e.noise = newDispersion()
	}
	e.bet(settings)
}

// Observe takes what live finished while the candidate gets no traffic. It teaches how bursty live's errors are and when live is in an incident.
func (e *Errors) Observe(live Counts, length time.Duration) {
	t, ok := Turn{Length: length, Live: live}.fit()
	if !ok {
		return
	}
	e.watch(t)
	// Bursts that look like incidents count here: without them φ would be far too small in quiet services with bursts (10.8 against 3.8).
	e.learn(t)
}

// Turn takes one turn of both arms.
func (e *Errors) Turn(t Turn) {
	if t.NewStep {
		e.step = arms{}
	}
	t, ok := t.fit()
	if !ok {
		return
	}
	e.watch(t)
	if !t.Warming {
		e.weigh(t)
	}
	// Only now: what is bet on a turn must be fixed by the turns before it.
	e.all.add(t.arms())
	e.step.add(t.arms())
	if !e.held {
		e.learn(t)
	}
}

func (e *Errors) learn(t Turn) {
	e.noise.add(t.Live, t.Length)
	e.episodes.observe(t.Live, t.Length)
}

// Anew begins the next release of the same service. What was learned of live stays, worth at most half an hour, so that it can still change.
func (e *Errors) Anew(settings Settings) {
	part := keptPart(e.noise.known)
	next := Errors{noise: e.noise.kept(), incident: e.incident.kept(part), episodes: e.episodes.kept(part)}
	if e.limit == 0 {
		next.noise = newDispersion()
	}
	next.bet(settings.fit())
	*e = next
}

// watch adds a turn to the last 10 s and looks whether live is in an incident.
func (e *Errors) watch(t Turn) {
	if e.limit == 0 {
		e.begin(e.settings)
	}
	for first, end := e.recent.drop(t.Length); first < end; first++ {
		e.incident.age(first, e.recent.turns[first%uint64(slots)].live)
	}
	e.recent.add(t.Length, t.arms())
	e.held = e.incident.turn(e.recent.last(span).live, e.recent.ring.next, t.Length)
}

// weigh bets on one turn. In an incident of live the comparison holds; the operator's limit does not, because it asks nothing of live.
func (e *Errors) weigh(t Turn) {
	at := e.pace(t)
	if e.settings.Limit > 0 {
		ceiling := boundary{rate: e.settings.Limit, phi: e.noise.value}
		e.ceiling.turn(ceiling.gains(t.arms()), at)
	}
	if !e.held {
		e.compare(t, at)
	}
	switch {
	case e.by != "":
	case e.peak >= e.limit:
		e.by = byErrors
	case e.ceiling.peak >= e.limit:
		e.by = byLimit
	}
}

// compare bets on one turn that the candidate is worse than live, and that it is not.
func (e *Errors) compare(t Turn, at pace) {
	if !e.weighed && e.noise.value >= clustered {
		e.margin.odds = ofBursts
	}
	e.weighed = true
	e.episodes.begin(&e.noise, e.margin.now)
	healthy := e.boundary(t)
	e.margin.turn(healthy.gains(t.arms()), at)
	e.episodes.turn(healthy, t.arms(), at)
	e.excess.turn(healthy, t.arms())
	e.now = e.episodes.mixed(e.margin.now)
	e.peak = max(e.peak, e.now)
}

// boundary is where healthy ends in this turn: at live's own rate with the margin, or, when live gets nothing, at twice the margin above its usual rate.
func (e *Errors) boundary(t Turn) boundary {
	s := e.settings
	if t.alone() {
		rate := 2 * (s.Ratio*e.noise.seen.upper() + s.Points)
		return boundary{rate: rate, phi: max(e.noise.value, 10)}
	}
	share := e.share(t)
	return boundary{share: share * s.Ratio / (share*s.Ratio + 1 - share), rate: s.Points, phi: e.noise.value}
}

// share is the candidate's share of the requests: the turn's own, shrunk towards the step's past, that shrunk towards the configured share. So a share that
// really differs (sticky sessions, a stale proxy) blames nobody, and a turn with few requests still has one.
func (e *Errors) share(t Turn) float64 {
	past, now := e.step, t.arms()
	usual := (float64(past.candidate.finished()) + 20*t.Share) / (past.finished() + 20)
	return (float64(now.candidate.finished()) + 100*usual) / (now.finished() + 100)
}

func (a arms) finished() float64 { return float64(a.live.finished() + a.candidate.finished()) }

// pace bounds what this turn may bring. The burst cap is for quiet services only: many known errors or many requests lift it. The requests' part is squared,
// not judge.md 2g's requests/100: below 25 a second nothing changes, and at 50 a half-broken candidate is found in 1.7 s instead of 2.6 s (medians) for no more
// false convictions than sampling explains. Where live has bursts it takes more requests: a burst is a large part of few, and for a while episodes are faster.
func (e *Errors) pace(t Turn) pace {
	requests := e.recent.last(burstSpan).finished()
	relief := requests * requests / (100 * 100)
	if e.noise.value >= clustered {
		relief = requests / 300
	}
	return pace{
		length: t.Length, limit: e.limit,
		relief: max(1, float64(e.noise.seen.Bad)/(50*e.noise.value), relief),
		blip:   e.settings.Blip,
	}
}

// Evidence is what has been found so far. Logs are natural.
type Evidence struct {
	Log       float64 // ln of the wealth against live now
	LogMax    float64 // its maximum; e^-LogMax is a p-value that holds however often one looks
	Limit     float64 // what LogMax and LimitMax are compared with
	LogLimit  float64 // ln of the wealth against the operator's limit now; 0 without one
	LimitMax  float64 // its maximum
	Convicted bool    // for good, once it is
	By        string  // "errors" or "limit"
	Incident  bool    // live is in an incident: hold, whatever the candidate does
	Phi       float64 // dispersion of live's errors, at least 1
	Level     float64 // the error share above which live is in an incident

	Live, Candidate             Counts // since the candidate first got traffic
	StepLive, StepCandidate     Counts // over the present step
	RecentLive, RecentCandidate Counts // over the last 10 s
}

// Evidence returns what has been found so far.
func (e *Errors) Evidence() Evidence {
	if e.limit == 0 {
		e.begin(e.settings)
	}
	recent := e.recent.last(span)
	return Evidence{
		Log: e.now, LogMax: e.peak, Limit: e.limit, LogLimit: e.ceiling.now, LimitMax: e.ceiling.peak,
		Convicted: e.by != "", By: e.by, Incident: e.held,
		Phi: e.noise.value, Level: e.incident.level(),
		Live: e.all.live, Candidate: e.all.candidate,
		StepLive: e.step.live, StepCandidate: e.step.candidate,
		RecentLive: recent.live, RecentCandidate: recent.candidate,
	}
}
