package policy

import (
	"math"
	"time"
)

// Course is how a release was judged over its turns.
type Course struct {
	Convicted bool          `json:"convicted"`
	At        time.Duration `json:"at"`     // ns since the first turn: when it was convicted
	Weight    Weight        `json:"weight"` // the candidate's then
	Reason    string        `json:"reason"` // of the conviction; of the last turn where there is none
	Verdict   string        `json:"verdict"`
	Healthy   time.Duration `json:"healthy"`   // ns that the verdict was healthy
	Strongest float64       `json:"strongest"` // ln of the most evidence there was against the candidate
	Lacks     string        `json:"lacks,omitempty"`
}

// Replay is a recorded release as it was judged, and as it would have been under changed settings. What the changed judge would have done to the weights is not known: it
// is shown the traffic that there was.
type Replay struct {
	Release string        `json:"release"`
	From    time.Time     `json:"from"`
	Length  time.Duration `json:"length"` // ns from the first turn to the end of the last
	Turns   int           `json:"turns"`
	Lost    int           `json:"lost,omitempty"` // turns that are not in the recording
	Was     Course        `json:"was"`            // as it was recorded
	Is      Course        `json:"is"`
	Changed []string      `json:"changed,omitempty"` // the settings that differ from those of the last piece
}

// RunAgain judges a recording again. Change returns the document to judge by, given the one that was in force; nil changes nothing. Each turn's judgement is handed to see,
// which may be nil.
func RunAgain(pieces []Recording, change func(Service) Service, see func(TurnRecord, Judgement)) Replay {
	p := player{change: change}
	for _, piece := range pieces {
		p.begin(piece)
		for _, turn := range piece.Turns {
			if turn.Service != nil {
				p.document(*turn.Service)
			}
			judgement := p.turn(piece, turn)
			if see != nil {
				see(turn, judgement)
			}
		}
	}
	return p.replay
}

// player is a replay at work.
type player struct {
	change   func(Service) Service
	replay   Replay
	evidence *Evidence
	service  Service
	accepted int64
}

// begin takes the head of a piece.
func (p *player) begin(piece Recording) {
	p.document(piece.Service)
	p.replay.Lost += piece.Lost
	if p.evidence == nil {
		p.evidence = piece.evidence(p.service.Analysis)
		p.replay.Release = piece.Release
	}
}

// document changes what is judged by.
func (p *player) document(was Service) {
	p.service = was
	p.accepted++
	if p.change != nil {
		p.service = p.change(was).WithDefaults()
		p.replay.Changed = Differences(Service{Analysis: was.Analysis, Plan: was.Plan}, Service{Analysis: p.service.Analysis, Plan: p.service.Plan})
	}
}

func (p *player) turn(piece Recording, turn TurnRecord) Judgement {
	r := &p.replay
	judgement := p.evidence.Take(turn.Reading, piece.served(p.service, turn, p.accepted))
	if r.Turns == 0 {
		r.From = time.UnixMilli(turn.At)
	}
	r.Turns++
	now := time.UnixMilli(turn.At).Sub(r.From)
	r.Length = now + turn.Reading.Interval
	r.Was.take(turn, now, turn.Found)
	if !r.Is.Convicted {
		r.Is.Reason, r.Is.Lacks = judgement.Reason, judgement.Lacks
	}
	r.Is.take(turn, now, judgement.found())
	return judgement
}

// evidence is what the judge began the piece with, as far as it is recorded.
func (r Recording) evidence(a Analysis) *Evidence {
	if e, err := LoadEvidence(r.Before, r.Release, a); err == nil {
		return e
	}
	return NewEvidence(r.Release, a)
}

// served is the release as it was at a turn, under a document that may be another one.
func (r Recording) served(service Service, turn TurnRecord, accepted int64) *Served {
	return &Served{
		Service: service, Accepted: accepted, Live: Arm{Ref: r.Live},
		Release: &Release{ID: r.Release, Candidate: Arm{Ref: r.Candidate}, Weight: turn.Weight, Phase: turn.Phase, InPhase: turn.InPhase, Mode: turn.Mode},
	}
}

// take follows the verdict. After a conviction there is nothing more to learn.
func (c *Course) take(turn TurnRecord, now time.Duration, found Found) {
	if c.Convicted {
		return
	}
	c.Verdict = found.Verdict
	c.Strongest = math.Max(c.Strongest, found.Log)
	switch found.Verdict {
	case Healthy.String():
		c.Healthy += turn.Reading.Interval
	case Unhealthy.String():
		c.Convicted, c.At, c.Weight = true, now, turn.Weight
	}
}
