package envoy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/testenv"
)

func unchanged(*policy.Service) {}

// detailed is what an Envoy itself knows of a histogram, to the bin.
func (r *rig) detailed(one *testenv.Envoy, name string) judge.Histogram {
	r.t.Helper()
	body, err := one.Admin(r.ctx, "/stats?format=json&histogram_buckets=detailed&filter="+url.QueryEscape(name))
	if err != nil {
		r.t.Fatal(err)
	}
	var said struct {
		Stats []struct {
			Histograms struct {
				Details []struct {
					Name   string
					Totals []struct {
						LowerBound float64 `json:"lower_bound"`
						Count      uint64
					}
				}
			}
		}
	}
	if err := json.Unmarshal(body, &said); err != nil {
		r.t.Fatalf("%v: %s", err, body)
	}
	var h judge.Histogram
	bounds := judge.Bounds()
	for _, stats := range said.Stats {
		for _, detail := range stats.Histograms.Details {
			if detail.Name != name {
				continue
			}
			for _, bin := range detail.Totals {
				i, found := slices.BinarySearch(bounds[:], int(math.Round(bin.LowerBound)))
				if found {
					i++
				}
				h[i] += bin.Count
			}
		}
	}
	return h
}

func TestARealEnvoysTimesArriveToTheBin(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	sleeps := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ms, _ := strconv.Atoi(q.URL.Query().Get("ms"))
		timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
		defer timer.Stop()
		<-timer.C
		_, _ = io.WriteString(w, "slept")
	})
	blue.answer.Store(&sleeps)
	green.answer.Store(&sleeps)
	one := r.releases(blue, green, unchanged)
	r.established()
	liveName, candidateName := "cluster.shop/blue|none.upstream_rq_time", "cluster.shop/green|blue.canary.upstream_rq_time"
	before, beforeCandidate := r.detailed(one, liveName), r.detailed(one, candidateName)
	var asking sync.WaitGroup
	for i := range 120 {
		asking.Go(func() {
			if status, _, err := r.request(fmt.Sprintf("/?ms=%d", i*i/12)); err != nil || status != http.StatusOK {
				t.Errorf("%d, %v", status, err)
			}
		})
	}
	asking.Wait()
	sum := r.sees("all times", func(sum policy.Reading) bool {
		return sum.Times != nil && sum.Times.Live.Total()+sum.Times.Candidate.Total() >= 120
	})
	after, afterCandidate := r.detailed(one, liveName), r.detailed(one, candidateName)
	for i := range after {
		after[i] -= before[i]
		afterCandidate[i] -= beforeCandidate[i]
	}
	if sum.Times.Live != after || sum.Times.Candidate != afterCandidate {
		t.Errorf("got\n%v\n%v, Envoy has\n%v\n%v", sum.Times.Live, sum.Times.Candidate, after, afterCandidate)
	}
	if sum.Timeless > 0 || sum.Reporting != 1 {
		t.Errorf("%d report, %d without times", sum.Reporting, sum.Timeless)
	}
}

func TestWhatARealEnvoyGivesUpWaitingForIsSlow(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	r.releases(blue, green, func(s *policy.Service) {
		timeout := policy.Duration(2 * time.Second)
		for i := range s.Routes {
			s.Routes[i].Timeout = &timeout
		}
	})
	r.established()
	hangs := http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
	green.answer.Store(&hangs)
	var asking sync.WaitGroup
	late := make(chan struct{}, 40)
	for range cap(late) {
		asking.Go(func() {
			if status, _, err := r.request("/"); err != nil {
				t.Error(err)
			} else if status == http.StatusGatewayTimeout {
				late <- struct{}{}
			}
		})
	}
	r.sees("tries in progress", func(sum policy.Reading) bool { return sum.CandidateActive > 0 && sum.LiveActive == 0 })
	asking.Wait()
	if len(late) == 0 {
		t.Fatal("nothing hung")
	}
	sum := r.sees("all that hung", func(sum policy.Reading) bool {
		return sum.Times != nil && sum.Times.Candidate.Total() >= uint64(len(late)) && sum.CandidateActive == 0
	})
	if got := sum.Times.Candidate[judge.Buckets-1]; got != uint64(len(late)) || sum.Times.Candidate.Total() != got {
		t.Errorf("%d are slow of %d, want %d", got, sum.Times.Candidate.Total(), len(late))
	}
}

func TestLongAnswersOfARealEnvoyAreNotTakenForLost(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	r.releases(blue, green, unchanged)
	r.established()
	release := make(chan struct{})
	long := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-q.Context().Done():
		}
		_, _ = io.WriteString(w, "at last")
	})
	blue.answer.Store(&long)
	green.answer.Store(&long)
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if status, _, err := r.request("/"); err != nil || status != http.StatusOK {
				t.Errorf("%d, %v", status, err)
			}
		})
	}
	var sum policy.Reading
	flushes := 0
	err := testenv.Eventually(r.ctx, func() (bool, error) {
		reading := r.take()
		if sum = plus(sum, reading); reading.Times != nil && sum.CandidateActive+sum.LiveActive == 20 {
			flushes++
		}
		return flushes >= 3, nil
	})
	if err != nil {
		t.Fatal("all were never under way in three flushes")
	}
	if sum.Times.Live.Total()+sum.Times.Candidate.Total() > 0 {
		t.Errorf("answers under way have times: %v", sum.Times)
	}
	close(release)
	asking.Wait()
	sum = r.sees("all", func(sum policy.Reading) bool {
		return sum.Times != nil && sum.Times.Live.Total()+sum.Times.Candidate.Total() >= 20
	})
	if sum.Times.Live[judge.Buckets-1]+sum.Times.Candidate[judge.Buckets-1] > 0 || sum.Times.Live.Total()+sum.Times.Candidate.Total() != 20 {
		t.Errorf("want 20 with an end: %v", sum.Times)
	}
}

func TestARealEnvoyReportsWhatRequestsSayOfThemselves(t *testing.T) {
	r := newRig(t)
	blue, green := newModel(t, "blue"), newModel(t, "green")
	for m, quality := range map[*model]string{blue: "0.75", green: "0.5"} {
		says := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("endpoint-load-metrics", "TEXT named_metrics.tokens=40,named_metrics.quality="+quality)
			_, _ = io.WriteString(w, "ok")
		})
		m.answer.Store(&says)
	}
	r.releases(blue, green, func(s *policy.Service) {
		s.Analysis.Quality = []policy.Quality{{ORCA: "named_metrics.quality", Better: policy.Higher}, {ORCA: "named_metrics.missing", Better: policy.Lower}}
	})
	r.established()
	r.share(60)
	sum := r.sees("all reports", func(sum policy.Reading) bool {
		return len(sum.Quality) == 2 && sum.Quality[0].Live.Count+sum.Quality[0].Candidate.Count >= 60
	})
	q := sum.Quality[0]
	if q.Live.Count != sum.Live.OK || q.Candidate.Count != sum.Candidate.OK || q.Live.Mean() != 0.75 || q.Candidate.Mean() != 0.5 {
		t.Errorf("quality: %+v of %+v and %+v", q, sum.Live, sum.Candidate)
	}
	if sum.Quality[1] != (policy.ArmSamples{}) {
		t.Errorf("a metric that nobody reports: %+v", sum.Quality[1])
	}
}

// TestRefusedConnectionsOfARealEnvoyAreErrorsOnce holds with Envoys whose load reports leave them out, and with those whose do not.
func TestRefusedConnectionsOfARealEnvoyAreErrorsOnce(t *testing.T) {
	for name, some := range map[string]bool{"all refuse": false, "one of two refuses": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			blue, green := newModel(t, "blue"), newModel(t, "green")
			one := r.releases(blue, green, func(s *policy.Service) {
				b := s.Backends["green"]
				b.Endpoints = []string{nobody(t)}
				if some {
					b.Endpoints = append(b.Endpoints, green.address())
				}
				s.Backends["green"] = b
			})
			for range 40 {
				_, _ = r.ask("/")
			}
			// It is ejected for half a minute after three.
			sum := r.sees("refused connections", func(sum policy.Reading) bool { return sum.Candidate.Errors >= 3 })
			for range 6 { // and none of them again, by whichever way
				sum = plus(sum, r.next())
			}
			stats, err := one.Stats(r.ctx, "cluster.shop/green.upstream_rq_pending_failure_eject")
			if err != nil {
				t.Fatal(err)
			}
			if n := stats["cluster.shop/green.upstream_rq_pending_failure_eject"]; n != 3 || sum.Candidate.Errors != 3 {
				t.Errorf("%d connections were refused, %+v", n, sum.Candidate)
			}
		})
	}
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
