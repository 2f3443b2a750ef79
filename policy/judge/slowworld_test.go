package judge_test

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// shape is how an arm's requests are spread over the buckets of a histogram.
type shape [judge.Buckets]float64

// lognormal is judge.md 3.5's service, times a factor: median 50 ms, p99 250 ms.
func lognormal(factor float64) shape {
	var s shape
	sigma := math.Log(5) / 2.3263478740408408
	below := 0.0
	for i, bound := range judge.Bounds() {
		upTo := 0.5 * math.Erfc(-math.Log(float64(bound)/(50*factor))/sigma/math.Sqrt2)
		s[i] = upTo - below
		below = upTo
	}
	s[judge.Buckets-1] = 1 - below
	return s
}

// mixed is a part of one shape and the rest of another.
func mixed(part float64, a, b shape) shape {
	for i := range a {
		a[i] = part*a[i] + (1-part)*b[i]
	}
	return a
}

func (s shape) draw(random *rand.Rand, mean float64) *judge.Histogram {
	h := &judge.Histogram{}
	for i, p := range s {
		if mean*p > 1e-9 {
			h[i] = poisson(random, mean*p)
		}
	}
	return h
}

func slowDefaults() judge.LatencySettings { return judge.LatencySettings{Alpha: 0.01, Ratio: 1.1} }

// slowWorld simulates what judge.md 3.5 did: turns of a second, half an hour of live alone, then the ramp, which ends at 95 %.
type slowWorld struct {
	rate    float64
	random  *rand.Rand
	latency *judge.Latency
}

func newSlowWorld(seed uint64, rate float64, history time.Duration) *slowWorld {
	return slowWorldOf(seed, rate, history, slowDefaults())
}

func slowWorldOf(seed uint64, rate float64, history time.Duration, settings judge.LatencySettings) *slowWorld {
	w := &slowWorld{rate: rate, random: rand.New(rand.NewPCG(seed, 5)), latency: judge.NewLatency(settings)}
	w.observe(history, false)
	return w
}

// observe lets live be alone for a while.
func (w *slowWorld) observe(history time.Duration, clusters bool) {
	usual := lognormal(1)
	for range history / time.Second {
		h := usual.draw(w.random, w.rate)
		if clusters {
			cluster(w.random, h, w.rate)
		}
		w.latency.Observe(h, time.Second)
	}
}

func (w *slowWorld) fork(seed uint64) *slowWorld {
	next := *w
	next.random = rand.New(rand.NewPCG(seed, 6))
	latency := *w.latency
	next.latency = &latency
	return &next
}

// course is how the times of both arms run.
type course struct {
	live, candidate func(at time.Duration) *shape
	warm            time.Duration
	skew            float64       // the candidate really gets this many times its share; 0 is once
	clusters        bool          // of 1 % of the requests, ten in a row on average take 8 times as long
	onset           time.Duration // requests are exposed from here on
}

func steady(s shape) func(time.Duration) *shape {
	return func(time.Duration) *shape { return &s }
}

// switched returns one shape before a time and another one after it.
func switched(end time.Duration, a, b shape) func(time.Duration) *shape {
	return func(at time.Duration) *shape {
		if at < end {
			return &a
		}
		return &b
	}
}

// cluster adds what a pause of the server holds up: geometric numbers of requests that take 8 times as long.
func cluster(random *rand.Rand, h *judge.Histogram, mean float64) {
	slow := lognormal(8)
	for range poisson(random, mean*0.01/10) {
		size := 1.0
		for random.Float64() < 0.9 {
			size++
		}
		h.Add(slow.draw(random, size))
	}
}

// pick is 1 for yes.
func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// roll runs the ramp and returns how it ended; what is served is all that the candidate got since the onset.
func (w *slowWorld) roll(c course) outcome {
	var o outcome
	before := -1.0
	for at := time.Duration(0); at < 10*time.Minute; at += time.Second {
		share := min(ramp(at), 0.95)
		real := min(0.95, share*max(c.skew, oneIf(c.skew == 0)))
		live, candidate := c.live(at).draw(w.random, w.rate*(1-real)), c.candidate(at).draw(w.random, w.rate*real)
		if c.clusters {
			cluster(w.random, live, w.rate*(1-real))
			cluster(w.random, candidate, w.rate*real)
		}
		if at >= c.onset {
			o.served += candidate.Total()
		}
		w.latency.Turn(judge.LatencyTurn{
			Length: time.Second, Share: share, NewStep: share != before, Warming: at < c.warm,
			Live: live, Candidate: candidate,
		})
		before = share
		found := w.latency.Evidence()
		if o.convicted, o.by, o.at = found.Convicted, found.By, at+time.Second; o.convicted {
			return o
		}
	}
	return o
}
