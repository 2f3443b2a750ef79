package queries_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/queries"
)

// take reads shop's one answer.
func take(t *testing.T, p *queries.Poller) policy.QueryReading {
	t.Helper()
	readings := p.Take(time.Now(), "shop")
	if len(readings) != 1 {
		t.Fatalf("%d readings of one query", len(readings))
	}
	return readings[0]
}

// settled waits until nothing moves any more without the clock.
func settled(t *testing.T, p *queries.Poller) policy.QueryReading {
	t.Helper()
	synctest.Wait()
	return take(t, p)
}

func TestAnAnswerIsFreshOnceAndAskedOfBothArmsAtOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.set(blueMean, reply{body: vector(series("blue", "3")), after: time.Second})
		f.set(greenMean, reply{body: vector(series("green", "4.5")), after: time.Second})
		counted := map[string]int{}
		p, stop := run(t, queries.Config{Server: here, Transport: f, Count: func(result string) { counted[result]++ }})
		p.Want([]queries.Wanted{shop(policy.Query{Name: "q", Prometheus: mean})})
		if got := take(t, p); got.Problem != "there is no answer yet" {
			t.Errorf("before it was answered: %+v", got)
		}
		time.Sleep(time.Second)
		if got := settled(t, p); got != (policy.QueryReading{Live: 3, Candidate: 4.5, Fresh: true}) {
			t.Errorf("got %+v", got)
		}
		if got := take(t, p); got != (policy.QueryReading{Live: 3, Candidate: 4.5}) {
			t.Errorf("taken again: %+v", got)
		}
		time.Sleep(10 * time.Second)
		if got := settled(t, p); !got.Fresh {
			t.Errorf("after its interval: %+v", got)
		}
		stop()
		if len(f.asked) != 4 || f.asked[0].Get("time") != f.asked[1].Get("time") || f.asked[0].Get("lookback_delta") != "30s" {
			t.Errorf("asked %v", f.asked)
		}
		if counted["ok"] != 2 || len(counted) != 1 {
			t.Errorf("counted %v", counted)
		}
	})
}

func TestWhatIsNotOneNumberIsAProblemAndNeverAValue(t *testing.T) {
	for name, c := range map[string]struct {
		query string // plain unless given
		green reply
		stamp string // of green's sample; "NOW" unless given
		want  string
	}{
		"NaN":                {green: reply{body: vector(series("green", "NaN"))}, want: "green: it is NaN, which is no quantity"},
		"infinite":           {green: reply{body: vector(series("green", "+Inf"))}, want: "green: it is +Inf, which is no quantity"},
		"empty":              {green: reply{body: vector()}, want: "green: nothing matches it"},
		"empty, no selector": {query: mean, green: reply{body: vector()}, want: "green: nothing matches it that has a sample of the last 30s"},
		"two series":         {green: reply{body: vector(series("green", "1"), series("red", "2"))}, want: `green: 2 series match it, such as {backend="green"} and {backend="red"}; expected one`},
		"a text":             {green: reply{body: `{"status":"success","data":{"resultType":"string","result":[NOW,"abc"]}}`}, want: `green: its answer cannot be read: unexpected value type "string"`},
		"a window":           {green: reply{body: `{"status":"success","data":{"resultType":"matrix","result":[]}}`}, want: "green: it is a matrix; expected one number per arm"},
		"a histogram": {green: reply{body: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[NOW,{"count":"1","sum":"2","buckets":[]}]}]}}`},
			want: "green: it is a histogram"},
		"stale":       {green: reply{body: vector(series("green", "1"))}, stamp: "AGE=31s", want: "green: its newest sample is 31s old; expected at most 30s"},
		"bad PromQL":  {green: reply{status: 400, body: `{"status":"error","errorType":"bad_data","error":"1:3: parse error:\n\u001b[31munexpected"}`}, want: "green: Prometheus says: 1:3: parse error: [31munexpected"},
		"a timeout":   {green: reply{status: 503, body: `{"status":"error","errorType":"timeout","error":"query timed out"}`}, want: "green: Prometheus did not answer within 5s"},
		"a proxy":     {green: reply{status: 502, body: "<html>bad gateway"}, want: "green: Prometheus says: server error: 502"},
		"not JSON":    {green: reply{body: "<html>hello"}, want: "green: its answer cannot be read: "},
		"half JSON":   {green: reply{body: `{"status":"success","data":{"resultType":"vector","result":[{"metric"`}, want: "green: its answer cannot be read: "},
		"nothing":     {green: reply{body: `{"status":"success"}`}, want: "green: "},
		"null":        {green: reply{body: `{"status":"success","data":{"resultType":"vector","result":[null]}}`}, want: "green: "},
		"too long":    {green: reply{body: strings.Repeat(" ", 1<<20) + vector()}, want: "green: its answer is longer than 1 MiB"},
		"unreachable": {green: reply{err: errors.New("connect: connection refused")}, want: "green: Prometheus cannot be reached: connect: connection refused"},
		"too slow":    {green: reply{after: 6 * time.Second}, want: "green: Prometheus did not answer within 5s"},
		"sent away":   {green: reply{status: 307, headers: http.Header{"Location": {"http://elsewhere:9090/api/v1/query"}}}, want: "green: it redirects to another server"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				f.gauge("3", "4")
				f.set(blueMean, reply{body: vector(series("blue", "3"))})
				f.set(greenPlain, c.green)
				f.set(greenMean, c.green)
				if c.stamp != "" {
					f.set("timestamp("+greenPlain+")", reply{body: vector(series("green", c.stamp))})
				}
				p, stop := run(t, queries.Config{Server: here, Transport: f})
				query := plain
				if c.query != "" {
					query = c.query
				}
				p.Want([]queries.Wanted{shop(policy.Query{Name: "q", Prometheus: query})})
				time.Sleep(9 * time.Second)
				got := settled(t, p)
				stop()
				if !strings.HasPrefix(got.Problem, c.want) || got.Fresh || got.Live != 0 || got.Candidate != 0 {
					t.Errorf("got %+v, want %q", got, c.want)
				}
				if slices.ContainsFunc(f.asked, func(q url.Values) bool { return q.Get("host") != "prometheus:9090" }) {
					t.Errorf("asked %v", f.asked)
				}
			})
		})
	}
}

func TestAQueryThatCannotBeAskedSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		query policy.Query
		want  string
	}{
		"no server":      {policy.Query{Prometheus: plain}, "no Prometheus is named; give the query a `server`, or rampart serve --prometheus"},
		"a wrong server": {policy.Query{Prometheus: plain, Server: "prometheus:9090"}, `the query cannot be asked: server: "prometheus:9090"; expected a URL such as`},
		"no template":    {policy.Query{Prometheus: "g{{", Server: here}, "the query cannot be asked: query : line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				p, stop := run(t, queries.Config{Transport: f})
				p.Want([]queries.Wanted{shop(c.query)})
				time.Sleep(time.Minute)
				got := settled(t, p)
				stop()
				if !strings.HasPrefix(got.Problem, c.want) || len(f.asked) != 0 {
					t.Errorf("got %+v after %v, want %q", got, f.asked, c.want)
				}
			})
		})
	}
}

func TestASampleThatWasTakenIsNoNewsWhenItIsFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.gauge("3", "4")
		f.set("timestamp("+bluePlain+")", reply{body: vector(series("blue", "AGE=1s"))})
		p, stop := run(t, queries.Config{Server: here, Transport: f})
		p.Want([]queries.Wanted{shop(policy.Query{Prometheus: plain})})
		if !settled(t, p).Fresh {
			t.Error("the first sample is no news")
		}
		f.set("timestamp("+bluePlain+")", reply{body: vector(series("blue", "AGE=11s"))})
		time.Sleep(10 * time.Second)
		if got := settled(t, p); got.Fresh || got.Problem != "" {
			t.Errorf("the same sample again: %+v", got)
		}
		f.set("timestamp("+bluePlain+")", reply{body: vector(series("blue", "AGE=1s"))})
		time.Sleep(10 * time.Second)
		if !settled(t, p).Fresh {
			t.Error("the next sample is no news")
		}
		stop()
	})
}

func TestASlowServerDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.gauge("3", "4")
		f.set(blueMean, reply{after: time.Hour})
		f.set(greenMean, reply{after: time.Hour})
		p, stop := run(t, queries.Config{Server: here, Transport: f})
		var wanted []queries.Wanted
		for i := range 100 {
			w := shop(policy.Query{Prometheus: mean, Server: "http://slow:9090"})
			w.Service = fmt.Sprint("slow", i)
			wanted = append(wanted, w)
		}
		p.Want(append(wanted, shop(policy.Query{Prometheus: plain})))
		for range 6 {
			if got := settled(t, p); got.Problem != "" || !got.Fresh {
				t.Errorf("the quick one has %+v", got)
			}
			time.Sleep(10 * time.Second)
		}
		synctest.Wait()
		quick, slow := f.times(bluePlain), f.times(blueMean)
		stop()
		if f.most > 2*8+2 {
			t.Errorf("%d questions at once", f.most)
		}
		if quick != 7 {
			t.Errorf("the quick one was asked %d times", quick)
		}
		if slow < 8*60/5 || slow > 8*(60/5+1) {
			t.Errorf("the slow server was asked %d times", slow)
		}
	})
}

func TestAnAnswerThatIsNotRenewedStopsCounting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.gauge("3", "4")
		p, stop := run(t, queries.Config{Server: here, Transport: f})
		p.Want([]queries.Wanted{shop(policy.Query{Prometheus: plain})})
		synctest.Wait()
		stop() // as if no worker came to it
		time.Sleep(30 * time.Second)
		if got := take(t, p); got.Problem != "" {
			t.Errorf("after three intervals: %+v", got)
		}
		time.Sleep(time.Second)
		if got := take(t, p); got.Problem != "the last answer is 31s old, although it is asked every 10s" || got.Live != 0 {
			t.Errorf("after more: %+v", got)
		}
	})
}

func TestOnlyWhatIsWantedIsAskedAndWhatStaysKeepsItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.gauge("3", "4")
		p, stop := run(t, queries.Config{Server: here, Transport: f})
		query := policy.Query{Prometheus: plain}
		p.Want([]queries.Wanted{shop(query)})
		settled(t, p)
		p.Want([]queries.Wanted{shop(query, policy.Query{Name: "more", Prometheus: mean})})
		synctest.Wait()
		if got := p.Take(time.Now(), "shop"); len(got) != 2 || got[0].Live != 3 || got[0].Fresh || got[1].Problem == "" {
			t.Errorf("with one more query: %+v", got)
		}
		f.set(bluePlain, reply{body: vector(series("blue", "5")), after: time.Second})
		again := shop(query)
		again.Release = "green-9"
		p.Want([]queries.Wanted{again})
		if got := take(t, p); got.Problem != "there is no answer yet" {
			t.Errorf("another release begins with %+v", got)
		}
		time.Sleep(time.Second)
		if got := settled(t, p); got.Live != 5 || !got.Fresh {
			t.Errorf("and goes on with %+v", got)
		}
		p.Want(nil)
		synctest.Wait()
		before := len(f.asked)
		time.Sleep(time.Minute)
		if got := p.Take(time.Now(), "shop"); got != nil || len(f.asked) != before {
			t.Errorf("nothing is wanted: %+v, %d questions", got, len(f.asked)-before)
		}
		stop()
	})
}

func TestWarningsAndProblemsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		warn := strings.TrimSuffix(vector(series("blue", "3")), "}") + `,"warnings":["it is\nodd"]}`
		f.set(blueMean, reply{body: warn})
		f.set(greenMean, reply{status: 400, body: `{"status":"error","errorType":"bad_data","error":"no"}`})
		var log bytes.Buffer
		p, stop := run(t, queries.Config{Server: here, Transport: f, Log: slog.New(slog.NewTextHandler(&log, nil))})
		p.Want([]queries.Wanted{shop(policy.Query{Name: "gpu", Prometheus: mean})})
		time.Sleep(time.Minute)
		f.set(greenMean, reply{body: vector(series("green", "3"))})
		time.Sleep(time.Minute)
		stop()
		said := log.String()
		for _, words := range []string{`reason="gpu: it is odd"`, `reason="gpu: green: Prometheus says: no"`, `msg="a query has answers again"`} {
			if strings.Count(said, words) != 1 {
				t.Errorf("%q is not there once:\n%s", words, said)
			}
		}
		if strings.Count(said, "\n") != 3 {
			t.Error(said)
		}
	})
}
