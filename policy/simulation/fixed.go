package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

// timed is a Rule that looks at how long the candidate's requests took, too.
type timed interface {
	Times(candidate *judge.Histogram)
}

// Peer is somebody else's rule. Text says by which values it goes, in the operator's words.
type Peer struct {
	Name, Text string
	Rule       func() Rule // makes the rule for one release; called from several goroutines
}

// Peers are the rules that are compared with: the values of Flagger's tutorials, the fastest that Flagger allows, and an analysis of Argo's. The tuned ones know what is
// usual for live better than any operator does: they allow half a point of errors more, and a quarter more of the p99. Who does not judge times has no use for that.
func Peers(errors float64, t Times, judgesTimes bool) []Peer {
	const tutorial = 500 * time.Millisecond
	bounds := func(success float64, p99 time.Duration) (time.Duration, string) {
		text := fmt.Sprintf("success at least %.4g %%", 100*success)
		if !judgesTimes {
			return 0, text
		}
		return p99, fmt.Sprintf("%s, p99 at most %.0f ms", text, float64(p99)/float64(time.Millisecond))
	}
	success := max(0, 1-errors-0.005)
	usual, usually := bounds(0.99, tutorial)
	p99, tuned := bounds(success, t.P99*5/4)
	return []Peer{
		{"Flagger 60 s × 5", "Flagger as in its tutorials, five failed checks a minute apart (" + usually + ")", func() Rule {
			return &Flagger{Interval: time.Minute, Threshold: 5, Success: 0.99, P99: usual}
		}},
		{"Flagger 10 s × 1", "Flagger as fast as it can be, one failed check of those every 10 s, tuned to this traffic (" + tuned + ")", func() Rule {
			return &Flagger{Interval: 10 * time.Second, Threshold: 1, Success: success, P99: p99}
		}},
		{"Argo 60 s × 2", "Argo Rollouts with two failed measurements a minute apart, tuned like that", func() Rule {
			return &Argo{Interval: time.Minute, FailureLimit: 1, Success: success, P99: p99}
		}},
	}
}

// Clock is how peers climb: by the plan's own clock where it has one, by judge.md's ten minutes otherwise.
func Clock(p policy.Plan) []policy.Rung {
	if p.Evidence != nil || p.Cutover != nil {
		return Ramp()
	}
	return p.Rungs()
}

// Beside plays the releases by the clock of the peers, all of them on the same traffic, and returns for each peer how the releases ended, counted from the candidate's
// first request: rolled back, or committed when the clock was through. It ends early only with ctx.
func (w Whole) Beside(ctx context.Context, peers []Peer) ([][]Ending, error) {
	w = w.fit()
	endings := make([][]Ending, len(peers))
	for i := range endings {
		endings[i] = make([]Ending, w.Releases)
	}
	each(ctx, w.Releases, func(n int) {
		for i, ending := range w.race(ctx, uint64(n), peers) {
			endings[i][n] = ending
		}
		w.report()
	})
	return endings, ctx.Err()
}

// race plays one release under several rules at once. Those that have decided leave it to the others.
func (w Whole) race(ctx context.Context, number uint64, peers []Peer) []Ending {
	r := &race{requests: w.requests(number), endings: make([]Ending, len(peers)), left: len(peers)}
	for _, p := range peers {
		r.rules = append(r.rules, p.Rule())
	}
	how := Committed
	for _, rung := range Clock(w.Service.Plan) {
		until := r.at + rung.Dwell
		for r.at < min(until, w.Limit) && r.left > 0 {
			r.turn(rung.Weight)
		}
		if ctx.Err() != nil || r.at < until {
			how = Unfinished
			break
		}
	}
	for i := range r.endings {
		if r.endings[i].How == "" {
			r.end(i, how)
		}
	}
	return r.endings
}

// race is one release under several rules.
type race struct {
	*requests
	rules   []Rule
	endings []Ending
	left    int // rules that have not decided
}

// turn plays one turn.
func (r *race) turn(weight policy.Weight) {
	reading := r.requests.turn(weight)
	t := judge.Turn{
		Length: Tick, Share: weight.Share(),
		Live:      judge.Counts{Good: reading.Live.OK, Bad: reading.Live.Errors},
		Candidate: judge.Counts{Good: reading.Candidate.OK, Bad: reading.Candidate.Errors},
	}
	for i, rule := range r.rules {
		if r.endings[i].How != "" {
			continue
		}
		if watch, ok := rule.(timed); ok && reading.Times != nil {
			watch.Times(&reading.Times.Candidate)
		}
		if by := rule.Turn(t); by != "" {
			r.endings[i].By = by
			r.end(i, RolledBack)
			r.left--
		}
	}
}

func (r *race) end(i int, how How) {
	e := &r.endings[i]
	e.How, e.At, e.Bad = how, r.at, r.bad
	if !r.worse.none() {
		e.Onset = min(r.onset(), later)
	}
}
