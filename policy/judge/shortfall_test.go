package judge

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// single is what sums of numbers of single precision may be off, relatively.
const single = 1e-5

// expectedWealth is E[wealth after a turn of n tries], exactly, where each try goes to the candidate with probability p.
func expectedWealth(s shortfall, n int, p float64, k *stakes) float64 {
	sum := 0.0
	for candidate, probability := range binomial(n, p) {
		next := s
		next.turn(Issued{Live: uint64(n - candidate), Candidate: uint64(candidate)}, k)
		sum += probability * next.wealth()
	}
	return sum
}

func TestShareSeenIsASupermartingaleFromHalfTheShareOn(t *testing.T) {
	seen := NewSeen(SeenSettings{})
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(1e-4, 1).Draw(t, "share")
		length := rapid.SampledFrom([]time.Duration{shortest, 250 * time.Millisecond, longest}).Draw(t, "length")
		k := seen.stakes(SeenTurn{Length: length, Share: share})
		s := newShortfall()
		for range rapid.IntRange(0, 5).Draw(t, "turns before") {
			s.turn(Issued{Live: rapid.Uint64Range(0, 50).Draw(t, "live"), Candidate: rapid.Uint64Range(0, 20).Draw(t, "candidate")}, &k)
		}
		n := rapid.IntRange(1, 60).Draw(t, "tries")
		p := seenMargin*share + (1-seenMargin*share)*rapid.Float64Range(0, 1).Draw(t, "above the boundary")
		if e := expectedWealth(s, n, p, &k); e > s.wealth()*(1+single) {
			t.Fatalf("wealth %v is expected to become %v", s.wealth(), e)
		}
	})
}

// Less would be valid too, but slow: at the boundary each bet spends all it may.
func TestShareSeenSpendsAllItMay(t *testing.T) {
	for _, share := range []float64{1e-3, 0.1, 0.5, 1} {
		k := NewSeen(SeenSettings{}).stakes(SeenTurn{Length: time.Second, Share: share})
		p0 := share * seenMargin
		for i := range cutOffs {
			if e := p0*math.Exp(k.candidate[i]) + (1-p0)*math.Exp(k.live[i]); math.Abs(e-1) > rounding {
				t.Errorf("share %v, bet %d: E = %v per try", share, i, e)
			}
		}
	}
}

func TestShareSeenGrowsWhenTheCandidateIsCutOff(t *testing.T) {
	for _, share := range []float64{0.01, 0.25, 1} {
		k := NewSeen(SeenSettings{}).stakes(SeenTurn{Length: time.Second, Share: share})
		for _, part := range []float64{0, 0.1, 0.25} {
			s := newShortfall()
			if e := expectedWealth(s, 60, part*share, &k); e <= s.wealth() {
				t.Errorf("share %v of which it gets %v: wealth %v is expected to become %v", share, part, s.wealth(), e)
			}
		}
	}
}

func TestOneTurnNeverDecidesAboutTheShare(t *testing.T) {
	for _, alpha := range []float64{0.05, 0.01, 1e-4} {
		for _, length := range []time.Duration{shortest, longest} {
			for _, healthy := range []int{0, 100, 10000} {
				s := NewSeen(SeenSettings{Alpha: alpha})
				turn := SeenTurn{Length: length, Share: 0.5, Steady: true, Fleet: Issued{Live: 50, Candidate: 50}}
				turn.Proxies = []ProxyIssued{{Proxy: "edge-1", Issued: turn.Fleet, Steady: true}}
				for range healthy {
					s.Turn(turn)
				}
				turn.Fleet = Issued{Live: mostRequests}
				turn.Proxies[0].Issued = turn.Fleet
				if s.Turn(turn); s.Evidence().Convicted {
					t.Errorf("α %v, turns of %s: one of them convicts after %d", alpha, length, healthy)
				}
			}
		}
	}
}

// However proxies come and go, they are not given more than there is.
func TestProxiesShareOneWealth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSeen(SeenSettings{})
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			turn := SeenTurn{Length: longest, Share: 0.5, Steady: true, Fleet: Issued{Live: 5, Candidate: 5}}
			for range rapid.IntRange(0, 30).Draw(t, "proxies") {
				name := fmt.Sprint(rapid.IntRange(0, 300).Draw(t, "proxy"))
				// What is fair leaves no bet richer than it was; then the sum tells what was given out.
				turn.Proxies = append(turn.Proxies, ProxyIssued{Proxy: name, Issued: Issued{Live: 5, Candidate: 15}, Steady: true})
			}
			s.Turn(turn)
			parts := s.crowd.spare
			for i := range s.crowd.places {
				parts += s.crowd.places[i].part
			}
			if parts > foundersPart+comersPart+single || s.crowd.spare < 0 || s.now > 1+single {
				t.Fatalf("parts of %v, wealth %v", parts, s.now)
			}
			if len(s.crowd.index)+len(s.crowd.free) != len(s.crowd.places) {
				t.Fatalf("%d proxies and %d free places of %d", len(s.crowd.index), len(s.crowd.free), len(s.crowd.places))
			}
		}
	})
}

func TestProxiesThatAreGoneLeaveTheirPlace(t *testing.T) {
	s := NewSeen(SeenSettings{})
	turn := SeenTurn{Length: time.Second, Share: 0.5, Steady: true, Fleet: Issued{Live: 5, Candidate: 5}}
	for i := range 1000 {
		turn.Proxies = []ProxyIssued{{Proxy: fmt.Sprint("pod-", i), Issued: Issued{Live: 1}, Steady: true}}
		s.Turn(turn)
	}
	if n := len(s.crowd.places); n > 70 {
		t.Errorf("%d places for proxies that live for a second each", n)
	}
}

func TestTooManyProxiesAreJudgedAsAFleet(t *testing.T) {
	s := NewSeen(SeenSettings{})
	turn := SeenTurn{Length: 5 * time.Second, Share: 0.5, Steady: true}
	for i := range mostProxies + 100 {
		turn.Proxies = append(turn.Proxies, ProxyIssued{Proxy: fmt.Sprint("edge-", i), Issued: Issued{Live: 1}, Steady: true})
	}
	for range 10 {
		turn.Fleet.Live = uint64(len(turn.Proxies))
		s.Turn(turn)
	}
	if len(s.crowd.places) != mostProxies || !s.Evidence().Convicted {
		t.Errorf("%d places, %+v", len(s.crowd.places), s.Evidence())
	}
}
