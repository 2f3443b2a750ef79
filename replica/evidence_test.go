package replica_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// DESIGN §5: the plan that a document without one has, but for its warm-up.
func TestAGoodReleaseByTheDefaultPlanIsCommittedWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	r := newRigIn(t, world{timed: true})
	const plan = "plan: {warmup: 0s}"
	r.put("services/shop", r.with("blue", plan, ""))
	r.envoy("edge", "edge-1")
	r.envoy("edge", "edge-2")
	r.untilAnswers("v1")
	load := r.loadOf(testenv.LoadConfig{Rate: 200, Timeout: patience}) // who has to wait is not who gets nothing
	r.put("services/shop", r.with("green", plan, ""))
	r.untilServed("the release", begun)
	release := r.served("shop").Release.ID
	r.wait *= 2 // it observes live for 10 s, climbs for another 10 s and bakes for 5 s where nothing else uses the machine
	r.untilServed("the commit", committed)
	e := r.evidence()
	latency := 0.0
	for _, f := range e.Latest.Findings {
		if f.Metric == "latency" {
			latency = f.Log
		}
	}
	if e.Release != release || latency == 0 || e.Whole.Candidate.Times.Total() == 0 {
		t.Errorf("latency was not judged in %s: %d times, %+v", e.Release, e.Whole.Candidate.Times.Total(), e.Latest.Findings)
	}
	if totals := load.Totals(); totals.Failed > 0 {
		t.Errorf("requests failed: %+v, statuses %v", totals.Outcomes, totals.Statuses)
	}
}

// Intervals without times are no good times.
func TestWithoutStatisticsAReleaseStaysAtItsFirstStepAndSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRigIn(t, world{})
	const plan = "plan: {evidence: {from: 20%}, warmup: 0s}"
	r.put("services/shop", r.with("blue", plan, ""))
	bootstrap := must[[]byte](t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: "edge-1", Servers: r.servers, AdminPort: 1}))
	silent, _, found := strings.Cut(string(bootstrap), "stats_sinks:")
	if !found {
		t.Fatal("the bootstrap has no sink to be left out")
	}
	r.envoyOf(testenv.EnvoyConfig{Bootstrap: []byte(silent), ID: "edge-1"})
	r.untilAnswers("v1")
	r.load(200)
	r.put("services/shop", r.with("green", plan, ""))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	r.at(2000)
	// With statistics this is more than enough for 40 %.
	r.untilJudged("much traffic", func(e *policy.Evidence) bool { return e.Latest.StepRequests >= 400 })
	served := r.at(2000)
	if !strings.HasPrefix(served.Release.Waits, "statistics from every proxy") {
		t.Errorf("it waits for %q", served.Release.Waits)
	}
}

// A leader that goes takes nothing with it but the last second.
func TestTheNextLeaderJudgesByTheEvidenceThereWas(t *testing.T) {
	t.Parallel()
	r := newRigIn(t, world{timed: true})
	r.until("a leader", func() (bool, error) { return r.beat().Leader == "a", nil })
	r.startReplica("b")
	r.put("services/shop", r.with("blue", half, ""))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.load(150)
	r.put("services/shop", r.with("green", half, ""))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	r.at(5000)
	r.untilJudged("a healthy candidate", func(e *policy.Evidence) bool { return e.Latest.Verdict == policy.Healthy })
	r.stops[0]()
	before := r.evidence()
	written := policy.RunAgain(r.recording(before.Release), nil, nil).Turns
	if written == 0 {
		t.Error("the first leader kept its last turns to itself")
	}
	r.until("the other replica leading", func() (bool, error) { return r.beat().Leader == "b", nil })
	after := r.untilJudged("evidence of the other one", func(e *policy.Evidence) bool {
		return e.Errors.Evidence().Candidate.Good > before.Errors.Evidence().Candidate.Good
	})
	if was, is := before.Errors.Evidence(), after.Errors.Evidence(); after.Release != before.Release || is.LogMax < was.LogMax || is.Candidate.Good > 10*was.Candidate.Good {
		t.Errorf("of %s there was %+v, and then of %s %+v", before.Release, was, after.Release, is)
	}
	if was, is := before.Latency.Evidence(), after.Latency.Evidence(); is.Release.Candidate.Good < was.Release.Candidate.Good || is.Thresholds != was.Thresholds {
		t.Errorf("there was %+v, and then %+v", was, is)
	}
	r.behave(testenv.Behaviour{Slow: 3}, r.green)
	r.blames("latency: above")
	r.until("both leaders' turns in one recording", func() (bool, error) {
		found := policy.RunAgain(r.recording(before.Release), nil, nil)
		return found.Turns > written && found.Was.Convicted, fmt.Errorf("%d turns, %d of the first leader", found.Turns, written)
	})
}

func TestTheNextReleaseStartsFromWhatIsKnownOfLive(t *testing.T) {
	t.Parallel()
	r := newRigIn(t, world{timed: true})
	r.put("services/shop", r.with("blue", half, ""))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.load(150)
	var known []int
	for range 2 {
		r.put("services/shop", r.with("green", half, ""))
		r.untilServed("the release", begun)
		release := r.served("shop").Release.ID
		r.untilJudged("what live does", func(e *policy.Evidence) bool { return e.Release == release && e.Latency.Evidence().Thresholds > 3 })
		r.put("services/shop", r.with("blue", half, ""))
		r.rolledBack()
		r.until("the recording", func() (bool, error) {
			return len(r.recording(release)) > 0, fmt.Errorf("nothing is kept of %s", release)
		})
		var at policy.Evidence // at the beginning
		if err := json.Unmarshal(r.recording(release)[0].Before, &at); err != nil {
			t.Fatal(err)
		}
		known = append(known, at.Latency.Evidence().Thresholds)
	}
	if known[0] != 0 || known[1] < 3 {
		t.Errorf("the releases began with %v thresholds of latency", known)
	}
}

// DESIGN §9: what fails on both sides holds the release, and blames nobody.
func TestAnOutageOfWhatBothDependOnBlamesNobody(t *testing.T) {
	r := judging(t, trial{})
	release := r.served("shop").Release.ID
	for _, share := range []float64{0.5, 0} {
		for _, m := range []*testenv.Model{r.blue, r.green} {
			if err := m.Fail(r.ctx, share); err != nil {
				t.Fatal(err)
			}
		}
		r.untilJudged(fmt.Sprintf("%g of all failing", share), func(e *policy.Evidence) bool {
			return e.Latest.Incident == (share > 0) && e.Errors.Evidence().Candidate.Bad > 50
		})
	}
	r.put("orders/shop", "advance")
	served := r.untilWeight(9500)
	if served.Release.ID != release {
		t.Errorf("release %s became %s", release, served.Release.ID)
	}
}

// untilWeight waits until the proxies have confirmed a weight.
func (r *rig) untilWeight(weight policy.Weight) *policy.Served {
	r.t.Helper()
	var found *policy.Served
	r.untilServed("confirmed at "+weight.String(), func(s *policy.Served) bool {
		found = s
		return s.Release != nil && s.Release.Phase != policy.Shifting && s.Release.Weight == weight
	})
	return found
}
