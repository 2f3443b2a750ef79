package judge

import (
	"math"
	"time"
)

// GaugeSettings are the direction, the margin and the risk of one quantity in one release.
type GaugeSettings struct {
	Alpha          float64 // probability that a healthy release is convicted; outside (0,1): 0.01
	HigherIsBetter bool
	Margin         float64 // by which the candidate's mean may be worse, in the quantity's unit; not above 0: a quarter of what the difference of both means scatters
}

func (s GaugeSettings) fit() GaugeSettings {
	if !(s.Alpha > 0 && s.Alpha < 1) {
		s.Alpha = 0.01
	}
	if !(s.Margin > 0) {
		s.Margin = 0
	}
	s.Margin = min(s.Margin, mostValue)
	return s
}

// GaugeTurn is what one turn brought of a quantity.
type GaugeTurn struct {
	Length          time.Duration
	Live, Candidate Sample
	Warming         bool // nothing is judged, but live is learned
	Held            bool // live is in an incident: nothing is judged and nothing learned
}

// Gauge judges a quantity that either requests report of themselves, so that both arms have the mean of as many as there were, or that is read once for each arm
// from time to time (judge.md 2c). NewGauge makes one; the zero value judges with the defaults of GaugeSettings.
//
// It bets on z, the difference of both arms' means less the margin, over the scatter of such a difference; larger is worse. For each λ the wealth gains
// (λz - ψ)/φ, with ψ = 1.15 λ²/2 or what live's own differences ask for if that is more, and φ for the correlation of successive samples. This is a supermartingale
// for normal differences, and for bounded symmetric ones such as uniform and two-valued, of a known scatter. The law is not known and the scatter is learned from
// live, so it is no guarantee for finite samples as that of Errors is: what it does to odd laws is measured. Where a quantity is a ratio of counters, ask for the
// counters and use Errors.
type Gauge struct {
	settings GaugeSettings
	limit    float64 // 1/α; 0 marks the zero value

	bets [lambdas]float64 // wealth of each, prior included, over the starts so far
	rest float64          // prior of not having turned worse yet
	now  float64          // wealth of the mixture
	peak float64
	sure bool

	pool    pool
	scatter scatter
	all     samples // since the release began
	recent  [2]fading
	weighed uint64
	margin  float64 // of the last sample that was judged
}

// samples are what both arms' requests reported.
type samples struct{ live, candidate Sample }

// fading is a mean that forgets: a sample counts for an eighth less with each that follows.
type fading struct{ sum, count float64 }

func (l *fading) add(s Sample) {
	l.sum = l.sum*7/8 + s.Sum
	l.count = l.count*7/8 + float64(s.Count)
}

func (l *fading) mean() float64 { return l.sum / max(l.count, 1e-9) }

// NewGauge begins without evidence, and with nothing known of live.
func NewGauge(settings GaugeSettings) *Gauge {
	g := &Gauge{scatter: newScatter()}
	g.bet(settings.fit())
	return g
}

// bet starts the bets from nothing.
func (g *Gauge) bet(settings GaugeSettings) {
	if g.limit == 0 {
		g.scatter = newScatter()
	}
	*g = Gauge{settings: settings, limit: 1 / settings.Alpha, scatter: g.scatter, rest: 1 - fromStart, now: 1, peak: 1}
	for i := range g.bets {
		g.bets[i] = fromStart / lambdas
	}
}

// Judge sets direction, margin and risk. If they differ from those so far, the evidence begins anew under them; what is known of live stays.
func (g *Gauge) Judge(settings GaugeSettings) {
	if settings = settings.fit(); g.limit == 0 || g.settings != settings {
		g.bet(settings)
	}
}

// Anew begins the next release: without evidence, but with what is known of live.
func (g *Gauge) Anew() { g.bet(g.settings.fit()) }

// Observe takes what live reported while the candidate gets no traffic.
func (g *Gauge) Observe(live Sample, length time.Duration) {
	g.take(GaugeTurn{Length: length, Live: live, Warming: true})
}

// Turn takes one turn of both arms. A turn of no length is no reading. Neither are samples that are not finite or of more than 2^32: then the turn brought nothing
// but its time. Nothing is judged on an arm that has no sample.
func (g *Gauge) Turn(t GaugeTurn) {
	if t.Held {
		g.pool = pool{}
		return
	}
	g.take(t)
}

func (g *Gauge) take(t GaugeTurn) {
	if g.limit == 0 {
		g.bet(g.settings.fit())
	}
	if t.Length <= 0 {
		return
	}
	if !t.Live.credible() || !t.Candidate.credible() {
		t.Live, t.Candidate = Sample{}, Sample{}
	}
	if t.Warming {
		t.Candidate = Sample{}
	}
	g.pool.add(t)
	if !g.pool.ready(t.Warming) {
		return
	}
	if both := g.pool.samples; both.live.Count > 0 && both.candidate.Count > 0 {
		g.weigh(both)
	}
	// Only now: what is bet on a sample must be fixed by those before it.
	g.scatter.add(&g.pool)
	g.pool = pool{}
}

// weigh settles one sample's bets.
func (g *Gauge) weigh(both samples) {
	g.all.live.add(both.live)
	g.all.candidate.add(both.candidate)
	g.recent[0].add(both.live)
	g.recent[1].add(both.candidate)
	if !g.scatter.known() {
		return
	}
	g.weighed++
	p := pace{length: min(g.pool.length, startEvery/10), limit: math.Log(g.limit)}
	begins := g.rest * p.hazard() / lambdas
	c := g.scatter.compare(both, g.settings)
	g.margin = c.margin
	g.now = 0
	for i := range g.bets {
		// The cap is for large α only: half the way to a conviction at the most, so that no single sample decides.
		gain := min(c.gain(i), (p.limit+math.Log(lambdas/fromStart))/2)
		g.bets[i] = min((g.bets[i]+begins)*math.Exp(gain), richest)
		g.now += g.bets[i]
	}
	g.rest *= 1 - p.hazard()
	g.now += g.rest
	g.peak = max(g.peak, g.now)
	g.sure = g.sure || g.now >= g.limit
}

// GaugeEvidence is what has been found so far. Logs are natural.
type GaugeEvidence struct {
	Log       float64 // ln of the wealth now
	LogMax    float64 // its maximum
	Limit     float64 // what LogMax is compared with
	Convicted bool    // for good, once it is
	Known     bool    // enough is known of live to judge

	Live, Candidate             Sample  // since the release began
	RecentLive, RecentCandidate float64 // means over about the last eight samples; 0 without any
	Weighed                     uint64  // samples that were judged
	Scatter                     float64 // standard deviation of one of live's requests, or of one reading
	Margin                      float64 // by which the candidate might be worse in the last sample that was judged
	Phi                         float64 // by which evidence is divided because successive samples are alike; at least 1
}

// Evidence returns what has been found so far.
func (g *Gauge) Evidence() GaugeEvidence {
	if g.limit == 0 {
		g.bet(g.settings.fit())
	}
	return GaugeEvidence{
		Log: math.Log(g.now), LogMax: math.Log(g.peak), Limit: math.Log(g.limit), Convicted: g.sure, Known: g.scatter.known(),
		Live: g.all.live, Candidate: g.all.candidate, RecentLive: g.recent[0].mean(), RecentCandidate: g.recent[1].mean(),
		Weighed: g.weighed, Scatter: math.Sqrt(g.scatter.variance), Margin: g.margin, Phi: g.scatter.phi(),
	}
}
