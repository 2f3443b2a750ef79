package queries_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/queries"
	"github.com/rampart-proxy/rampart/testenv"
)

// exporter is what a backend's metrics are scraped from.
type exporter struct {
	http.Server
	address string
	gone    atomic.Bool
}

// metrics are the exporter's. The gauge old comes with a timestamp of its own, as old samples do that nothing marks as gone.
func metrics(now time.Time) string {
	return fmt.Sprintf(`g{backend="blue"} 3
g{backend="green"} 4.5
odd{backend="blue"} 1
odd{backend="green"} NaN
many{backend="blue"} 1
many{backend="green",pod="a"} 1
many{backend="green",pod="b"} 2
half{backend="blue"} 1
old{backend="blue"} 1
old{backend="green"} 2 %d
quoted{rev="v\"1"} 7
quoted{rev="v2"} 8
`, now.Add(-40*time.Second).UnixMilli())
}

func startExporter(t *testing.T) *exporter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &exporter{address: listener.Addr().String()}
	e.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if e.gone.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, metrics(time.Now()))
	})
	done := make(chan error, 1)
	go func() { done <- e.Serve(listener) }()
	t.Cleanup(func() {
		_ = e.Close()
		<-done
	})
	return e
}

func startPrometheus(t *testing.T, targets ...string) *testenv.Prometheus {
	t.Helper()
	ctx, cancel := contextOf(t)
	t.Cleanup(cancel)
	p, err := testenv.StartPrometheus(ctx, testenv.PrometheusConfig{Dir: t.TempDir(), Targets: targets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// raw asks a Prometheus, real or not, and returns the status and what it says.
func raw(t *testing.T, transport http.RoundTripper, address, expression string, more url.Values) (int, map[string]any) {
	t.Helper()
	form := url.Values{"query": {expression}, "time": {fmt.Sprintf("%.3f", float64(time.Now().UnixMilli())/1000)}}
	for key, values := range more {
		form[key] = values
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/api/v1/query", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, map[string]any{"error": err.Error()}
	}
	defer response.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return response.StatusCode, body
}

// timeless puts NOW for times, and leaves out the labels that say who was scraped.
func timeless(value any, stamped bool) any {
	switch v := value.(type) {
	case map[string]any:
		delete(v, "job")
		delete(v, "instance")
		for key, part := range v {
			v[key] = timeless(part, stamped)
		}
	case []any:
		if len(v) == 2 {
			if _, moment := v[0].(float64); moment {
				v[0] = "NOW"
				if stamped {
					v[1] = "NOW"
				}
				return v
			}
		}
		for i := range v {
			v[i] = timeless(v[i], stamped)
		}
	}
	return value
}

// quickly is a transport without connections that stay.
func quickly() *http.Transport { return &http.Transport{DisableKeepAlives: true} }

// scraped waits until a series has a sample: a Prometheus begins to scrape some five seconds after its start.
func scraped(t *testing.T, p *testenv.Prometheus, expression string) {
	t.Helper()
	ctx, cancel := contextOf(t)
	defer cancel()
	limit := time.AfterFunc(time.Minute, cancel)
	defer limit.Stop()
	err := testenv.Eventually(ctx, func() (bool, error) {
		_, body := raw(t, quickly(), p.URL(), expression, nil)
		return strings.Contains(fmt.Sprint(body), "backend"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reads waits until the poller's reading of shop's first query is as wanted.
func reads(t *testing.T, p *queries.Poller, what string, wanted func(policy.QueryReading) bool) {
	t.Helper()
	ctx, cancel := contextOf(t)
	defer cancel()
	limit := time.AfterFunc(time.Minute, cancel)
	defer limit.Stop()
	var got []policy.QueryReading
	if testenv.Eventually(ctx, func() (bool, error) {
		got = p.Take(time.Now(), "shop")
		return len(got) > 0 && wanted(got[0]), nil
	}) != nil {
		t.Fatalf("%s: got %+v", what, got)
	}
}

func TestTheFakeSpeaksAsTheRealPrometheus(t *testing.T) {
	real, f := startPrometheus(t, startExporter(t).address), &fake{}
	scraped(t, real, bluePlain)
	named := func(name, backend, value string) string {
		return fmt.Sprintf(`{"metric":{"__name__":%q,"backend":%q},"value":[NOW,%q]}`, name, backend, value)
	}
	for expression, r := range map[string]reply{
		bluePlain:                      {body: vector(named("g", "blue", "3"))},
		greenPlain:                     {body: vector(named("g", "green", "4.5"))},
		`odd{backend="green"}`:         {body: vector(named("odd", "green", "NaN"))},
		"timestamp(" + bluePlain + ")": {body: vector(series("blue", "NOW"))},
		"g":                            {body: vector(named("g", "blue", "3"), named("g", "green", "4.5"))},
		"nothing":                      {body: vector()},
		"avg(nothing)":                 {body: vector()},
		"vector(0)/0":                  {body: vector(`{"metric":{},"value":[NOW,"NaN"]}`)},
		"1":                            {body: `{"status":"success","data":{"resultType":"scalar","result":[NOW,"1"]}}`},
		`"abc"`:                        {body: `{"status":"success","data":{"resultType":"string","result":[NOW,"abc"]}}`},
		"nothing[5m]":                  {body: `{"status":"success","data":{"resultType":"matrix","result":[]}}`},
		"g{":                           {status: 400, body: `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:3: parse error: unexpected end of input inside braces"}`},
	} {
		f.set(expression, r)
		stamped := strings.HasPrefix(expression, "timestamp")
		status, body := raw(t, quickly(), real.URL(), expression, nil)
		fakeStatus, fakeBody := raw(t, f, here, expression, nil)
		if got, want := timeless(fakeBody, stamped), timeless(body, stamped); status != fakeStatus || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\nthe fake says %d %v\nreal is       %d %v", expression, fakeStatus, got, status, want)
		}
	}
}

func TestARealPrometheusIsReadAsWhatItIs(t *testing.T) {
	real := startPrometheus(t, startExporter(t).address)
	scraped(t, real, bluePlain)
	_, knows := raw(t, quickly(), real.URL(), "1", url.Values{"lookback_delta": {"nonsense"}})
	old := "" // a server that does not know lookback_delta looks back five minutes behind an aggregation, and that cannot be seen
	if knows["status"] == "error" {
		old = "green: nothing matches it that has a sample of the last 30s"
	}
	cases := []struct {
		query, want string
		reading     policy.QueryReading
	}{
		{query: plain, reading: policy.QueryReading{Live: 3, Candidate: 4.5}},
		{query: mean, reading: policy.QueryReading{Live: 3, Candidate: 4.5}},
		{query: `scalar(g{backend="{{.Backend}}"})`, reading: policy.QueryReading{Live: 3, Candidate: 4.5}},
		{query: `sum_over_time(g{backend="{{.Backend}}"}[5m]) * 0 + 1`, reading: policy.QueryReading{Live: 1, Candidate: 1}},
		{query: `quoted{rev="{{.Revision}}"}`, reading: policy.QueryReading{Live: 7, Candidate: 8}},
		{query: `quoted{rev='{{.Revision}}'}`, reading: policy.QueryReading{Live: 7, Candidate: 8}},
		{query: `odd{backend="{{.Backend}}"}`, want: "green: it is NaN, which is no quantity"},
		{query: `avg(g{backend="{{.Backend}}"} * 0) / 0`, want: "it is NaN, which is no quantity"},
		{query: `many{backend="{{.Backend}}"}`, want: "green: 2 series match it, such as many{"},
		{query: `half{backend="{{.Backend}}"}`, want: "green: nothing matches it"},
		{query: `avg(half{backend="{{.Backend}}"})`, want: "green: nothing matches it that has a sample of the last 30s"},
		{query: `old{backend="{{.Backend}}"}`, want: "green: its newest sample is 4"},
		{query: `avg(old{backend="{{.Backend}}"})`, want: old, reading: policy.QueryReading{Live: 1, Candidate: 2}},
		{query: `avg(g{backend="{{.Backend}}"`, want: "blue: Prometheus says: invalid parameter \"query\": 1:"},
		{query: `g / on() many{backend!="{{.Backend}}"}`, want: "blue: Prometheus says: found duplicate series"},
	}
	var all []policy.Query
	for i, c := range cases {
		all = append(all, policy.Query{Name: fmt.Sprint(i), Prometheus: c.query})
	}
	p, stop := run(t, queries.Config{Server: real.URL()})
	defer stop()
	want := shop(all...)
	want.Live.Revision = `v"1`
	p.Want([]queries.Wanted{want})
	var got []policy.QueryReading
	reads(t, p, "all are answered", func(policy.QueryReading) bool {
		if got == nil {
			got = make([]policy.QueryReading, len(cases))
		}
		waiting := false
		for i, r := range p.Take(time.Now(), "shop") {
			got[i], waiting = r, waiting || r.Problem == "there is no answer yet"
		}
		return !waiting
	})
	for i, c := range cases {
		got[i].Fresh = false
		switch {
		case c.want != "" && !strings.HasPrefix(got[i].Problem, c.want), c.want == "" && got[i] != c.reading:
			t.Errorf("%s: %+v, want %q %+v", c.query, got[i], c.want, c.reading)
		}
	}
}

func TestAnExporterThatFailsAndAPrometheusThatIsKilledAreSeen(t *testing.T) {
	e := startExporter(t)
	real := startPrometheus(t, e.address)
	p, stop := run(t, queries.Config{Server: real.URL()})
	defer stop()
	p.Want([]queries.Wanted{shop(policy.Query{Name: "q", Prometheus: plain, Every: policy.Duration(time.Second)})})
	counts := func(r policy.QueryReading) bool { return r.Problem == "" && r.Fresh && r.Candidate == 4.5 }
	says := func(words string) func(policy.QueryReading) bool {
		return func(r policy.QueryReading) bool { return strings.Contains(r.Problem, words) && !r.Fresh }
	}
	reads(t, p, "at first", counts)
	e.gone.Store(true)
	reads(t, p, "after the exporter failed", says("nothing matches it"))
	e.gone.Store(false)
	reads(t, p, "after it came back", counts)
	if err := real.Pause(); err != nil {
		t.Fatal(err)
	}
	reads(t, p, "while Prometheus hangs", says("Prometheus did not answer within 1s"))
	if err := real.Resume(); err != nil {
		t.Fatal(err)
	}
	reads(t, p, "after it went on", counts)
	if err := real.Kill(); err != nil {
		t.Fatal(err)
	}
	reads(t, p, "after it was killed", says("Prometheus cannot be reached"))
	ctx, cancel := contextOf(t)
	t.Cleanup(cancel)
	if err := real.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	reads(t, p, "after it was started again", counts)
}
