package simulation

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"
)

// Batch is a number of releases of one scenario under one rule.
type Batch struct {
	Scenario
	Releases int
	Rule     func() Rule // makes the rule for one release; called from several goroutines
	Progress func()      // called once per release that ended, from several goroutines; nil is nobody
}

// errNoClimber is what a climb needs.
var errNoClimber = errors.New("a climb by evidence needs a rule with evidence")

// Run plays the releases on all processors and returns their outcomes, in order: the n-th is the same whatever the rest. It ends early only with ctx.
func (b Batch) Run(ctx context.Context) ([]Outcome, error) {
	b.Scenario = b.fit()
	if _, ok := b.Rule().(Climber); b.Climb != nil && !ok {
		return nil, errNoClimber
	}
	outcomes := make([]Outcome, b.Releases)
	each(ctx, b.Releases, func(n int) {
		outcomes[n] = b.play(uint64(n), b.Rule())
		if b.Progress != nil {
			b.Progress()
		}
	})
	return outcomes, ctx.Err()
}

// Summary is what many releases of one scenario came to.
type Summary struct {
	Releases  int
	Convicted int            // rolled back, early or not
	Early     int            // of them, before the candidate turned bad
	Promoted  int            // by a climb
	By        map[string]int // convictions by what convicted
	Bad       float64        // mean of Outcome.Bad, over the releases that were not rolled back early
	BadError  float64        // its standard error
	Delay     time.Duration  // their median time from the onset to the conviction; Undetected if less than half were convicted
	End       time.Duration  // median time of the end of all
}

// Undetected is the delay of what is never found.
const Undetected = time.Duration(math.MaxInt64)

// Detected returns which part of the candidates that had turned bad, or never did, was convicted.
func (s Summary) Detected() float64 {
	return float64(s.Convicted-s.Early) / float64(max(1, s.Releases-s.Early))
}

// Summarize counts.
func Summarize(outcomes []Outcome) Summary {
	s := Summary{Releases: len(outcomes), By: map[string]int{}, Delay: Undetected}
	var delays, ends []time.Duration
	var bad []float64
	for _, o := range outcomes {
		s.count(o)
		ends = append(ends, o.At)
		if o.Early() {
			continue
		}
		delay := Undetected
		if o.Convicted() {
			delay = o.At - o.Onset
		}
		delays, bad = append(delays, delay), append(bad, float64(o.Bad))
	}
	s.Bad, s.BadError = mean(bad)
	if len(delays) > 0 {
		s.Delay = median(delays)
	}
	if len(ends) > 0 {
		s.End = median(ends)
	}
	return s
}

func (s *Summary) count(o Outcome) {
	if o.Convicted() {
		s.Convicted++
		s.By[o.By]++
	}
	if o.Early() {
		s.Early++
	}
	if o.Promoted {
		s.Promoted++
	}
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// mean returns the mean and its standard error, which is not a number for a single value.
func mean(values []float64) (mean, standardError float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v / n
	}
	squares := 0.0
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(squares / (n - 1) / n)
}
