package policy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Recording is a piece of what was read and judged during a release, turn by turn: enough to judge it again under other settings. Its encoding is the value of a key
// under readings/.
type Recording struct {
	Release   string          `json:"release"`
	Service   Service         `json:"service"` // the document in force at the piece's first turn, with its defaults
	Live      Ref             `json:"live"`
	Candidate Ref             `json:"candidate"`
	Before    json.RawMessage `json:"before,omitempty"` // the evidence before the first turn, where a leader began to record
	Turns     []TurnRecord    `json:"turns"`
	Lost      int             `json:"lost,omitempty"` // turns before the first one of this piece that could not be kept
}

// TurnRecord is one turn: where the release was, what was read, and what it came to.
type TurnRecord struct {
	At      int64         `json:"at"` // by the leader's clock, ms since 1970
	Weight  Weight        `json:"weight"`
	Phase   Phase         `json:"phase"`
	InPhase time.Duration `json:"inPhase"` // ns
	Mode    Mode          `json:"mode"`
	Reading Reading       `json:"reading"`
	Found   Found         `json:"found"`
	Service *Service      `json:"service,omitempty"` // the document in force from here on, where it has changed
}

// Found is a judgement without its words.
type Found struct {
	Verdict  string  `json:"verdict"`
	Log      float64 `json:"log"` // ln of the evidence against the candidate, all metrics together
	Incident bool    `json:"incident,omitempty"`
}

// mostNamed is how many proxies a recorded reading names at most; those of a larger fleet are added up only.
const mostNamed = 16

// largestRecording bounds what a piece may unpack to.
const largestRecording = 64 << 20

// Record is a turn of a running release for its recording.
func Record(at time.Time, s *Served, reading Reading, found Judgement) TurnRecord {
	reading.Proxies, reading.Quality, reading.Queries = slices.Clone(reading.Proxies), slices.Clone(reading.Quality), slices.Clone(reading.Queries)
	if len(reading.Proxies) > mostNamed {
		reading.Proxies = nil
	}
	return TurnRecord{
		At: at.UnixMilli(), Weight: s.Release.Weight, Phase: s.Release.Phase, InPhase: s.Release.InPhase, Mode: s.Release.Mode, Reading: reading, Found: found.found(),
	}
}

func (j Judgement) found() Found {
	return Found{Verdict: j.Verdict.String(), Log: j.Log, Incident: j.Incident}
}

// Encode packs the piece. It fails only on numbers that JSON has no words for.
func (r Recording) Encode() ([]byte, error) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if err := json.NewEncoder(zip).Encode(r); err != nil {
		return nil, fmt.Errorf("pack the readings of %s: %w", r.Release, err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("pack the readings of %s: %w", r.Release, err)
	}
	return packed.Bytes(), nil
}

// DecodeRecording unpacks what Encode packed.
func DecodeRecording(data []byte) (Recording, error) {
	var r Recording
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return r, fmt.Errorf("unpack readings: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(zip, largestRecording)).Decode(&r); err != nil {
		return Recording{}, fmt.Errorf("unpack readings: %w", err)
	}
	return r, nil
}
