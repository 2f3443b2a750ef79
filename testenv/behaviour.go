package testenv

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Behaviour is how a model server treats its users. The zero value is a good model.
type Behaviour struct {
	Fail     float64  `json:"fail"`     // share of requests that fail: status 500, or Status if it is a gRPC request
	Status   int      `json:"status"`   // of gRPC requests that fail; 0 is INTERNAL
	Slow     float64  `json:"slow"`     // factor on all latencies; 0 is 1
	Tail     float64  `json:"tail"`     // share of requests that take TailSlow times as long besides
	TailSlow float64  `json:"tailSlow"` // factor on their latencies; 0 is 1
	Hang     float64  `json:"hang"`     // share of requests that are never answered
	Quality  *float64 `json:"quality"`  // mean of named_metrics.quality, which answers report in the ORCA header; nil is no header
	Scatter  float64  `json:"scatter"`  // its standard deviation
}

// grpcInternal is the status of gRPC requests that fail without one being said.
const grpcInternal = 13

// check says what cannot be.
func (b Behaviour) check() error {
	for name, share := range map[string]float64{"fail": b.Fail, "tail": b.Tail, "hang": b.Hang} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%s: want a number from 0 to 1", name)
		}
	}
	for name, factor := range map[string]float64{"slow": b.Slow, "tailSlow": b.TailSlow, "scatter": b.Scatter} {
		if !(factor >= 0) || math.IsInf(factor, 0) {
			return fmt.Errorf("%s: want a number from 0 on", name)
		}
	}
	if b.Status < 0 || b.Status > 16 {
		return errors.New("status: want a gRPC status from 0 to 16")
	}
	return nil
}

// fate is what becomes of one request, decided when it comes.
type fate struct {
	fails, hangs bool
	odd          bool // slow, hangs or tells its quality
	quality      float64
	status       int // of gRPC
	latency      time.Duration
	orca         string // "": no report
}

// throw decides about one request that would take so long if all was well.
func (b Behaviour) throw(latency time.Duration) fate {
	f := fate{fails: happens(b.Fail), hangs: happens(b.Hang), latency: scaled(latency, b.Slow)}
	if happens(b.Tail) {
		f.latency = scaled(f.latency, b.TailSlow)
	}
	if f.fails {
		f.status = b.Status
		if f.status == 0 {
			f.status = grpcInternal
		}
	}
	if b.Quality != nil {
		// Envoy drops reports below zero.
		f.quality = max(0, *b.Quality+b.Scatter*rand.NormFloat64())
		f.orca = "TEXT named_metrics.quality=" + strconv.FormatFloat(f.quality, 'f', 6, 64)
	}
	f.odd = f.hangs || f.latency != latency || b.Quality != nil
	return f
}

func happens(share float64) bool { return share > 0 && rand.Float64() < share }

func scaled(d time.Duration, factor float64) time.Duration {
	if factor == 0 {
		return d
	}
	return time.Duration(float64(d) * factor)
}

// setBehaviour changes how requests are treated from the next one on, and forgets the odd ones of before. One that fails some forgets the bad answers of before.
func (m *modelServer) setBehaviour(w http.ResponseWriter, r *http.Request) {
	var next Behaviour
	err := json.NewDecoder(r.Body).Decode(&next)
	if err == nil {
		err = next.check()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.behave(next)
}

// behave takes a behaviour. The caller holds mu.
func (m *modelServer) behave(next Behaviour) {
	if next.Fail > 0 {
		m.report.Bad, m.report.FirstBad, m.report.LastBad = 0, 0, 0
	}
	m.report.Odd, m.report.FirstOdd = 0, 0
	m.behaviour = next
}

// write answers one user.
func (m *modelServer) write(w http.ResponseWriter, r *http.Request, f fate) {
	w.Header().Set(VersionHeader, m.version)
	if f.orca != "" {
		w.Header().Set("Endpoint-Load-Metrics", f.orca)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		writeGRPC(w, f)
		return
	}
	status := http.StatusOK
	if f.fails {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A user who has gone does not read the body, which is nobody's loss.
	_, _ = fmt.Fprintf(w, "{\"version\": %q, \"failed\": %t}\n", m.version, f.fails)
}

// writeGRPC answers a call of any method with an empty message, or with a status (gRPC over HTTP/2: length-prefixed messages, status in the trailers).
func writeGRPC(w http.ResponseWriter, f fate) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	w.WriteHeader(http.StatusOK)
	if !f.fails {
		_ = binary.Write(w, binary.BigEndian, [5]byte{})
	}
	w.Header().Set("Grpc-Status", strconv.Itoa(f.status))
	if f.fails {
		w.Header().Set("Grpc-Message", "as it was told to fail")
	}
}
