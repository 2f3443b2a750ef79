package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Evidence is what the judges have accumulated about one release. It is owned by the deciding half; its JSON is the value of evidence/<service>, where it stays when the
// release is over: the next one starts from what was learned of live.
type Evidence struct {
	Release  string         `json:"release"`
	Errors   *judge.Errors  `json:"errors"`
	Guard    *judge.Guard   `json:"guard"`
	Seen     *judge.Seen    `json:"seen"`
	Statuses *judge.Errors  `json:"statuses,omitempty"` // nil: the document names no gRPC status
	Latency  *judge.Latency `json:"latency,omitempty"`  // nil: times are not judged
	Quality  []Gauge        `json:"quality,omitempty"`  // as Analysis.Quality lists it
	Queries  []Gauge        `json:"queries,omitempty"`  // as Analysis.Queries lists them
	Analysis string         `json:"analysis"`           // tells whether the evidence was found by the same settings
	Peak     float64        `json:"peak"`               // ln of the most evidence there was, all metrics together

	Latest Judgement   `json:"latest"`
	Rates  Rates       `json:"rates"`
	Step   Performance `json:"step"`  // at the present weight
	Whole  Performance `json:"whole"` // since the candidate first got traffic

	// What a new leader begins anew.
	accepted   int64 // the document that the judges are set by
	shares     shares
	wordsEvery time.Duration
	slow       judge.LatencyEvidence
	since      onset // of errors
	sinceGRPC  onset // of named gRPC statuses
	live       judge.Pending
	next       judge.Pending // the candidate's
	lacking    [2]reconciler // of live and of the candidate
	unrest     time.Duration // what is left of the time in which share seen says nothing, after an incident of live
	weight     Weight
	recent     meter
	parts      []judge.Part
	issued     []judge.ProxyIssued
	excess     float64
	bounded    time.Duration // since the bound on it was computed
	worded     time.Duration // since the words were chosen
	turn       turn          // the present one, kept for its memory
}

// Gauge is the judge of one quantity, by the name under which the document lists it.
type Gauge struct {
	Name  string        `json:"name"`
	Judge *judge.Gauge  `json:"judge"`
	Quiet time.Duration `json:"quiet,omitzero"` // ns without a sample of the candidate
}

// NewEvidence starts from nothing. The analysis must have its defaults.
func NewEvidence(release string, a Analysis) *Evidence {
	e := &Evidence{Release: release, Errors: &judge.Errors{}, Guard: &judge.Guard{}, Seen: &judge.Seen{}}
	e.set(a)
	return e
}

// LoadEvidence reads what a leader stored. Of another release only what it learned of live is taken over. It fails on anything else, and then the judge starts anew.
func LoadEvidence(data []byte, release string, a Analysis) (*Evidence, error) {
	e := &Evidence{}
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("read the evidence of %s: %w", release, err)
	}
	if e.Errors == nil || e.Guard == nil || e.Seen == nil || math.IsNaN(e.Peak) {
		return nil, fmt.Errorf("read the evidence of %s: a judge is missing", release)
	}
	if e.Release != release {
		e.anew(release)
	}
	e.set(a)
	return e, nil
}

// anew keeps what was learned of live for the next release.
func (e *Evidence) anew(release string) {
	next := &Evidence{Release: release, Errors: e.Errors, Guard: &judge.Guard{}, Seen: &judge.Seen{}, Statuses: e.Statuses, Latency: e.Latency, Quality: e.Quality, Queries: e.Queries}
	for _, errors := range []*judge.Errors{next.Errors, next.Statuses} {
		if errors != nil {
			errors.Anew(judge.Settings{})
		}
	}
	if next.Latency != nil {
		next.Latency.Anew()
	}
	for _, g := range slices.Concat(next.Quality, next.Queries) {
		g.Judge.Anew()
	}
	*e = *next
}
