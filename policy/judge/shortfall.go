package judge

import "math"

const (
	cutOffs    = 4
	seenMargin = 0.5  // of the share that is configured: what a healthy candidate gets at least
	richest    = 1e30 // a bet is not counted further
)

// cutOff is a bet of share seen: that the candidate gets only a part of the boundary. Most candidates that are cut off get nothing.
type cutOff struct{ part, prior float32 }

func cutOffsOf() [cutOffs]cutOff {
	return [...]cutOff{{0.02, 0.5}, {0.1, 0.25}, {0.3, 0.125}, {0.6, 0.125}}
}

// stakes are the terms of one turn's bets, the same for all who bet.
type stakes struct {
	share           float64
	hazard          float64 // prior probability that the candidate was cut off in this turn
	most            float64 // that one bet may gain in it: no single turn decides
	candidate, live [cutOffs]float64
}

// stakes sets the terms. The cap is that of Errors, and below what a bet from the start lacks to convict by itself.
func (s *Seen) stakes(t SeenTurn) stakes {
	share := min(t.Share, 1)
	k := stakes{share: share, hazard: pace{length: t.Length}.hazard()}
	for i, c := range cutOffsOf() {
		k.candidate[i] = math.Log(float64(c.part))
		k.live[i] = math.Log1p(-float64(c.part)*seenMargin*share) - math.Log1p(-seenMargin*share)
	}
	way := math.Log(s.limit / fleetPart)
	k.most = min(capShare*(way-math.Log((1-fromStart)*k.hazard)), 2*capShare*(way-math.Log(fromStart)))
	return k
}

// shortfall is an e-process that too few tries go to the candidate. It is small because there may be one for each of 10,000 proxies; the bets on all starting times
// lie in one number, because what they gain in a turn is the same. Numbers are of single precision for the same reason: where they overflow they are cut off, which
// is safe, and what is too small for them was lost anyway.
type shortfall struct {
	bets [cutOffs]float32 // wealth of each, prior included, over the starts so far
	rest float32          // prior of not having been cut off yet

	// For the reason only: what should have gone to the candidate and what did, since the bet on the mildest cut-off was last at its lowest.
	expected, got, climb float32
}

func newShortfall() shortfall {
	s := shortfall{rest: 1 - fromStart}
	for i, c := range cutOffsOf() {
		s.bets[i] = fromStart * c.prior
	}
	return s
}

// turn settles one turn's bets. More tries than a turn can have are a counter that went backwards.
func (s *shortfall) turn(issued Issued, k *stakes) {
	if issued.tries() == 0 || issued.Live > mostRequests || issued.Candidate > mostRequests {
		return
	}
	live, candidate := float64(issued.Live), float64(issued.Candidate)
	gain := 0.0
	for i, c := range cutOffsOf() {
		gain = candidate*k.candidate[i] + live*k.live[i]
		bet := float64(s.bets[i] + s.rest*float32(k.hazard)*c.prior)
		s.bets[i] = float32(min(bet*math.Exp(min(gain, k.most)), richest))
	}
	s.rest *= float32(1 - k.hazard)
	s.count(gain, k.share*(live+candidate), candidate)
}

// count counts what a reader of the reason wants to know.
func (s *shortfall) count(gain, expected, got float64) {
	s.climb += float32(gain)
	s.expected += float32(expected)
	s.got += float32(got)
	if s.climb <= 0 {
		s.climb, s.expected, s.got = 0, 0, 0
	}
}

// wealth is that of all bets and of what is not yet bet. It is 1 at the start.
func (s *shortfall) wealth() float64 {
	sum := s.rest
	for _, bet := range s.bets {
		sum += bet
	}
	return float64(sum)
}
