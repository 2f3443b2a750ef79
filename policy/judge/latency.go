package judge

import (
	"math"
	"time"
)

const (
	aims      = 6    // thresholds, at most
	slowness  = 7    // effect sizes that are bet on
	enough    = 20   // requests of live without which no threshold is chosen
	known     = 1100 // what live did before a release counts as this many requests at most: just enough for all quantiles, rounded down as they are
	overLimit = 0.01 // share of requests that may be slower than the limit: it is one on the p99
	mostIdle  = time.Minute
	fewest    = 20 // requests to bet on at once: among fewer, live's are too few to be compared with
)

// slowdowns are the effect sizes, in multiples of live's share of slow requests (judge.md 2b, R).
func slowdowns() [slowness]float64 { return [slowness]float64{1.1, 1.25, 1.5, 2, 3, 6, 15} }

// LatencySettings are the margin and the risk of one release.
type LatencySettings struct {
	Alpha float64       // probability that a healthy release is convicted; outside (0,1): 0.01
	Ratio float64       // every quantile may be up to this many times live's; below 1 or no number: 1.1
	Limit time.Duration // on the candidate's p99, whatever live does; not above 0, or above 120 s: none. With one, it and the comparison get half of Alpha each
}

// fit replaces what makes no sense.
func (s LatencySettings) fit() LatencySettings {
	if !(s.Alpha > 0 && s.Alpha < 1) {
		s.Alpha = 0.01
	}
	if !(s.Ratio >= 1) {
		s.Ratio = 1.1
	}
	s.Ratio = min(s.Ratio, 1e6)
	if s.Limit <= 0 || boundFrom(milliseconds(s.Limit)) == Buckets-1 {
		s.Limit = 0
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Latency judges how long the requests of one release take (judge.md 2b): "slower than T" is a bad request, for up to six T at once. NewLatency makes one; the zero
// value judges with the defaults of LatencySettings.
//
// The candidate is healthy while P(candidate > Ratio·T) ≤ P(live > T) for each T: the margin is a shift. It is read at the first bound that lies at Ratio·T or above.
//
// What takes long and has not finished has no time yet. Pending finds it; it must be counted in the last bucket.
type Latency struct {
	settings LatencySettings
	limit    float64 // ln(1/α) of each process; 0 marks the zero value

	aims    [aims]aim // of them, the first n count
	n       int
	fixed   bool    // they have been bet on: they stay for the release
	next    uint64  // requests of live at which they are chosen again
	now     float64 // log of the average of their wealths: an average of e-processes is one, so six looks cost nothing
	peak    float64
	ceiling aim // against the operator's limit
	by      string

	usual  Histogram     // what live does
	idle   time.Duration // since requests came
	waited time.Duration // since the last bet, idle time aside
	all    times         // since the release began
	step   times         // since the present step began
	recent lately
}

// times are how long the requests of both arms took.
type times struct{ live, candidate Histogram }

func (t *times) add(live, candidate *Histogram) {
	t.live.Add(live)
	t.candidate.Add(candidate)
}

// aim is one threshold, with the evidence that the candidate exceeds it too often.
type aim struct {
	live, candidate int // where the two arms are read: at these of the Bounds
	bets            mixture
	noise           dispersion // of live's requests beyond
	terms           trials     // of the next bet
	waiting         arms       // requests of it
}

func newAim(live, candidate int) aim {
	return aim{live: live, candidate: candidate, bets: newMixture(), noise: newTrials()}
}

// counts are both arms' requests; bad is what is beyond the threshold.
func (a *aim) counts(live, candidate *tail) arms {
	return arms{live: live.counts(a.live), candidate: candidate.counts(a.candidate)}
}

// What convicts, as LatencyEvidence.By says it.
const (
	byLatency = "latency"
	byP99     = "p99"
)

// NewLatency begins a release without evidence.
func NewLatency(settings LatencySettings) *Latency {
	l := &Latency{}
	l.begin(settings.fit())
	return l
}

// begin starts all bets from nothing. What is known of live stays.
func (l *Latency) begin(settings LatencySettings) {
	l.settings = settings
	l.limit = -math.Log(settings.Alpha)
	ceiling := aim{}
	if settings.Limit > 0 {
		l.limit += math.Ln2
		bound := boundFrom(milliseconds(settings.Limit))
		ceiling = newAim(bound, bound)
		if l.ceiling.live == bound && l.ceiling.noise.value > 0 {
			ceiling.noise = l.ceiling.noise
		}
	}
	l.ceiling, l.fixed, l.waited, l.now, l.peak, l.by = ceiling, false, 0, 0, 0, ""
	l.choose()
}

// Judge sets the margin and the risk. If they differ from those so far, the evidence begins anew under them; what is known of live stays.
func (l *Latency) Judge(settings LatencySettings) {
	if settings = settings.fit(); l.limit == 0 || l.settings != settings {
		l.begin(settings)
	}
}

// Anew begins the next release of the same service: without evidence, but with what was learned of live. However much that was, what live does in the observation
// before the release soon outweighs it.
func (l *Latency) Anew() {
	if total := l.usual.Total(); total > known {
		for i, n := range l.usual {
			l.usual[i] = uint64(float64(n) / float64(total) * known)
		}
	}
	l.all, l.step, l.recent, l.idle = times{}, times{}, lately{}, 0
	l.begin(l.settings.fit())
	l.next = max(enough, l.usual.Total()*3/2)
}

// choose sets the thresholds to the bounds nearest above some of live's quantiles, from what is known of it. Twenty requests are enough: their median lies between the
// 28 % and the 72 % point of the truth in 95 of 100 cases, and thresholds that lie badly cost some power and no validity. The higher quantiles need more: one request
// beyond them must be expected, or the threshold would be the maximum by another name. So the tails are watched from 100, 200 and 1,000 requests on.
//
// The 99.9 % are not in judge.md 2b. Where there is room for six only they take the place of the 99.5 %: a few very slow requests stand out more, the fewer of live's are
// as slow, and 2 % that take 8 times as long are found with two thirds of the exposed requests.
func (l *Latency) choose() {
	old, total := l.aims, l.usual.Total()
	l.next = max(enough, 2*total)
	l.aims, l.n = [aims]aim{}, 0
	if total < enough {
		return
	}
	bounds := Bounds()
	for _, q := range [...]float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999} {
		live := l.usual.above(q)
		if float64(total)*(1-q) < 0.999 || live == Buckets-1 {
			return
		}
		candidate := boundFrom(l.settings.Ratio * float64(bounds[live]))
		if candidate == Buckets-1 {
			return
		}
		if l.n > 0 && l.aims[l.n-1].live == live {
			continue
		}
		l.n = min(l.n, aims-1)
		l.aims[l.n] = newAim(live, candidate)
		l.aims[l.n].remember(old)
		l.n++
	}
}

// remember takes over how unsteady live is beyond a threshold, if that is known.
func (a *aim) remember(old [aims]aim) {
	for i := range old {
		if old[i].live == a.live && old[i].noise.value > 0 {
			a.noise = old[i].noise
		}
	}
}

// Observe takes what live finished while the candidate gets no traffic. It teaches which thresholds matter and how unsteady live's share beyond them is.
func (l *Latency) Observe(live *Histogram, length time.Duration) {
	var none Histogram
	t, ok := LatencyTurn{Length: length, Live: live}.fit(&none)
	if !ok {
		return
	}
	l.ready()
	l.recent.add(t)
	if length, some := l.awake(t); some {
		beyond := t.Live.tail()
		l.learn(t.Live, &beyond, length)
	}
}

func (l *Latency) ready() {
	if l.limit == 0 {
		l.begin(l.settings.fit())
	}
}

// awake reports whether a turn brought requests, and how long it lasted with the turns before it that did not.
func (l *Latency) awake(t LatencyTurn) (time.Duration, bool) {
	l.idle = min(l.idle+t.Length, mostIdle)
	length := l.idle
	if t.Live.Total()+t.Candidate.Total() == 0 {
		return length, false
	}
	l.idle = 0
	return length, true
}

// learn takes what live did.
func (l *Latency) learn(live *Histogram, beyond *tail, length time.Duration) {
	l.usual.Add(live)
	for i := range l.n {
		l.aims[i].noise.add(beyond.counts(l.aims[i].live), length)
	}
	if l.settings.Limit > 0 {
		l.ceiling.noise.add(beyond.counts(l.ceiling.live), length)
	}
	if !l.fixed && l.usual.Total() >= l.next {
		l.choose()
	}
}

// LatencyTurn is what one interval brought. A turn whose histograms are empty, or nil, only lets time pass. Lengths and shares are as in Turn, and so is what is no
// reading at all: a turn without a length or with a share that is no number, and one with more than 2^32 requests in an arm.
type LatencyTurn struct {
	Length          time.Duration
	Share           float64 // the candidate's configured share, 0 to 1. From 0.999 on there is nothing to compare with, and only the limit counts
	NewStep         bool    // the share has changed since the last turn
	Live, Candidate *Histogram
	Warming         bool // nothing is held against the candidate yet
	Held            bool // live is in an incident (Evidence.Incident): the comparison holds and live teaches nothing; the limit counts
}

// fit returns the turn with its values within bounds, and whether it is a reading at all.
func (t LatencyTurn) fit(none *Histogram) (LatencyTurn, bool) {
	if t.Live == nil {
		t.Live = none
	}
	if t.Candidate == nil {
		t.Candidate = none
	}
	if t.Length <= 0 || math.IsNaN(t.Share) || !t.Live.credible() || !t.Candidate.credible() {
		return t, false
	}
	t.Length = fitLength(t.Length)
	t.Share = min(max(t.Share, 0), 1)
	return t, true
}

func (t LatencyTurn) alone() bool { return t.Share >= 0.999 }

// Turn takes one turn of both arms.
func (l *Latency) Turn(t LatencyTurn) {
	if t.NewStep {
		l.step = times{}
		l.settle()
	}
	var none Histogram
	t, ok := t.fit(&none)
	if !ok {
		return
	}
	l.ready()
	l.recent.add(t)
	length, some := l.awake(t)
	if !some {
		return
	}
	live, candidate := t.Live.tail(), t.Candidate.tail()
	if !t.Warming {
		l.weigh(t, &live, &candidate, length)
	}
	// Only now: what is bet on a turn must be fixed by the turns before it.
	l.all.add(t.Live, t.Candidate)
	l.step.add(t.Live, t.Candidate)
	if !t.Held {
		l.learn(t.Live, &live, length)
	}
}

// weigh bets on one turn.
func (l *Latency) weigh(t LatencyTurn, live, candidate *tail, length time.Duration) {
	at := pace{length: length, limit: l.limit}
	if l.settings.Limit > 0 {
		b := boundary{rate: overLimit, phi: l.ceiling.noise.value}
		l.ceiling.bets.turn(b.slower(l.ceiling.counts(live, candidate)), at)
	}
	if !t.Held && !t.alone() && l.n > 0 {
		l.compare(live, candidate, length)
	}
	l.convict()
}

// convict notes what has reached its limit first.
func (l *Latency) convict() {
	switch {
	case l.by != "":
	case l.peak >= l.limit:
		l.by = byLatency
	case l.ceiling.bets.peak >= l.limit:
		l.by = byP99
	}
}

// settle bets on what waits before the share changes: what happened at one share and at another must not be taken together.
func (l *Latency) settle() {
	if l.n > 0 && l.waiting() > 0 {
		l.bet()
		l.convict()
	}
}

// compare collects what the two arms took until there is enough for a bet.
func (l *Latency) compare(live, candidate *tail, length time.Duration) {
	if l.waiting() == 0 {
		// What is bet on must be fixed before anything of it is seen.
		usual := l.usual.tail()
		for i := range l.n {
			l.aims[i].terms = trials{usual: usual.counts(l.aims[i].live).likely(), phi: l.aims[i].noise.value}
		}
		l.fixed = true
	}
	for i := range l.n {
		l.aims[i].waiting.add(l.aims[i].counts(live, candidate))
	}
	if l.waited = min(l.waited+length, mostIdle); l.waiting() >= fewest {
		l.bet()
	}
}

// waiting is how many requests are not bet on yet.
func (l *Latency) waiting() float64 { return l.aims[0].waiting.finished() }

// bet bets that the candidate is slower than live, on all requests since the last time.
func (l *Latency) bet() {
	at := pace{length: l.waited, limit: l.limit}
	for i := range l.n {
		a := &l.aims[i]
		a.bets.turn(a.terms.gains(a.waiting), at)
		a.waiting = arms{}
	}
	l.waited = 0
	l.now = l.average()
	l.peak = max(l.peak, l.now)
}

// average is the log of the mean wealth of all thresholds.
func (l *Latency) average() float64 {
	top, sum := l.aims[l.worst()].bets.now, 0.0
	for i := range l.n {
		sum += math.Exp(l.aims[i].bets.now - top)
	}
	return top + math.Log(sum/float64(l.n))
}

// worst is the threshold with the most evidence.
func (l *Latency) worst() int {
	worst := 0
	for i := range l.n {
		if l.aims[i].bets.now > l.aims[worst].bets.now {
			worst = i
		}
	}
	return worst
}
