package policy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// soakingAt is a service with a release at a weight, past its warm-up.
func soakingAt(weight Weight) *Served {
	s := Service{
		Name: "shop", Hosts: []string{"shop.example.com"}, Serve: "green",
		Backends: map[string]Backend{"blue": {Revision: "v1"}, "green": {Revision: "v2"}},
	}.WithDefaults()
	return &Served{
		Service: s, Live: Arm{Ref: Ref{"blue", "v1"}},
		Release: &Release{ID: "green-7", Candidate: Arm{Ref: Ref{"green", "v2"}}, Mode: ByPlan, Phase: Soaking, Weight: weight, InPhase: time.Hour},
	}
}

// quarterSecond is a turn's reading at 400 requests per second: live's errors, and how many requests the candidate is issued of the 25 it should get.
func quarterSecond(liveErrors, candidateErrors, issued uint64) Reading {
	return answered(Counts{OK: 100 - issued - liveErrors, Errors: liveErrors, Issued: 100 - issued}, Counts{OK: issued - candidateErrors, Errors: candidateErrors, Issued: issued})
}

// answered is a turn of 250 ms in which everything is answered in 20 ms, by proxies that all are as they should be.
func answered(live, candidate Counts) Reading {
	const in20ms = 17
	times := &Times{Live: judge.Histogram{in20ms: live.Finished()}, Candidate: judge.Histogram{in20ms: candidate.Finished()}}
	return Reading{Interval: 250 * time.Millisecond, Live: live, Candidate: candidate, SteadyLive: live, SteadyCandidate: candidate, Times: times}
}

// repeat takes the same reading for a while and reports whether it came to a conviction.
func repeat(e *Evidence, s *Served, r Reading, lasts time.Duration) bool {
	for ; lasts > 0; lasts -= r.Interval {
		if e.Take(r, s).Verdict == Unhealthy {
			return true
		}
	}
	return false
}

// settled is evidence after half a minute without any trouble.
func settled(s *Served) *Evidence {
	e := NewEvidence(s.Release.ID, s.Service.Analysis)
	at := s.Release.Weight
	s.Release.Weight = 0
	repeat(e, s, quarterSecond(0, 0, 0), 10*time.Second)
	s.Release.Weight = at
	repeat(e, s, quarterSecond(0, 0, 25), 20*time.Second)
	return e
}

func TestACandidateThatProxiesCannotReachIsConvicted(t *testing.T) {
	s := soakingAt(2500)
	if !repeat(settled(s), s, quarterSecond(0, 0, 0), 3*time.Second) {
		t.Error("a candidate that gets nothing of its 25 % goes on")
	}
}

// After an outage that hit both sides, the candidate's endpoints may come back from their ejection later than live's.
func TestShareSeenBlamesNobodyForEjectionsOfASharedOutage(t *testing.T) {
	s := soakingAt(2500)
	e := settled(s)
	for _, one := range []struct {
		what  string
		r     Reading
		lasts time.Duration
	}{
		{"the outage", quarterSecond(37, 12, 25), 8 * time.Second},
		{"all are ejected, so all are tried", quarterSecond(0, 0, 25), 22 * time.Second},
		{"live is back, the candidate is not yet", quarterSecond(0, 0, 0), 5 * time.Second},
		{"both are back", quarterSecond(0, 0, 25), 2 * time.Minute},
	} {
		if repeat(e, s, one.r, one.lasts) {
			t.Fatalf("%s: convicted: %s", one.what, e.Latest.Reason)
		}
	}
	if e.Latest.Verdict != Healthy {
		t.Errorf("it does not go on afterwards: %+v", e.Latest)
	}
	if !repeat(e, s, quarterSecond(0, 0, 0), 3*time.Second) {
		t.Error("and later it is not seen any more that the candidate is cut off")
	}
}

// The same where bursts of errors are so usual that they are no incident.
func TestShareSeenBlamesNobodyForEjectionsInUsualBursts(t *testing.T) {
	s := soakingAt(2500)
	e := settled(s)
	for range 24 {
		if repeat(e, s, quarterSecond(15, 5, 25), 250*time.Millisecond) || repeat(e, s, quarterSecond(0, 0, 25), 4750*time.Millisecond) {
			t.Fatalf("a burst: convicted: %s", e.Latest.Reason)
		}
	}
	if e.Latest.Incident {
		t.Error("the bursts are not usual yet")
	}
	if repeat(e, s, quarterSecond(15, 5, 25), 250*time.Millisecond) || repeat(e, s, quarterSecond(0, 0, 0), 30*time.Second) {
		t.Errorf("both failed, and it was convicted: %s", e.Latest.Reason)
	}
}

// The same where there are only 16 requests a second: a second of trouble is no incident there, and ejects all the same.
func TestShareSeenBlamesNobodyForEjectionsAtLowTraffic(t *testing.T) {
	s := soakingAt(2500)
	slow := func(liveErrors, candidateErrors, issued uint64) Reading {
		return answered(Counts{OK: 4 - issued - liveErrors, Errors: liveErrors, Issued: 4 - issued}, Counts{OK: issued - candidateErrors, Errors: candidateErrors, Issued: issued})
	}
	begun := func() *Evidence {
		e := NewEvidence(s.Release.ID, s.Service.Analysis)
		s.Release.Weight = 0
		repeat(e, s, slow(0, 0, 0), 10*time.Second)
		s.Release.Weight = 2500
		repeat(e, s, slow(0, 0, 1), time.Minute)
		return e
	}
	if !repeat(begun(), s, slow(0, 0, 0), 10*time.Second) {
		t.Error("a candidate that gets nothing of its 25 % goes on")
	}
	e := begun()
	if repeat(e, s, slow(3, 1, 1), 750*time.Millisecond) || repeat(e, s, slow(0, 0, 0), 30*time.Second) {
		t.Errorf("both failed, and it was convicted: %s", e.Latest.Reason)
	}
}

// limited is a service whose live fails as often as its candidate, above the operator's limit: nothing but the limit can tell.
func limited(percent Share) (*Served, Reading) {
	s := soakingAt(2500)
	s.Service.Analysis.Limits.Errors = &percent
	return s, quarterSecond(9, 3, 25)
}

// accustomed is evidence of a service whose live has long failed as often as the reading says, so that it is no incident.
func accustomed(s *Served, r Reading) *Evidence {
	e := NewEvidence(s.Release.ID, s.Service.Analysis)
	at := s.Release.Weight
	s.Release.Weight = 0
	repeat(e, s, r, time.Minute)
	s.Release.Weight = at
	return e
}

func TestEvidenceAgainstTheLimitIsNoHealth(t *testing.T) {
	s, r := limited(0.08)
	e := accustomed(s, r)
	doubted := 0
	for e.Take(r, s).Verdict != Unhealthy && doubted < 1000 {
		found := e.Errors.Evidence()
		if found.StepCandidate.Good+found.StepCandidate.Bad < enough || found.LogLimit < found.Limit/2 {
			continue
		}
		doubted++
		if e.Latest.Verdict != Unknown || e.Latest.Lacks == "" {
			t.Fatalf("%+v at %.1f of %.1f against the limit", e.Latest, found.LogLimit, found.Limit)
		}
	}
	if doubted == 0 || doubted == 1000 {
		t.Errorf("%d turns between doubt and conviction", doubted)
	}
}

// DESIGN §9: a changed analysis applies from the next decision: a limit set in mid-release convicts.
func TestALimitSetInMidReleaseConvicts(t *testing.T) {
	s, r := limited(0.05)
	limits := s.Service.Analysis.Limits
	s.Service.Analysis.Limits = Limits{}
	e := accustomed(s, r)
	if repeat(e, s, r, time.Minute) {
		t.Fatalf("convicted without a limit: %s", e.Latest.Reason)
	}
	s.Service.Analysis.Limits = limits
	s.Accepted++
	if !repeat(e, s, r, time.Minute) {
		t.Fatalf("a limit of 5 %% lets 12 %% pass: %s", e.Latest.Reason)
	}
	if want := "above its limit of 5 %"; !strings.Contains(e.Latest.Reason, want) {
		t.Errorf("%q does not say %q", e.Latest.Reason, want)
	}
}

// DESIGN §9: a changed analysis applies from the next decision: a limit taken away in mid-release convicts no more, not by what was stored under it either.
func TestALimitTakenAwayInMidReleaseConvictsNoMore(t *testing.T) {
	s, r := limited(0.08)
	e := accustomed(s, r)
	for e.Errors.Evidence().LogLimit < e.Errors.Evidence().Limit/2 {
		if e.Take(r, s).Verdict == Unhealthy {
			t.Fatalf("convicted on half the evidence: %s", e.Latest.Reason)
		}
	}
	stored, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	s.Service.Analysis.Limits = Limits{}
	s.Accepted++
	again, err := LoadEvidence(stored, s.Release.ID, s.Service.Analysis)
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*Evidence{"this leader": e, "the next leader": again} {
		if repeat(e, s, r, time.Minute) || e.Latest.Verdict != Healthy {
			t.Errorf("%s: %+v", name, e.Latest)
		}
	}
}

// DESIGN §9: a changed analysis applies from the next decision: a wider margin asks for evidence of its own, and a conviction under the old limit is forgotten with it.
func TestAChangedAnalysisBeginsTheEvidenceAnew(t *testing.T) {
	s, r := limited(0.05)
	e := accustomed(s, r)
	if !repeat(e, s, r, time.Minute) {
		t.Fatal("a limit of 5 % lets 12 % pass")
	}
	wider := Share(0.2)
	s.Service.Analysis.Limits.Errors = &wider
	s.Accepted++
	if repeat(e, s, r, time.Minute) {
		t.Errorf("a limit of 20 %% convicts 12 %%: %s", e.Latest.Reason)
	}
}

// DESIGN §9: in the warm-up, at the first step, only the guard rail counts.
func TestInTheWarmupOnlyTheGuardRailCounts(t *testing.T) {
	first := soakingAt(2500)
	first.Service.Plan = Plan{Steps: []Weight{2500, Full}}.withDefaults()
	cold := *first.Release
	cold.InPhase = 0
	first.Release = &cold
	slow, broken := quarterSecond(0, 4, 25), quarterSecond(0, 15, 25)
	e := settled(first)
	if repeat(e, first, slow, 20*time.Second) {
		t.Errorf("16 %% errors convict in the warm-up: %s", e.Latest.Reason)
	}
	if !repeat(settled(first), first, broken, 5*time.Second) {
		t.Error("60 % errors pass in the warm-up")
	}
	cold.InPhase = first.Service.Plan.Warmup.Std()
	if !repeat(e, first, slow, 20*time.Second) {
		t.Error("16 % errors pass after the warm-up")
	}
}

// The reports of one or two proxies beat against the turns: some turns bring none and the next ones bring two.
func TestShareSeenIsNotHeldUpByTurnsWithoutReports(t *testing.T) {
	s := soakingAt(2500)
	e := settled(s)
	none := Reading{Interval: 250 * time.Millisecond}
	for range 6 {
		if e.Take(none, s).Verdict == Unhealthy || e.Take(quarterSecond(0, 0, 0), s).Verdict == Unhealthy {
			return
		}
	}
	t.Error("three seconds of nothing for the candidate do not convict")
}
