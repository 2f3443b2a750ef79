package simulation

import (
	"context"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// Whole is a number of whole releases of a document, decided in simulated time by all that decides real ones: policy.Decide, and policy.Evidence with all its metrics. The
// judge knows of the service what it observes in the release itself, as in a service's first. Proxies confirm every weight within a turn.
type Whole struct {
	Scenario                // the traffic; its history, turns, steps and climb are not asked
	Times    Times          // how long requests take
	Service  policy.Service // with its defaults; what it serves is the candidate
	Live     string         // the backend that serves so far

	Regression Regression
	Releases   int
	Progress   func() // called once per release that ended, from several goroutines; nil is nobody
}

// How a release ends.
type How string

// The ends of a release. What is paused goes on only when an operator says so; what is unfinished still ran at the limit.
const (
	Committed  How = "committed"
	RolledBack How = "rolled back"
	Paused     How = "paused"
	Unfinished How = "unfinished"
)

// Ending is how one release ended.
type Ending struct {
	How    How
	By     string        // what rolled it back: guard rail, errors, latency, p99, share seen, patience
	Reason string        // why it was rolled back or paused, or what it waited for
	At     time.Duration // since it began
	Onset  time.Duration // when the candidate turned worse, since the release began; after At if it did not come to that
	Bad    uint64        // the candidate's bad requests since then: those that fail or hang, and all of a slow candidate
}

// Turned reports whether it came to the regression.
func (e Ending) Turned() bool { return e.Onset < e.At }

// Run plays the releases on all processors and returns how they ended, in order: the n-th is the same whatever the rest. It ends early only with ctx.
func (w Whole) Run(ctx context.Context) ([]Ending, error) {
	w = w.fit()
	endings := make([]Ending, w.Releases)
	each(ctx, w.Releases, func(n int) {
		endings[n] = w.play(ctx, uint64(n))
		w.report()
	})
	return endings, ctx.Err()
}

func (w Whole) report() {
	if w.Progress != nil {
		w.Progress()
	}
}

// fit makes the document one that could be released: of a backend without endpoints it is supposed that it will have some.
func (w Whole) fit() Whole {
	if w.Limit == 0 {
		w.Limit = Length(w.Service.Plan) + w.Service.Plan.Patience.For.Std()
	}
	backends := make(map[string]policy.Backend, len(w.Service.Backends))
	for name, b := range w.Service.Backends {
		b.DNS, b.Endpoints, b.Health = "", []string{"192.0.2.1:80"}, nil
		backends[name] = b
	}
	w.Service.Backends = backends
	return w
}

// climbing is how long a climb by evidence is taken to last.
const climbing = 20 * time.Minute

// observing is how long a release observes live before its first request.
const observing = 10 * time.Second

// Length is how long a release lasts by its plan alone; of a climb by evidence that is a guess.
func Length(p policy.Plan) time.Duration {
	length := observing + p.Warmup.Std()
	if p.Evidence != nil {
		length += climbing
	}
	for _, rung := range p.Rungs() {
		length += rung.Dwell
	}
	return length
}

// accepted is the revision of the document.
const accepted = 1

// course is one release on its way.
type course struct {
	*requests
	evidence *policy.Evidence
	found    policy.Judgement
	turn     policy.Turn
	elapsed  time.Duration // since the release began
	gated    time.Duration // until its first request
}

// play runs the release with a number. What ctx interrupts ends as it stands.
func (w Whole) play(ctx context.Context, number uint64) Ending {
	c := w.course(number)
	c.decide() // it begins
	for turns := 0; c.elapsed < w.Limit; turns++ {
		if ending, over := c.step(); over {
			return c.ending(ending)
		}
		if turns%1000 == 0 && ctx.Err() != nil {
			break
		}
	}
	return c.ending(Ending{How: Unfinished, Reason: c.turn.Served.Release.Waits})
}

// course is a release that has yet to begin.
func (w Whole) course(number uint64) *course {
	live := policy.Arm{Ref: policy.Ref{Backend: w.Live, Revision: w.Service.Backends[w.Live].Revision}, Definition: w.Service.Backends[w.Live]}
	return &course{requests: w.requests(number), turn: policy.Turn{
		Revision: accepted + 1, Permit: true, Fleet: policy.Fleet{Connected: 1, Ready: 1, Confirmed: 1},
		Wish:   policy.Wish{Mod: accepted, Service: w.Service},
		Served: &policy.Served{Service: w.Service, Accepted: accepted, Live: live},
	}}
}

// step plays one turn of the release, as a leader would.
func (c *course) step() (Ending, bool) {
	served := c.turn.Served
	if c.evidence == nil {
		c.evidence = policy.NewEvidence(served.Release.ID, served.Service.Analysis)
		c.evidence.WordsEvery(time.Hour)
	}
	reading := c.requests.turn(served.Release.Weight)
	c.elapsed += Tick
	if c.at == 0 {
		c.gated = c.elapsed
	}
	c.found = c.evidence.Take(reading, served)
	decision := c.decide()
	next := c.turn.Served
	switch {
	case decision.Rollback != nil:
		return Ending{How: RolledBack, By: by(c.found), Reason: decision.Rollback.Reason}, true
	case next.Release == nil:
		return Ending{How: Committed}, true
	case next.Release.Held != "":
		return Ending{How: Paused, By: byPatience, Reason: next.Release.Held}, true
	}
	return Ending{}, false
}

// decide takes one decision.
func (c *course) decide() policy.Decision {
	c.turn.Now, c.turn.Elapsed, c.turn.Judgement = time.UnixMilli(c.elapsed.Milliseconds()), min(c.elapsed, Tick), c.found
	decision := policy.Decide(c.turn)
	c.turn.Served = decision.Served
	return decision
}

// ending completes how the release ended.
func (c *course) ending(e Ending) Ending {
	e.At, e.Bad = c.elapsed, c.bad
	if !c.worse.none() {
		e.Onset = c.gated + min(c.onset(), later)
	}
	return e
}

// byPatience is what ended a release that nothing convicted.
const byPatience = "patience"

// by names what convicted a candidate.
func by(found policy.Judgement) string {
	switch {
	case found.Verdict != policy.Unhealthy:
		return byPatience
	case found.Guarded:
		return "guard rail"
	}
	metric, _, _ := strings.Cut(found.Reason, ":")
	return metric
}
