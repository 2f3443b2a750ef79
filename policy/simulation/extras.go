package simulation

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
)

// extras draws what a document judges besides errors and times. Nothing is known of it, so that both arms always have the same of it: a mean of 1 that scatters a little.
type extras struct {
	scatters []float64 // by quantity: of one request
	queries  []policy.QueryReading
	every    []time.Duration // by query
	due      []time.Duration
	quality  []policy.ArmSamples
	statuses *policy.Statuses
	random   *rand.Rand
}

// usualScatter is the standard deviation of a quantity of which the document says no margin; with one it is four margins.
const usualScatter = 0.1

func extrasOf(a policy.Analysis, number uint64) extras {
	e := extras{random: rand.New(rand.NewPCG(number, ^number))}
	if len(a.Errors.GRPC) > 0 {
		e.statuses = &policy.Statuses{}
	}
	scatter := func(margin float64) float64 {
		if margin > 0 {
			return 4 * margin
		}
		return usualScatter
	}
	for _, q := range a.Quality {
		e.scatters = append(e.scatters, scatter(q.Margin))
	}
	e.quality = make([]policy.ArmSamples, len(a.Quality))
	for _, q := range a.Queries {
		e.every = append(e.every, q.Every.Std())
		e.scatters = append(e.scatters, scatter(q.Margin))
	}
	e.queries, e.due = make([]policy.QueryReading, len(a.Queries)), make([]time.Duration, len(a.Queries))
	return e
}

// add completes a reading.
func (e *extras) add(r *policy.Reading) {
	if e.statuses != nil {
		const ok, unavailable = 0, 14
		e.statuses.Live[ok], e.statuses.Live[unavailable] = r.Live.OK, r.Live.Errors
		e.statuses.Candidate[ok], e.statuses.Candidate[unavailable] = r.Candidate.OK, r.Candidate.Errors
		r.Statuses = e.statuses
	}
	for i := range e.quality {
		e.quality[i] = policy.ArmSamples{Live: e.sample(i, r.Live.Finished()), Candidate: e.sample(i, r.Candidate.Finished())}
	}
	for i := range e.queries {
		e.ask(i)
	}
	r.Quality, r.Queries = e.quality, e.queries
}

// sample is what so many requests reported of one quantity.
func (e *extras) sample(i int, n uint64) judge.Sample {
	count := float64(n)
	return judge.Sample{Sum: count + math.Sqrt(count)*e.scatters[i]*e.random.NormFloat64(), Count: n}
}

// ask reads one query when it is time to.
func (e *extras) ask(i int) {
	q := &e.queries[i]
	if q.Fresh = e.due[i] <= 0; q.Fresh {
		scatter := e.scatters[len(e.quality)+i]
		q.Live, q.Candidate = 1+scatter*e.random.NormFloat64(), 1+scatter*e.random.NormFloat64()
		e.due[i] = e.every[i]
	}
	e.due[i] -= Tick
}
