package policy

import (
	"strings"
	"testing"
)

// Nothing climbs while nothing is known of latency that is to be judged: where only gRPC clients serve, the document must say so, and `why` says how.
func TestWhereOnlyGRPCClientsServeItIsSaidWhyNoTimesCome(t *testing.T) {
	for _, c := range []struct {
		spoil func(*Served)
		lacks string
	}{
		{func(*Served) {}, "the times of 20 requests to green at this weight (gRPC clients send none; `latency: off` and no `limits.p99` do without)"},
		{func(s *Served) { s.Service.Analysis.Limits.P99, s.Service.Analysis.Latency.Off = nil, true },
			"the gRPC statuses of 20 requests to green at this weight (gRPC clients send none; an analysis of errors without `grpc` does without)"},
		{func(s *Served) {
			s.Service.Analysis.Limits.P99, s.Service.Analysis.Latency.Off, s.Service.Analysis.Errors.GRPC = nil, true, nil
		}, ""},
	} {
		s := whole()
		c.spoil(s)
		e, at := NewEvidence(s.Release.ID, s.Service.Analysis), s.Release.Weight
		for i := range 480 {
			if s.Release.Weight = at; i < 240 {
				s.Release.Weight = 0
			}
			r := quarter(i)
			r.Times, r.Statuses, r.Untimed, r.UntimedLive, r.UntimedCandidate = nil, nil, 1, r.Live.Finished(), r.Candidate.Finished()
			e.Take(r, s)
		}
		if e.Latest.Lacks != c.lacks || (e.Latest.Verdict == Healthy) != (c.lacks == "") {
			t.Errorf("%s, it lacks %q, want %q", e.Latest.Verdict, e.Latest.Lacks, c.lacks)
		}
	}
}

// Beside Envoys a gRPC client holds nothing: the times of the Envoys' requests are judged, and the ends of its own, of which no statistics come, are not taken for
// ends that load reports lack.
func TestAGRPCClientBesideEnvoysHoldsNothing(t *testing.T) {
	s := whole()
	e := watched(t, s)
	for i := range 400 {
		r := quarter(i)
		r.Live, r.Candidate = r.Live.Add(Counts{OK: 30, Issued: 30}), r.Candidate.Add(Counts{OK: 10, Issued: 10})
		r.Quality[0].Live.Sum, r.Quality[0].Live.Count = r.Quality[0].Live.Sum*105/75, 105
		r.Quality[0].Candidate.Sum, r.Quality[0].Candidate.Count = r.Quality[0].Candidate.Sum*35/25, 35
		r.Untimed, r.UntimedLive, r.UntimedCandidate = 1, 30, 10
		e.Take(r, s)
		if ahead := e.lacking[0].ahead + e.lacking[1].ahead; ahead != 0 {
			t.Fatalf("turn %d: load reports are %d ahead of the statistics", i, ahead)
		}
	}
	if e.Latest.Verdict != Healthy {
		t.Errorf("%s: %+v", e.Latest.Verdict, e.Latest)
	}
	if strings.Contains(e.Latest.Lacks, "gRPC") {
		t.Errorf("it lacks %s", e.Latest.Lacks)
	}
}
