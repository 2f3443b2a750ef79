package policy_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
)

// judgements are what a judge may say, and what none should.
func judgements() *rapid.Generator[policy.Judgement] {
	return rapid.Custom(func(t *rapid.T) policy.Judgement {
		return policy.Judgement{
			Verdict: rapid.SampledFrom([]policy.Verdict{policy.Unknown, policy.Healthy, policy.Healthy}).Draw(t, "verdict"),
			Excess:  rapid.SampledFrom([]float64{0, 0.004, 0.02, 0.5, 1}).Draw(t, "excess"), Rate: rapid.SampledFrom([]float64{0, 1, 100, 1e4}).Draw(t, "rate"),
			StepRequests: rapid.SampledFrom([]uint64{0, 4, 5, 1000}).Draw(t, "requests"), Unsettling: rapid.IntRange(0, 3).Draw(t, "unsettling") == 0, Lacks: "a verdict",
		}
	})
}

// TestAClimbByEvidenceKeepsItsPromisesWhateverTheJudgeSays: it never falls, at most doubles, moves only when nothing is unsettling, and leaves half of the traffic only with a
// healthy verdict, no excess worth speaking of and five seconds at it; a turn without news is not saved.
func TestAClimbByEvidenceKeepsItsPromisesWhateverTheJudgeSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := begunClimb(t)
		turn := policy.Turn{Deadman: 15 * time.Second, Permit: true, Wish: policy.Wish{Mod: s.Accepted}, Fleet: policy.Fleet{Connected: 3, Ready: 3, Confirmed: 3}}
		for i := 0; i < 200 && s.Release != nil; i++ {
			if rapid.IntRange(0, 9).Draw(t, "news") == 0 || i == 0 {
				turn.Judgement = judgements().Draw(t, "judgement")
			}
			turn.Elapsed, turn.Served = time.Duration(rapid.IntRange(1, 20).Draw(t, "quarters"))*250*time.Millisecond, s
			before, inPhase := *s.Release, s.Release.InPhase+turn.Elapsed
			d := policy.Decide(turn)
			after := d.Served.Release
			if d.Save && len(d.Events) == 0 && after.Waits == before.Waits {
				t.Fatalf("saved without news: %+v", after)
			}
			if after != nil && after.Weight != before.Weight && after.Phase == policy.Shifting {
				allowedMove(t, before, *after, turn.Judgement, inPhase)
			}
			s = d.Served
		}
	})
}

// begunClimb is a service whose release is at its gate, by the default plan or one like it.
func begunClimb(t *rapid.T) *policy.Served {
	plan := policy.Plan{Evidence: &policy.Climb{From: weights(1, 5000).Draw(t, "from")}, Holdback: maybe(t, "holdback", weights(0, 5000))}
	plan.Warmup = maybe(t, "warmup", durations())
	backend := policy.Backend{Revision: "v2", Endpoints: []string{"10.0.0.1:80"}}
	document := policy.Service{Name: "shop", Serve: "green", Backends: map[string]policy.Backend{"green": backend, "blue": backend}, Plan: plan}.WithDefaults()
	return &policy.Served{
		Service: document, Accepted: 1, Live: policy.Arm{Ref: policy.Ref{Backend: "blue", Revision: "v2"}, Definition: backend},
		Release: &policy.Release{ID: "green-1", Candidate: policy.Arm{Ref: document.Wish(), Definition: backend}, Mode: policy.ByPlan, Phase: policy.Gated, Capacity: 1},
	}
}

// allowedMove fails for a step that the evidence does not allow.
func allowedMove(t *rapid.T, before, after policy.Release, j policy.Judgement, inPhase time.Duration) {
	switch {
	case after.Weight <= before.Weight:
		t.Fatalf("it falls from %s to %s", before.Weight, after.Weight)
	case before.Weight == 0 && after.Weight > policy.Full/2:
		t.Fatalf("it begins with %s", after.Weight)
	case before.Weight == 0:
	case j.Unsettling || j.StepRequests < 5 || inPhase < 1500*time.Millisecond:
		t.Fatalf("from %s to %s after %s with %+v", before.Weight, after.Weight, inPhase, j)
	case before.Weight < policy.Full/2 && (after.Weight > 2*before.Weight || after.Weight > policy.Full/2):
		t.Fatalf("from %s to %s", before.Weight, after.Weight)
	case before.Weight >= policy.Full/2 && (j.Verdict != policy.Healthy || j.Excess > 0.005 || inPhase < 5*time.Second):
		t.Fatalf("from %s to %s after %s with %+v", before.Weight, after.Weight, inPhase, j)
	}
}
