package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// VersionHeader is the response header in which a model server names its version.
const VersionHeader = "X-Model-Version"

// z99 is the standard normal distribution's 99th percentile: it turns median and p99 into the width of a log-normal.
const z99 = 2.3263

// modelTimes are when things happened in a model server, in nanoseconds of Unix time that only ever go forward; 0 is never.
type modelTimes struct {
	FirstGood int64 `json:"firstGood"`
	LastGood  int64 `json:"lastGood"`
	FirstBad  int64 `json:"firstBad"`
	LastBad   int64 `json:"lastBad"`
	LastAsked int64 `json:"lastAsked"`
	FirstOdd  int64 `json:"firstOdd"` // asked
}

// ModelReport is what a model server knows of itself.
type ModelReport struct {
	modelTimes
	Good int64 `json:"good"` // answers that did not fail
	Bad  int64 `json:"bad"`  // answers that did
	Odd  int64 `json:"odd"`  // requests since the last Behave that it lets hang or slows down, or all if it tells a quality
}

// announcement is what a model server tells the process that started it, once, on descriptor 3.
type announcement struct {
	Serves   string `json:"serves"`
	Controls string `json:"controls"`
}

// modelServer is a version of a model behind HTTP and gRPC: it takes its time, as inference does, and names its version in each answer.
type modelServer struct {
	version string        // fixed from the start
	median  time.Duration // fixed from the start
	sigma   float64       // fixed from the start
	began   time.Time     // fixed from the start; with a monotonic reading

	mu        sync.Mutex
	behaviour Behaviour   // guarded by mu
	report    ModelReport // guarded by mu
	reported  float64     // guarded by mu: the sum of the qualities that good answers reported
}

// ModelMain is the body of a model server's process: it serves until ctx ends. Its flags are those StartModel gives it.
func ModelMain(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("model", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	listen := flags.String("listen", "127.0.0.1:0", "address of the model")
	version := flags.String("version", "", "version it answers with")
	median := flags.Duration("median", 0, "median latency")
	p99 := flags.Duration("p99", 0, "99th percentile of the latency")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("model server: %w", err)
	}
	m := &modelServer{version: *version, median: *median, sigma: logNormalWidth(*median, *p99), began: time.Now()}
	return m.run(ctx, *listen, os.NewFile(3, "announce"))
}

// logNormalWidth is the sigma of a log-normal with this median and 99th percentile.
func logNormalWidth(median, p99 time.Duration) float64 {
	if median <= 0 || p99 <= median {
		return 0
	}
	return math.Log(float64(p99)/float64(median)) / z99
}

// run serves users and, on a port of its own that the data plane never hears of, whoever makes the model fail.
func (m *modelServer) run(ctx context.Context, listen string, announce *os.File) error {
	users, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("model server: %w", err)
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(fmt.Errorf("model server: %w", err), users.Close())
	}
	hello := announcement{Serves: users.Addr().String(), Controls: control.Addr().String()}
	if err := errors.Join(json.NewEncoder(announce).Encode(hello), announce.Close()); err != nil {
		return fmt.Errorf("model server: announce the address: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /fail", m.setShare)
	mux.HandleFunc("POST /behave", m.setBehaviour)
	mux.HandleFunc("GET /report", m.tell)
	mux.HandleFunc("GET /metrics", m.expose)
	ended := make(chan error, 2)
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // for gRPC
	servers := []*http.Server{{Handler: http.HandlerFunc(m.answer), ErrorLog: quiet, Protocols: &protocols}, {Handler: mux, ErrorLog: quiet}}
	for i, listener := range []net.Listener{users, control} {
		go func() { ended <- servers[i].Serve(listener) }()
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = nil
	}
	for _, s := range servers {
		_ = s.Close() // the process is about to end
	}
	return err
}

// answer serves one user. What becomes of the request is decided when it comes, and shows when the answer goes, as with a model that dies of its input.
func (m *modelServer) answer(w http.ResponseWriter, r *http.Request) {
	f := m.arrive()
	// The body is read so that the connection can be used again; what it says does not matter.
	_, _ = io.Copy(io.Discard, r.Body)
	if f.hangs {
		<-r.Context().Done()
		return
	}
	timer := time.NewTimer(f.latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return
	}
	m.count(f)
	m.write(w, r, f)
}

// latency draws from the log-normal distribution.
func (m *modelServer) latency() time.Duration {
	return time.Duration(float64(m.median) * math.Exp(m.sigma*rand.NormFloat64()))
}

// now is Unix time that no change of the wall clock can bend: the time of the start and what a monotonic clock counted since.
func (m *modelServer) now() int64 { return m.began.UnixNano() + int64(time.Since(m.began)) }

// arrive notes a request and decides its fate.
func (m *modelServer) arrive() fate {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report.LastAsked = m.now()
	f := m.behaviour.throw(m.latency())
	if f.odd {
		m.report.Odd++
		if m.report.FirstOdd == 0 {
			m.report.FirstOdd = m.report.LastAsked
		}
	}
	return f
}

// count notes an answer just before it is written, so that no user can have seen a bad one before its stamp.
func (m *modelServer) count(f fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counter, first, last := &m.report.Good, &m.report.FirstGood, &m.report.LastGood
	if f.fails {
		counter, first, last = &m.report.Bad, &m.report.FirstBad, &m.report.LastBad
	} else {
		m.reported += f.quality
	}
	*counter++
	*last = m.now()
	if *first == 0 {
		*first = *last
	}
}

// setShare makes a share of the requests fail from the next one on, and forgets the bad answers of before.
func (m *modelServer) setShare(w http.ResponseWriter, r *http.Request) {
	share, err := strconv.ParseFloat(r.FormValue("share"), 64)
	if err != nil || share < 0 || share > 1 {
		http.Error(w, "share: want a number from 0 to 1", http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.behaviour
	next.Fail = share
	m.behave(next)
}

func (m *modelServer) tell(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	report := m.report
	m.mu.Unlock()
	_ = json.NewEncoder(w).Encode(report) // the asker sees a torn answer as an error
}

// expose tells Prometheus.
func (m *modelServer) expose(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	good, quality := float64(m.report.Good), m.reported
	m.mu.Unlock()
	for name, value := range map[string]float64{"model_good_total": good, "model_quality_total": quality} {
		_, _ = fmt.Fprintf(w, "# TYPE %s counter\n%s{version=%q} %g\n", name, name, m.version, value) // the asker sees a torn answer as an error
	}
}
