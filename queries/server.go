package queries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
)

const (
	workers      = 8       // of one server: queries that are asked of it at once, each for both arms
	longestReply = 1 << 20 // bytes
)

var (
	errLong      = errors.New("its answer is longer than 1 MiB; expected one number per arm")
	errElsewhere = errors.New("it redirects to another server; name that one")
)

// server is one Prometheus.
type server struct {
	api   prometheus.API
	slots chan struct{} // one entry per question under way
}

// newServer makes a server of an address that has been checked. Nothing is asked yet.
func newServer(address string, transport http.RoundTripper) (*server, error) {
	client, err := api.NewClient(api.Config{Address: address, Client: &http.Client{Transport: bounded{transport}, CheckRedirect: stay}})
	if err != nil {
		return nil, fmt.Errorf("use Prometheus at %s: %w", address, err)
	}
	return &server{api: prometheus.NewAPI(client), slots: make(chan struct{}, workers)}, nil
}

// newTransport is how servers are reached; idle connections outlast the usual interval between two questions.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 2 * workers, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: longestDeadline, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
	}
}

// stay refuses to be sent to another host: what is asked, and with which credentials, is for the server that was named.
func stay(next *http.Request, via []*http.Request) error {
	if next.URL.Host != via[0].URL.Host || len(via) > 3 {
		return errElsewhere
	}
	return nil
}

// bounded is a transport whose answers have an end.
type bounded struct{ http.RoundTripper }

// RoundTrip asks, and has the reading of a long answer fail.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = &boundedBody{ReadCloser: response.Body, left: longestReply}
	}
	return response, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read fails where the answer goes on behind its bound.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// question is one arm's query at one moment.
type question struct {
	expression string
	at         time.Time
	oldest     time.Duration // that a sample may be
	within     time.Duration // the time that an answer has
}

// ask asks, and looks how old the sample is as far as that can be told: see the package's comment.
func (s *server) ask(ctx context.Context, q question) (answer, prometheus.Warnings) {
	var options []prometheus.Option
	plain := selects(q.expression)
	if !plain {
		options = append(options, prometheus.WithLookbackDelta(q.oldest))
	}
	value, warnings, _, err := s.api.Query(ctx, q.expression, q.at, options...)
	if err != nil {
		return failure(err, q.within), warnings
	}
	found := reply(value)
	switch {
	case found.result == empty && !plain:
		found.words = fmt.Sprintf("nothing matches it that has a sample of the last %s", q.oldest)
	case found.good() && plain:
		found = s.age(ctx, q, found)
	}
	return found, warnings
}

// age looks at the timestamp of the sample behind a plain selector's answer.
func (s *server) age(ctx context.Context, q question, found answer) answer {
	value, _, _, err := s.api.Query(ctx, "timestamp("+q.expression+")", q.at)
	if err != nil {
		return failure(err, q.within)
	}
	stamp := reply(value)
	if !stamp.good() {
		return stamp
	}
	found.stamp = time.UnixMilli(int64(math.Round(stamp.value * 1000))) // what Prometheus counts in
	if age := q.at.Sub(found.stamp); age > q.oldest {
		return answer{result: stale, words: fmt.Sprintf("its newest sample is %s old; expected at most %s", age.Round(time.Second), q.oldest)}
	}
	return found
}
