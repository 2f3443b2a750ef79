package replica_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// half of the users get the candidate, and that stays so.
const half = "plan: {steps: [50%, 100%], warmup: 0s, soak: 1h, bake: 1h}"

// with is the document of shop with another plan and more at its end.
func (r *rig) with(serve, plan, more string) string {
	text, _, _ := strings.Cut(r.document(serve), "plan:")
	return text + plan + "\n" + more
}

// trial is a release that goes to half of the users and stays there.
type trial struct {
	more    string // in the document
	grpc    bool   // what users and models speak
	scraped bool   // by a Prometheus, which is asked how good the answers are
}

// scrape starts a Prometheus over the models and returns a query to it.
func (r *rig) scrape() string {
	r.t.Helper()
	p := must[*testenv.Prometheus](r.t)(testenv.StartPrometheus(r.ctx, testenv.PrometheusConfig{Dir: r.t.TempDir(), Targets: []string{r.blue.Metrics(), r.green.Metrics()}}))
	const share = `rate(model_quality_total{version="{{.Revision}}"}[3s]) / rate(model_good_total{version="{{.Revision}}"}[3s])`
	return fmt.Sprintf("analysis: {queries: [{name: good, prometheus: '%s', server: %s, better: higher, every: 1s}]}\n", share, p.URL())
}

// judging is a rig with a release under way, which the judge has called healthy: what comes now is the candidate's doing.
func judging(t *testing.T, c trial) *rig {
	t.Helper()
	r := halfway(t, c)
	r.untilJudged("a healthy candidate", func(e *policy.Evidence) bool { return e.Latest.Verdict == policy.Healthy })
	return r
}

// halfway is a rig with a release that has just got half of the users.
func halfway(t *testing.T, c trial) *rig {
	t.Helper()
	t.Parallel()
	r := newRigIn(t, world{timed: true})
	r.behave(telling(0.9), r.blue, r.green)
	if c.scraped {
		c.more += r.scrape()
		r.wait *= 2 // to know what live does takes nine samples of five seconds
	}
	document := func(serve string) string {
		text := r.with(serve, half, c.more)
		if c.grpc {
			text = strings.ReplaceAll(text, "endpoints:", "protocol: grpc, endpoints:")
		}
		return text
	}
	r.put("services/shop", document("blue"))
	r.envoy("edge", "edge-1")
	r.envoy("edge", "edge-2")
	r.untilAnswers("v1")
	r.loadOf(testenv.LoadConfig{Rate: 150, GRPC: c.grpc})
	r.put("services/shop", document("green"))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	r.at(5000)
	return r
}

// telling is a model that tells how good its answers are.
func telling(mean float64) testenv.Behaviour {
	return testenv.Behaviour{Quality: &mean, Scatter: 0.3}
}

func (r *rig) behave(b testenv.Behaviour, models ...*testenv.Model) {
	r.t.Helper()
	for _, m := range models {
		if err := m.Behave(r.ctx, b); err != nil {
			r.t.Fatal(err)
		}
	}
}

// evidence is what the leader has stored last; nil when that is nothing.
func (r *rig) evidence() *policy.Evidence {
	var e *policy.Evidence
	r.read("evidence/shop", &e)
	return e
}

// untilJudged waits until the stored evidence is as wanted, and says what it lacks when it does not come.
func (r *rig) untilJudged(what string, wanted func(*policy.Evidence) bool) *policy.Evidence {
	r.t.Helper()
	var found *policy.Evidence
	r.until(what, func() (bool, error) {
		if found = r.evidence(); found == nil {
			return false, fmt.Errorf("there is no evidence")
		}
		latest, _ := json.Marshal(found.Latest)
		return wanted(found), fmt.Errorf("the judge says %s", latest)
	})
	return found
}

// blames demands a rollback for a reason that begins in this way.
func (r *rig) blames(reason string) {
	r.t.Helper()
	served := r.rolledBack()
	if served.Live.Backend != "blue" || !strings.HasPrefix(served.Last.Reason, reason) {
		r.t.Errorf("live is %s, taken back because of %q, want %q", served.Live.Ref, served.Last.Reason, reason)
	}
	r.t.Log(served.Last.Reason)
}

func TestACandidateThatIsTwiceAsSlowIsTakenBack(t *testing.T) {
	r := judging(t, trial{})
	r.behave(testenv.Behaviour{Slow: 2}, r.green)
	r.blames("latency: above")
}

func TestACandidateThatHangsIsSlowAlthoughNoneOfItsTriesEnds(t *testing.T) {
	r := judging(t, trial{more: "routes: [{timeout: 0s}]\n"})
	r.behave(testenv.Behaviour{Hang: 0.5}, r.green)
	r.blames("latency: above")
}

func TestACandidateBeyondItsP99LimitIsTakenBackThoughLiveIsAsSlow(t *testing.T) {
	r := judging(t, trial{more: "analysis: {limits: {p99: 50ms}}\n"})
	r.behave(testenv.Behaviour{Slow: 4}, r.blue, r.green)
	r.blames("p99: green")
}

func TestACandidateWhoseAnswersGetWorseIsTakenBack(t *testing.T) {
	r := judging(t, trial{more: "analysis: {quality: [{orca: named_metrics.quality, better: higher, margin: 0.02}]}\n"})
	r.behave(telling(0.6), r.green)
	r.blames("named_metrics.quality: green 0.")
}

func TestAStatusThatTheDocumentNamesIsAnErrorOfTheCandidate(t *testing.T) {
	r := judging(t, trial{more: "analysis: {errors: {grpc: [RESOURCE_EXHAUSTED]}}\n", grpc: true})
	const resourceExhausted = 8
	r.behave(testenv.Behaviour{Fail: 0.3, Status: resourceExhausted}, r.green)
	r.blames("gRPC statuses RESOURCE_EXHAUSTED: green")
}

func TestACandidateThatPrometheusCallsWorseIsTakenBack(t *testing.T) {
	r := halfway(t, trial{scraped: true})
	r.behave(telling(0.5), r.green)
	r.blames("good: green 0.")
}

// A query that must be answered holds the release while Prometheus knows nothing; one that only advises holds nothing.
func TestOnlyARequiredQueryWithoutAnAnswerHoldsTheRelease(t *testing.T) {
	t.Parallel()
	r := newRigIn(t, world{})
	server := must[int](t)(testenv.FreePort()) // nobody there
	query := func(more string) string {
		return fmt.Sprintf("analysis: {queries: [{name: good, prometheus: 'avg(good{backend=\"{{.Backend}}\"})', server: 'http://127.0.0.1:%d', better: higher, every: 1s%s}]}\n", server, more)
	}
	const plan = "plan: {steps: [50%, 100%], warmup: 0s, soak: 0s, bake: 1h}"
	r.put("services/shop", r.with("blue", plan, query("")))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.load(150)
	r.put("services/shop", r.with("green", plan, query("")))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	r.untilServed("a wait for the answer", func(s *policy.Served) bool {
		return s.Release.Weight == 5000 && strings.HasPrefix(s.Release.Waits, "an answer to the query good (")
	})
	r.untilJudged("all but the answer", func(e *policy.Evidence) bool { return e.Latest.StepRequests > 300 })
	if s := r.served("shop"); s.Release == nil || s.Release.Weight != 5000 {
		t.Errorf("it did not wait: %+v", s.Release)
	}
	r.put("services/shop", r.with("green", plan, query(", advisory: true")))
	r.untilServed("the next step", func(s *policy.Served) bool { return s.Release != nil && s.Release.Weight > 5000 })
}
