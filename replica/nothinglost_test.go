package replica_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// What a proxy counted between the last turn of one leader and the first report to the next one, it reports to that one.
func TestTheEndOfALeaderLosesNoRequest(t *testing.T) {
	t.Parallel()
	r := newRigIn(t, world{timed: true})
	r.halfway()
	load := must[*testenv.Load](t)(testenv.NewLoad(testenv.LoadConfig{Rate: 150, Targets: []string{fmt.Sprintf("127.0.0.1:%d", r.port)}, Host: "shop.example.com"}))
	ctx, stop := context.WithCancel(r.ctx)
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx) }()
	judged := func(e *policy.Evidence) uint64 { return e.Errors.Evidence().Candidate.Good }
	r.untilJudged("a healthy candidate", func(e *policy.Evidence) bool { return judged(e) > 100 })
	r.stops[0]()
	handed := judged(r.evidence())
	r.until("the other replica leading", func() (bool, error) { return r.beat().Leader == "b", nil })
	r.untilJudged("evidence of the other one", func(e *policy.Evidence) bool { return judged(e) > handed })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	green := must[testenv.ModelReport](t)(r.green.Report(r.ctx))
	r.untilJudged(fmt.Sprintf("all %d requests", green.Good), func(e *policy.Evidence) bool { return judged(e) == uint64(green.Good) })
}
