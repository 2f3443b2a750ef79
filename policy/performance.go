package policy

import (
	"math"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Performance is how both arms fared over some time, and so how users fared: what reaches them is P = (1−w)·P_live + w·P_candidate at the share w that the candidate
// really had.
type Performance struct {
	Live      ArmPerformance `json:"live"`
	Candidate ArmPerformance `json:"candidate"`
}

// ArmPerformance is how the requests of one arm fared.
type ArmPerformance struct {
	Requests uint64          `json:"requests"` // finished tries
	Errors   uint64          `json:"errors"`
	Times    judge.Histogram `json:"times,omitzero"`    // of whole requests; what never finished counts as slower than everything
	Quality  []judge.Sample  `json:"quality,omitempty"` // as Analysis.Quality lists it
}

// add adds one turn, with the tries that hang.
func (p *Performance) add(t *turn) {
	p.Live.add(t.reading.Live)
	p.Candidate.add(t.reading.Candidate)
	if t.timed && t.times.Live.Total() <= mostPerTurn && t.times.Candidate.Total() <= mostPerTurn {
		p.Live.Times.Add(&t.times.Live)
		p.Candidate.Times.Add(&t.times.Candidate)
	}
	for i, q := range t.reading.Quality {
		p.Live.sample(i, q.Live)
		p.Candidate.sample(i, q.Candidate)
	}
}

// mostPerTurn is beyond what an arm can finish in a turn: no reading, but a counter that went backwards. The judges leave it out, too.
const mostPerTurn = 1 << 32

func (a *ArmPerformance) add(c Counts) {
	if c.OK > mostPerTurn || c.Errors > mostPerTurn {
		return
	}
	a.Requests += c.Finished()
	a.Errors += c.Errors
}

// sample adds what a turn's requests reported. What is no number counts for nothing.
func (a *ArmPerformance) sample(i int, s judge.Sample) {
	if s.Count > mostPerTurn || math.IsNaN(s.Sum) || math.IsInf(s.Sum, 0) {
		s = judge.Sample{}
	}
	for len(a.Quality) <= i {
		a.Quality = append(a.Quality, judge.Sample{})
	}
	a.Quality[i].Sum += s.Sum
	a.Quality[i].Count += s.Count
}

// reset forgets everything and keeps the memory.
func (p *Performance) reset() {
	*p = Performance{Live: ArmPerformance{Quality: p.Live.Quality[:0]}, Candidate: ArmPerformance{Quality: p.Candidate.Quality[:0]}}
}

// Blend is what users got of both arms together.
func (p Performance) Blend() ArmPerformance {
	all := p.Live
	all.Requests += p.Candidate.Requests
	all.Errors += p.Candidate.Errors
	all.Times.Add(&p.Candidate.Times)
	all.Quality = make([]judge.Sample, max(len(p.Live.Quality), len(p.Candidate.Quality)))
	for _, arm := range [][]judge.Sample{p.Live.Quality, p.Candidate.Quality} {
		for i, s := range arm {
			all.Quality[i].Sum += s.Sum
			all.Quality[i].Count += s.Count
		}
	}
	return all
}

// ErrorShare is the share of requests that failed, 0 without requests.
func (a *ArmPerformance) ErrorShare() float64 { return float64(a.Errors) / float64(max(1, a.Requests)) }

// numbers adds what the history tells of a time, under names that begin with prefix: "whole.", "step.".
func (p Performance) numbers(to map[string]float64, prefix string, quality []Quality) {
	all := p.Blend()
	p.Live.numbers(to, prefix+"live.", quality)
	p.Candidate.numbers(to, prefix+"candidate.", quality)
	all.numbers(to, prefix+"all.", quality)
}

func (a *ArmPerformance) numbers(to map[string]float64, prefix string, quality []Quality) {
	to[prefix+"requests"], to[prefix+"errors"] = float64(a.Requests), a.ErrorShare()
	if p99 := a.Times.Quantile(0.99); p99 > 0 {
		to[prefix+"p50Ms"], to[prefix+"p99Ms"] = a.Times.Quantile(0.5), p99
	}
	for i, s := range a.Quality {
		if s.Count > 0 && i < len(quality) {
			to[prefix+quality[i].ORCA] = s.Mean()
		}
	}
}
