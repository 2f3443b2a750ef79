package policy

import (
	"testing"
	"time"
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
	live := Counts{OK: 75 - liveErrors, Errors: liveErrors, Issued: 100 - issued}
	candidate := Counts{OK: issued - candidateErrors, Errors: candidateErrors, Issued: issued}
	return Reading{Interval: 250 * time.Millisecond, Live: live, Candidate: candidate, SteadyLive: live, SteadyCandidate: candidate}
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
