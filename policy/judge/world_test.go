package judge_test

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

const quarter = 250 * time.Millisecond

// defaults are the margins that judge.md's figures were measured with.
func defaults() judge.Settings { return judge.Settings{Alpha: 0.01, Ratio: 1.1, Points: 1e-4} }

// service is what a world simulates.
type service struct {
	rate     float64 // requests per second, both arms together
	baseline float64 // error share of a healthy arm
	history  time.Duration
	bursty   bool
}

// usual is a service as judge.md simulated it, with half an hour of live's history.
func usual(rate, baseline float64) service {
	return service{rate: rate, baseline: baseline, history: 30 * time.Minute}
}

// world simulates a service as judge.md 2g did: independent Poisson errors, turns of 250 ms, live alone for a while, then the fixed ramp.
type world struct {
	service
	random *rand.Rand
	errors *judge.Errors
	guard  *judge.Guard
	share  float64
	bursts [2]*bursts // of live and the candidate; nil: errors are independent
}

// bursts makes four of five errors come in bursts of geometric size and mean 10, each spread over 3 s (judge.md 2g).
type bursts struct {
	pending [12]uint64 // errors of bursts that go on, by turn
	at      int
}

func (b *bursts) draw(random *rand.Rand, mean float64) uint64 {
	for range poisson(random, mean*0.8/10) {
		for again := true; again; again = random.Float64() < 0.9 {
			b.pending[(b.at+random.IntN(len(b.pending)))%len(b.pending)]++
		}
	}
	due := b.pending[b.at]
	b.pending[b.at] = 0
	b.at = (b.at + 1) % len(b.pending)
	return due + poisson(random, mean*0.2)
}

func newWorld(seed uint64, s service) *world {
	w := &world{service: s, random: rand.New(rand.NewPCG(seed, 1)), errors: judge.NewErrors(defaults()), guard: &judge.Guard{}}
	if s.bursty {
		w.bursts = [2]*bursts{{}, {}}
	}
	for range s.history / quarter {
		w.errors.Observe(w.arm(w.bursts[0], 1, w.baseline), quarter)
	}
	return w
}

// fork returns a copy with randomness of its own, so that one history serves many futures.
func (w *world) fork(seed uint64) *world {
	next := *w
	next.random = rand.New(rand.NewPCG(seed, 2))
	errors, guard := *w.errors, *w.guard
	next.errors, next.guard = &errors, &guard
	if w.bursts[0] != nil {
		live, candidate := *w.bursts[0], *w.bursts[1]
		next.bursts = [2]*bursts{&live, &candidate}
	}
	return &next
}

// ramp is the share at a time of judge.md's ramp.
func ramp(at time.Duration) float64 {
	steps := [...]float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1}
	return steps[min(int(at/time.Minute), len(steps)-1)]
}

// fate is how the error shares of both arms run over the time since the ramp began. fate of a turn is that of its start, but for onset, which may lie within.
type fate struct {
	live, candidate func(at time.Duration) float64
	onset           time.Duration // when the candidate turns bad
	bad             float64       // its error share from then on; 0: it never does
}

// outcome is how a rollout ended.
type outcome struct {
	convicted bool
	by        string
	at        time.Duration // since the ramp began
	served    uint64        // bad candidate requests since the onset
}

// roll runs the ramp from a time on, until it ends or the judge convicts.
func (w *world) roll(from, to time.Duration, f fate) outcome {
	var o outcome
	for at := from; at < to; at += quarter {
		t := judge.Turn{Length: quarter, Share: ramp(at), NewStep: ramp(at) != w.share}
		w.share = t.Share
		t.Live = w.arm(w.bursts[0], 1-t.Share, f.live(at))
		t.Candidate = w.candidate(at, t.Share, f)
		if f.bad > 0 && at+quarter > f.onset {
			o.served += t.Candidate.Bad
		}
		w.errors.Turn(t)
		found := w.errors.Evidence()
		_, tripped := w.guard.Turn(t, found.Phi, found.Level)
		o.convicted, o.by, o.at = found.Convicted || tripped, found.By, at+quarter
		if tripped {
			o.by = "guard"
		}
		if o.convicted {
			return o
		}
	}
	return o
}

func (w *world) candidate(at time.Duration, share float64, f fate) judge.Counts {
	healthy := f.candidate(at)
	if f.bad == 0 || at+quarter <= f.onset {
		return w.arm(w.bursts[1], share, healthy)
	}
	late := max(0, float64(f.onset-at)/float64(quarter)) // the part of the turn before the onset
	return w.arm(w.bursts[1], share, late*healthy+(1-late)*f.bad)
}

// arm draws what an arm with a share of the traffic finishes in a turn.
func (w *world) arm(b *bursts, share, bad float64) judge.Counts {
	mean := w.rate * quarter.Seconds() * share
	good := poisson(w.random, mean*(1-bad))
	if b != nil {
		return judge.Counts{Good: good, Bad: b.draw(w.random, mean*bad)}
	}
	return judge.Counts{Good: good, Bad: poisson(w.random, mean*bad)}
}

// poisson draws by Knuth's product, and far from zero from the normal distribution that it then is.
func poisson(random *rand.Rand, mean float64) uint64 {
	if mean > 40 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	limit, product := math.Exp(-mean), random.Float64()
	n := uint64(0)
	for product > limit {
		product *= random.Float64()
		n++
	}
	return n
}

func always(share float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return share }
}
