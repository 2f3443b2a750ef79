package policy

import "time"

// Rates is what the arms got lately, per second over the last seconds.
type Rates struct {
	Live            float64 `json:"live"` // requests finished per second
	LiveErrors      float64 `json:"liveErrors"`
	Candidate       float64 `json:"candidate"`
	CandidateErrors float64 `json:"candidateErrors"`
}

// Total is what both arms got together.
func (r Rates) Total() float64 { return r.Live + r.Candidate }

// meter keeps what the last few turns counted.
type meter struct {
	turns [meterTurns]metered
	at    int
}

// metered is one turn.
type metered struct {
	live, candidate Counts
	length          time.Duration
}

const meterTurns = 12

func (m *meter) add(r Reading) {
	m.turns[m.at%meterTurns] = metered{live: r.Live, candidate: r.Candidate, length: r.Interval}
	m.at++
}

func (m *meter) rates() Rates {
	var live, candidate Counts
	var length time.Duration
	for _, t := range m.turns {
		live, candidate, length = live.Add(t.live), candidate.Add(t.candidate), length+t.length
	}
	if length <= 0 {
		return Rates{}
	}
	perSecond := func(n uint64) float64 { return float64(n) / length.Seconds() }
	return Rates{
		Live: perSecond(live.Finished()), LiveErrors: perSecond(live.Errors),
		Candidate: perSecond(candidate.Finished()), CandidateErrors: perSecond(candidate.Errors),
	}
}
