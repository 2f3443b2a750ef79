package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ModelConfig says how a model server is run.
type ModelConfig struct {
	Program Program       // a binary in the role of ModelMain
	Version string        // what it answers with
	Listen  string        // host:port; "" is a free port on loopback
	Median  time.Duration // of its latency
	P99     time.Duration // of its latency; not above the median: always the median
	Log     string        // file that gets its output; "" discards it
}

// Model is a model server in a process of its own, as the one who runs it sees it.
type Model struct {
	*Proc
	version string       // fixed after StartModel
	at      announcement // fixed after StartModel
	http    *http.Client // to its control port
}

// StartModel starts a model server that lives until ctx ends, and returns when it serves.
func StartModel(ctx context.Context, c ModelConfig) (*Model, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start model server %s: %w", c.Version, err)
	}
	defer func() { _ = reader.Close() }()
	command := Command{Program: c.Program, Log: c.Log, Extra: []*os.File{writer}, Grace: time.Second}
	command.Args = append(command.Args[:len(command.Args):len(command.Args)],
		"--listen", c.Listen, "--version", c.Version, "--median", c.Median.String(), "--p99", c.P99.String())
	p, err := StartProc(ctx, command)
	_ = writer.Close()
	if err != nil {
		return nil, err
	}
	m := &Model{Proc: p, version: c.Version, http: &http.Client{Timeout: 5 * time.Second}}
	if err := m.meet(reader); err != nil {
		return nil, fmt.Errorf("start model server %s: %w", c.Version, err)
	}
	return m, nil
}

// meet reads where the server listens. A process that ends before it says so ends the pipe.
func (m *Model) meet(from *os.File) error {
	if err := from.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return errors.Join(err, m.Kill())
	}
	err := json.NewDecoder(from).Decode(&m.at)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return errors.Join(errors.New("it ended before it served"), m.Wait())
	default:
		return errors.Join(err, m.Kill())
	}
}

// Version is what it answers with.
func (m *Model) Version() string { return m.version }

// Address is host:port where it serves.
func (m *Model) Address() string { return m.at.Serves }

// Fail makes this share of the requests fail with status 500, from the next one on; 0 mends it. A share above 0 starts the count of bad answers anew.
func (m *Model) Fail(ctx context.Context, share float64) error {
	_, err := m.ask(ctx, http.MethodPost, "/fail?share="+strconv.FormatFloat(share, 'g', -1, 64))
	return err
}

// Behave changes how it treats its users, from the next request on, and starts the count of odd requests anew. Behaviour that fails some does so with bad answers.
func (m *Model) Behave(ctx context.Context, b Behaviour) error {
	body, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("tell model server %s how to behave: %w", m.version, err)
	}
	_, err = m.send(ctx, http.MethodPost, "/behave", bytes.NewReader(body))
	return err
}

// Metrics is host:port where Prometheus may scrape it: model_good_total, and model_quality_total, the sum of what good answers reported, with the label version.
func (m *Model) Metrics() string { return m.at.Controls }

// Report is what it has counted and stamped so far.
func (m *Model) Report(ctx context.Context) (ModelReport, error) {
	var report ModelReport
	body, err := m.ask(ctx, http.MethodGet, "/report")
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal(body, &report); err != nil {
		return report, fmt.Errorf("read the report of model server %s: %w", m.version, err)
	}
	return report, nil
}

func (m *Model) ask(ctx context.Context, method, path string) ([]byte, error) {
	return m.send(ctx, method, path, http.NoBody)
}

func (m *Model) send(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+m.at.Controls+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask model server %s: %w", m.version, err)
	}
	answer, err := m.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask model server %s: %w", m.version, err)
	}
	defer func() { _ = answer.Body.Close() }()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(said)))
	}
	if err != nil {
		return nil, fmt.Errorf("ask model server %s for %s: %w", m.version, filepath.Base(path), err)
	}
	return said, nil
}
