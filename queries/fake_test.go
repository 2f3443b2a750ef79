package queries_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/queries"
)

// fake answers as Prometheus does, without a network, so that tests can run on a clock of their own. What it says word for word is compared with the real one's words in
// TestTheFakeSpeaksAsTheRealPrometheus.
type fake struct {
	mu      sync.Mutex
	replies map[string]reply // by expression; what is not here matches nothing
	asked   []url.Values
	under   int // questions under way
	most    int // the most of them at once
}

// reply is one answer. In its body NOW stands for the time of the question, AGE=5s for one five seconds before.
type reply struct {
	status  int           // 0 is 200
	body    string        // as Prometheus writes it
	headers http.Header   //
	after   time.Duration // it takes its time
	err     error         // instead of an answer
}

func (f *fake) set(expression string, r reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.replies == nil {
		f.replies = map[string]reply{}
	}
	f.replies[expression] = r
}

// gauge makes both arms of the query plain have values.
func (f *fake) gauge(blue, green string) {
	for backend, value := range map[string]string{"blue": blue, "green": green} {
		expression := fmt.Sprintf(`g{backend="%s"}`, backend)
		f.set(expression, reply{body: vector(series(backend, value))})
		f.set("timestamp("+expression+")", reply{body: vector(series(backend, "NOW"))})
	}
}

// RoundTrip is the server.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	answer := f.enter(r, form)
	defer f.leave()
	if answer.after > 0 {
		select {
		case <-time.After(answer.after):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if answer.err != nil {
		return nil, answer.err
	}
	return &http.Response{
		StatusCode: max(answer.status, http.StatusOK), Header: answer.headers, Request: r,
		Body: io.NopCloser(strings.NewReader(strings.ReplaceAll(answer.body, "NOW", form.Get("time")))),
	}, nil
}

func (f *fake) enter(r *http.Request, form url.Values) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	form.Set("host", r.URL.Host)
	f.asked = append(f.asked, form)
	f.under++
	f.most = max(f.most, f.under)
	answer, known := f.replies[form.Get("query")]
	if !known {
		answer.body = vector()
	}
	if before, after, found := strings.Cut(answer.body, "AGE="); found {
		age, rest, _ := strings.Cut(after, `"`)
		old, _ := time.ParseDuration(age)
		at, _ := strconv.ParseFloat(form.Get("time"), 64)
		answer.body = before + strconv.FormatFloat(at-old.Seconds(), 'f', 3, 64) + `"` + rest
	}
	return answer
}

func (f *fake) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under--
}

// times is how often an expression was asked, and all of the questions.
func (f *fake) times(expression string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := 0
	for _, form := range f.asked {
		if form.Get("query") == expression {
			count++
		}
	}
	return count
}

func vector(samples ...string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
}

func series(backend, value string) string {
	return fmt.Sprintf(`{"metric":{"backend":%q},"value":[NOW,%q]}`, backend, value)
}

const (
	bluePlain  = `g{backend="blue"}`
	greenPlain = `g{backend="green"}`
	plain      = `g{backend="{{.Backend}}"}`
	mean       = `avg(g{backend="{{.Backend}}"})`
	blueMean   = `avg(g{backend="blue"})`
	greenMean  = `avg(g{backend="green"})`
	here       = "http://prometheus:9090"
)

// shop wants a service's queries.
func shop(all ...policy.Query) queries.Wanted {
	return queries.Wanted{
		Service: "shop", Release: "green-7", Queries: all,
		Live: policy.Ref{Backend: "blue", Revision: "v1"}, Candidate: policy.Ref{Backend: "green", Revision: "v2"},
	}
}

// quiet is a log that nobody reads.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run runs a poller until the test ends or stop is called.
func run(t *testing.T, c queries.Config) (p *queries.Poller, stop func()) {
	t.Helper()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = quiet()
	}
	p = queries.New(c)
	ctx, cancel := contextOf(t)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}
