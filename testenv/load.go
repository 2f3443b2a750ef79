package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// LoadConfig says what load is made.
type LoadConfig struct {
	Targets  []string      // host:port, taken in turn
	Host     string        // Host header; "" is the target
	Path     string        // "" is /, and a method's where GRPC is set
	Method   string        // "" is POST, which nobody on the way may repeat by itself
	GRPC     bool          // unary calls of gRPC with an empty message; what answers 200 is not failed, whatever its status
	Rate     float64       // requests per second, over all targets
	Timeout  time.Duration // deadline of each request; 0 is 2 s
	InFlight int           // at most so many at once, what is above fails as dropped; 0 is as many as Rate starts within Timeout
	Lanes    int           // kept-alive connections per target, taken in turn so that a port shared by several Envoys spreads them; 0 is 8
}

// Load is open-loop load: requests start at a fixed rate, whatever became of those before, as users do who know nothing of one another.
type Load struct {
	config LoadConfig    // fixed after NewLoad
	lanes  []lane        // fixed after NewLoad
	slots  chan struct{} // one is held by each request under way

	mu    sync.Mutex
	tally tally // guarded by mu
}

// lane is a connection to a target. Only when a request is still under way on it, a second connection is made.
type lane struct {
	target    string
	transport *http.Transport
}

// NewLoad checks the configuration and prepares the load; Run makes it.
func NewLoad(c LoadConfig) (*Load, error) {
	if len(c.Targets) == 0 || c.Rate <= 0 {
		return nil, fmt.Errorf("prepare load: want targets and a rate above 0, got %d targets and %g/s", len(c.Targets), c.Rate)
	}
	c = c.withDefaults()
	l := &Load{config: c, slots: make(chan struct{}, c.InFlight), tally: newTally()}
	// Neighbours in the list are different targets, so that the turn goes over targets first.
	for range c.Lanes {
		for _, target := range c.Targets {
			l.lanes = append(l.lanes, lane{target: target, transport: c.transport()})
		}
	}
	return l, nil
}

func (c LoadConfig) transport() *http.Transport {
	t := &http.Transport{MaxIdleConnsPerHost: 2, DisableCompression: true}
	if c.GRPC {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

func (c LoadConfig) withDefaults() LoadConfig {
	switch {
	case c.Path != "":
	case c.GRPC:
		c.Path = "/testenv.Model/Infer" // a service and a method, or Envoy does not count it as gRPC
	default:
		c.Path = "/"
	}
	if c.Method == "" {
		c.Method = http.MethodPost
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.InFlight == 0 {
		c.InFlight = int(c.Rate*c.Timeout.Seconds()) + 1
	}
	if c.Lanes == 0 {
		c.Lanes = 8
	}
	return c
}

// Run makes load until ctx ends, and returns when the last request has its answer.
func (l *Load) Run(ctx context.Context) error {
	var underWay sync.WaitGroup
	defer l.close()
	defer underWay.Wait()
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		due := began.Add(time.Duration(float64(i) / l.config.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		l.start(&underWay, l.lanes[i%len(l.lanes)], due)
	}
}

// start sends one request, unless too many are under way.
func (l *Load) start(underWay *sync.WaitGroup, on lane, due time.Time) {
	select {
	case l.slots <- struct{}{}:
	default:
		l.note(result{how: dropped, at: time.Now()})
		return
	}
	underWay.Go(func() {
		r := l.send(on)
		<-l.slots
		r.at = time.Now()
		r.took = r.at.Sub(due)
		l.note(r)
	})
}

func (l *Load) note(r result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.add(r)
}

// send asks once and reads the whole answer. It goes past http.Client, which would follow redirects; the transport repeats nothing that has a body which
// cannot be had a second time, so every reset shows.
func (l *Load) send(on lane) result {
	// The end of the load does not cut off a request: what has begun is brought to its end.
	ctx, cancel := context.WithTimeout(context.Background(), l.config.Timeout)
	defer cancel()
	request, err := l.request(ctx, on.target)
	if err != nil {
		return result{how: reset}
	}
	answer, err := on.transport.RoundTrip(request)
	if err != nil {
		return result{how: endOf(err)}
	}
	defer func() { _ = answer.Body.Close() }()
	r := result{status: answer.StatusCode, version: answer.Header.Get(VersionHeader)}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		r.how = endOf(err)
	} else if answer.StatusCode >= http.StatusBadRequest {
		r.how = failedStatus
	}
	return r
}

func (l *Load) request(ctx context.Context, target string) (*http.Request, error) {
	const question = `{"inputs": [0.25, 0.5]}`
	request, err := http.NewRequestWithContext(ctx, l.config.Method, "http://"+target+l.config.Path, nil)
	if err != nil {
		return nil, err
	}
	if l.config.Host != "" {
		request.Host = l.config.Host
	}
	if l.config.GRPC {
		request.Header.Set("Content-Type", "application/grpc")
		request.Header.Set("TE", "trailers")
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 5))), 5
		return request, nil
	}
	if l.config.Method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(question)), int64(len(question))
	}
	return request, nil
}

// endOf tells a timeout from a connection that failed.
func endOf(err error) ending {
	var slow interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout() {
		return timedOut
	}
	return reset
}

// Totals is a snapshot of everything that has ended so far.
func (l *Load) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally.snapshot()
}

// Seconds are the newest n whole seconds, oldest first; one in which nothing ended is missing.
func (l *Load) Seconds(n int) []Second {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally.last(n)
}

func (l *Load) close() {
	for _, lane := range l.lanes {
		lane.transport.CloseIdleConnections()
	}
}
