package policy

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// whole is a service that everything is judged of, with a release at 25 % past its warm-up.
func whole() *Served {
	s := soakingAt(2500)
	p99, limit := Duration(2*time.Second), Share(0.3)
	s.Service.Analysis.Limits = Limits{Errors: &limit, P99: &p99}
	s.Service.Analysis.Errors.GRPC = []string{"RESOURCE_EXHAUSTED"}
	s.Service.Analysis.Quality = []Quality{{ORCA: "named_metrics.accuracy", Better: Higher, Margin: 0.01}}
	s.Service.Analysis.Queries = []Query{{Name: "gpu", Better: Lower, Margin: 0.5}, {Name: "heat", Better: Lower, Advisory: true}}
	s.Accepted = 1
	return s
}

// quarter is a turn of 250 ms at 400 requests per second in which everything is fine. Number tells turns apart: queries are answered in every tenth.
func quarter(number int) Reading {
	r := answered(Counts{OK: 75, Issued: 75}, Counts{OK: 25, Issued: 25})
	r.Statuses = &Statuses{Live: [GRPCStatuses]uint64{0: 75}, Candidate: [GRPCStatuses]uint64{0: 25}}
	wobble := float64(number%5-2) / 100
	r.Quality = []ArmSamples{{Live: judge.Sample{Sum: 75 * (0.9 + wobble), Count: 75}, Candidate: judge.Sample{Sum: 25 * (0.9 - wobble), Count: 25}}}
	answer := float64(number/10%5-2) / 100
	r.Queries = []QueryReading{{Live: 3 + answer, Candidate: 3 - answer, Fresh: number%10 == 0}, {Problem: "it is down"}}
	r.Proxies = []ProxyReading{{Proxy: "edge-1", Live: 38, Candidate: 12, Steady: true}, {Proxy: "edge-2", Live: 37, Candidate: 13, Steady: true}}
	return r
}

// watched is evidence of a whole service after a minute at 0 % and a minute at its weight, all fine.
func watched(t *testing.T, s *Served) *Evidence {
	t.Helper()
	e := NewEvidence(s.Release.ID, s.Service.Analysis)
	at := s.Release.Weight
	s.Release.Weight = 0
	for i := range 240 {
		e.Take(quarter(i), s)
	}
	s.Release.Weight = at
	for i := range 240 {
		e.Take(quarter(i), s)
	}
	if e.Latest.Verdict != Healthy || e.Latest.Unsettling {
		t.Fatalf("all is fine, and it is %s: %+v", e.Latest.Verdict, e.Latest)
	}
	return e
}

func TestEachMetricConvictsByItselfAndIsTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Reading)
		says  []string
	}{
		"errors":  {func(r *Reading) { r.Candidate = Counts{OK: 22, Errors: 3, Issued: 25} }, []string{"errors: green 12 % (", "against blue 0 % (", " s; evidence ", "limit 100 : 1"}},
		"latency": {func(r *Reading) { r.Times.Candidate = judge.Histogram{40: 25} }, []string{"latency: above ", " green ", "against blue"}},
		"p99": {func(r *Reading) {
			r.Times.Live, r.Times.Candidate = judge.Histogram{80: 75}, judge.Histogram{80: 25}
		}, []string{"p99: green", "above its limit of 2 s"}},
		"statuses": {func(r *Reading) { r.Statuses.Candidate = [GRPCStatuses]uint64{0: 20, 8: 5} }, []string{"gRPC statuses RESOURCE_EXHAUSTED: green 20 %"}},
		"quality":  {func(r *Reading) { r.Quality[0].Candidate.Sum = 25 * 0.7 }, []string{"named_metrics.accuracy: green 0.7", "against blue 0.9"}},
		"query":    {func(r *Reading) { r.Queries[0].Candidate = 9 }, []string{"gpu: green", "against blue 3"}},
		"hang": {func(r *Reading) {
			r.Candidate, r.Times.Candidate = Counts{Issued: 25}, judge.Histogram{}
		}, []string{"latency: "}},
		"one proxy": {func(r *Reading) {
			r.Proxies[1] = ProxyReading{Proxy: "edge-2", Live: 50, Steady: true}
			r.SteadyCandidate.Issued = 13
		}, []string{"share seen: proxy edge-2 sends green far less than its 25 %"}},
		"all proxies": {func(r *Reading) {
			r.Proxies, r.SteadyCandidate, r.Candidate = nil, Counts{}, Counts{}
		}, []string{"share seen: proxies send green far less than its 25 %"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := whole()
			e := watched(t, s)
			active := uint64(0)
			for i := range 480 {
				r := quarter(i)
				c.spoil(&r)
				active += r.Candidate.Issued - r.Candidate.Finished()
				r.CandidateActive = active
				if e.Take(r, s).Verdict == Unhealthy {
					break
				}
			}
			for _, words := range c.says {
				if e.Latest.Verdict != Unhealthy || !strings.Contains(e.Latest.Reason, words) {
					t.Fatalf("%s, %q does not say %q", e.Latest.Verdict, e.Latest.Reason, words)
				}
			}
		})
	}
}

func TestAQueryThatConvictedIsTheReasonAlsoWhenItIsNotAnsweredAnyMore(t *testing.T) {
	s := whole()
	e := watched(t, s)
	for i := range 480 {
		r := quarter(i)
		r.Queries[0].Candidate = 9
		if e.Latest.Verdict == Unhealthy {
			r.Queries[0] = QueryReading{Problem: "it is slow"}
		}
		e.Take(r, s)
	}
	if e.Latest.Verdict != Unhealthy || !strings.HasPrefix(e.Latest.Reason, "gpu: green") {
		t.Errorf("%s: %s", e.Latest.Verdict, e.Latest.Reason)
	}
}

func TestWhatDoesNotComeIsNoGoodNews(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Reading)
		lacks string
	}{
		"a proxy's reports":    {func(r *Reading) { r.Missing = 1 }, "reports from every proxy"},
		"a proxy's statistics": {func(r *Reading) { r.Timeless, r.Times = 1, nil }, "statistics from every proxy"},
		"the quality":          {func(r *Reading) { r.Quality = nil }, "green's requests to report named_metrics.accuracy"},
		"green's quality":      {func(r *Reading) { r.Quality[0].Candidate = judge.Sample{} }, "green's requests to report named_metrics.accuracy"},
		"most of green's quality": {func(r *Reading) {
			r.Quality[0].Candidate = judge.Sample{Sum: 0.9, Count: 1}
		}, "green's requests to report named_metrics.accuracy"},
		"an answer":               {func(r *Reading) { r.Queries[0] = QueryReading{Problem: "it is slow"} }, "an answer to the query gpu (it is slow)"},
		"any answer":              {func(r *Reading) { r.Queries = nil }, "an answer to the query gpu (it was not asked yet)"},
		"an answer that advises":  {func(r *Reading) { r.Queries[1].Problem = "it is down" }, ""},
		"settled endpoints":       {func(r *Reading) { r.Unsettled = true }, "the first whole report after a change of endpoints"},
		"the times of a new step": {func(r *Reading) { r.Times = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := whole()
			e := watched(t, s)
			for i := range 400 {
				r := quarter(i)
				c.spoil(&r)
				e.Take(r, s)
			}
			verdict := Unknown
			if c.lacks == "" {
				verdict = Healthy
			}
			if e.Latest.Verdict != verdict || e.Latest.Lacks != c.lacks && !strings.HasPrefix(e.Latest.Lacks, c.lacks+" (") || e.Latest.Unsettling != (c.lacks != "") {
				t.Errorf("%s, %q, unsettling %t; want %s, %q", e.Latest.Verdict, e.Latest.Lacks, e.Latest.Unsettling, verdict, c.lacks)
			}
		})
	}
}

// DESIGN §3: evidence/ holds the judge's state, so that a new leader goes on.
func TestANewLeaderGoesOnWithTheSameEvidence(t *testing.T) {
	s := whole()
	e := watched(t, s)
	stored, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	next, err := LoadEvidence(stored, s.Release.ID, s.Service.Analysis)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) > 100_000 {
		t.Errorf("the evidence takes %d bytes", len(stored))
	}
	for i := range 200 {
		r := quarter(i)
		r.Candidate.Errors, r.Candidate.OK = uint64(i%3), 25-uint64(i%3)
		r.Proxies = nil // who they are a new leader learns anew
		was, is := e.Take(r, s), next.Take(r, s)
		if was.Verdict != is.Verdict || math.Abs(was.Log-is.Log) > 0.2 {
			t.Fatalf("turn %d: %s at %v became %s at %v", i, was.Verdict, was.Log, is.Verdict, is.Log)
		}
	}
}

func TestTheNextReleaseKeepsWhatLiveTaughtAndNothingElse(t *testing.T) {
	s := whole()
	e := watched(t, s)
	for i := range 40 {
		r := quarter(i)
		r.Candidate = Counts{Errors: 25, Issued: 25}
		e.Take(r, s)
	}
	if e.Latest.Verdict != Unhealthy {
		t.Fatal("nothing but errors pass")
	}
	stored, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	next, err := LoadEvidence(stored, "green-8", s.Service.Analysis)
	if err != nil {
		t.Fatal(err)
	}
	s.Release.ID = "green-8"
	for i := range 200 {
		if j := next.Take(quarter(i), s); j.Verdict == Unhealthy {
			t.Fatalf("turn %d: convicted by the release before: %s", i, j.Reason)
		}
	}
	if next.Latest.Verdict != Healthy || next.slow.Thresholds == 0 {
		t.Errorf("what live taught is forgotten: %+v", next.Latest)
	}
}

func TestEvidenceThatIsNoneIsRefused(t *testing.T) {
	a := whole().Service.Analysis
	for _, text := range []string{"", "{", "null", "[]", `{"release":"green-7"}`, `{"release":"green-7","errors":"eA=="}`, `{"errors":null,"guard":null,"seen":null}`, `{"peak":"x"}`} {
		if e, err := LoadEvidence([]byte(text), "green-7", a); err == nil {
			t.Errorf("%q became %+v", text, e)
		}
	}
}

// Whatever reports say, they must not end the process, and what is no reading at all must neither convict nor promote.
func TestReadingsOutOfReasonDecideNothing(t *testing.T) {
	huge := uint64(1) << 63
	for name, spoil := range map[string]func(*Reading){
		"counts":   func(r *Reading) { r.Candidate = Counts{OK: huge, Errors: huge, Issued: huge} },
		"times":    func(r *Reading) { r.Times.Candidate[80] = huge },
		"levels":   func(r *Reading) { r.CandidateActive, r.LiveActive = huge, math.MaxUint64 },
		"samples":  func(r *Reading) { r.Quality[0].Candidate = judge.Sample{Sum: math.NaN(), Count: huge} },
		"infinite": func(r *Reading) { r.Quality[0].Candidate.Sum = math.Inf(-1) },
		"answers":  func(r *Reading) { r.Queries[0].Candidate = math.NaN() },
		"issued":   func(r *Reading) { r.SteadyLive.Issued, r.Proxies[0].Live = huge, huge },
		"statuses": func(r *Reading) { r.Statuses.Candidate[8] = huge },
		"no time":  func(r *Reading) { r.Interval = 0 },
		"negative": func(r *Reading) { r.Interval = -time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			s := whole()
			e := watched(t, s)
			for i := range 40 {
				r := quarter(i)
				spoil(&r)
				if j := e.Take(r, s); j.Verdict == Unhealthy {
					t.Fatalf("convicted: %s", j.Reason)
				}
			}
			if _, err := json.Marshal(e); err != nil {
				t.Errorf("it cannot be stored any more: %v", err)
			}
		})
	}
}

func TestTheSharesOfARiskAddUpToAllOfIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Analysis{}.withDefaults()
		if rapid.Bool().Draw(t, "off") {
			a.Latency.Off = true
		}
		a.Errors.GRPC = make([]string, rapid.IntRange(0, 2).Draw(t, "statuses"))
		a.Quality = make([]Quality, rapid.IntRange(0, 3).Draw(t, "quality"))
		for range rapid.IntRange(0, 3).Draw(t, "queries") {
			a.Queries = append(a.Queries, Query{Advisory: rapid.Bool().Draw(t, "advisory")})
		}
		s := sharesOf(a)
		if sum := s.errors + s.statuses + s.latency + float64(a.gauges())*s.gauge + s.seen; math.Abs(sum-1) > 1e-12 {
			t.Fatalf("%+v add up to %v", s, sum)
		}
	})
}
