package judge

import (
	"math"
	"time"
)

// Issued is how many tries proxies started to each arm in one turn.
type Issued struct{ Live, Candidate uint64 }

func (i Issued) tries() float64 { return float64(i.Live) + float64(i.Candidate) }

// SeenSettings is the risk of one release.
type SeenSettings struct {
	Alpha float64 // probability that a candidate is convicted that gets at least half its share everywhere; outside (0,1): 0.01
}

func (s SeenSettings) fit() SeenSettings {
	if !(s.Alpha > 0 && s.Alpha < 1) {
		s.Alpha = 0.01
	}
	return s
}

// SeenTurn is what proxies issued in one turn. Only what proxies did that held the present share all turn long may be in it or be called steady.
type SeenTurn struct {
	Length  time.Duration
	Share   float64 // the candidate's configured share
	Steady  bool    // false: nothing of this turn counts, but the proxies in it are known from now on
	Fleet   Issued  // of all steady proxies together
	Proxies []ProxyIssued
}

// ProxyIssued is what one proxy issued in one turn.
type ProxyIssued struct {
	Proxy  string
	Issued Issued
	Steady bool
}

// Seen convicts a candidate that gets far less traffic than its share says: proxies have ejected it or cannot reach it, so there are hardly any errors to count.
// It bets on the fleet as a whole and on each proxy, so that a zone whose proxies are cut off is found, and named. NewSeen makes one; the zero value judges with the
// defaults of SeenSettings. It may not be copied once it has seen a proxy.
//
// While the candidate is healthy each try goes to it with its share's probability p, whatever the load and whatever live does. What sticky users, retries that
// go to live and stale moments may take from that is allowed for by a boundary of p/2. A bet that the candidate gets r times the boundary p0 gains ln a = ln r for each
// try to it and ln b = ln((1 - r·p0)/(1 - p0)) for each try to live. Because p·a + (1-p)·b falls with p where a < b, and is 1 at p0, the expectation of the gains'
// exponential is at most 1 for every p from p0 on, given how many tries there were: a fall of all traffic says nothing, and p may change from try to try. The
// mixture of all bets is then a supermartingale that reaches 1/α with probability α at most (Ville), however often one looks. Tries must be drawn independently of
// each other: a few sticky users are no ground to judge on.
type Seen struct {
	settings SeenSettings
	fleet    shortfall
	crowd    crowd
	limit    float64 // 1/α; 0 marks the zero value
	now      float64 // wealth of the mixture
	peak     float64
	blamed   blamed
}

// blamed is who is cut off, as of the conviction.
type blamed struct {
	sure          bool
	proxy         string
	expected, got float64
}

// fleetPart is the fleet's part of the wealth at the start; the rest is for the proxies.
const fleetPart = 0.5

// NewSeen begins a release without evidence.
func NewSeen(settings SeenSettings) *Seen {
	s := &Seen{}
	s.begin(settings.fit())
	return s
}

func (s *Seen) begin(settings SeenSettings) {
	*s = Seen{settings: settings, limit: 1 / settings.Alpha, fleet: newShortfall(), peak: 1}
	s.now = s.alone()
}

// Judge sets the risk. If it differs from that so far, the evidence begins anew under it.
func (s *Seen) Judge(settings SeenSettings) {
	if settings = settings.fit(); s.limit == 0 || s.settings != settings {
		s.begin(settings)
	}
}

// Turn takes one turn. One of no length or whose share is not a number is no reading, and nothing counts in it. One without tries says nothing: the reports of few
// proxies beat against the turns, so that some bring none and the next ones two.
func (s *Seen) Turn(t SeenTurn) {
	if s.limit == 0 {
		s.begin(s.settings.fit())
	}
	if t.Length <= 0 || math.IsNaN(t.Share) {
		return
	}
	t.Length = fitLength(t.Length)
	s.crowd.meet(t)
	if !t.Steady || t.Share <= 0 {
		return
	}
	stakes := s.stakes(t)
	s.fleet.turn(t.Fleet, &stakes)
	s.crowd.turn(t.Proxies, &stakes)
	s.settle()
}

// alone is the wealth while nothing is bet on single proxies.
func (s *Seen) alone() float64 { return fleetPart*s.fleet.wealth() + foundersPart + comersPart }

// settle adds up the wealth of all bets. Whatever is not yet bet is a part of it.
func (s *Seen) settle() {
	fleet := fleetPart * s.fleet.wealth()
	crowd, top := s.crowd.settle()
	s.now = fleet + crowd
	s.peak = max(s.peak, s.now)
	if s.blamed.sure || s.now < s.limit {
		return
	}
	s.blamed = blamed{sure: true, expected: float64(s.fleet.expected), got: float64(s.fleet.got)}
	if top != nil && top.wealth() > fleet {
		s.blamed = blamed{sure: true, proxy: top.proxy, expected: float64(top.expected), got: float64(top.got)}
	}
}

// SeenEvidence is what has been found so far. Logs are natural.
type SeenEvidence struct {
	Log       float64 // ln of the wealth now
	LogMax    float64 // its maximum
	Limit     float64 // what LogMax is compared with
	Convicted bool    // for good, once it is

	// Of whom it was convicted, as of then; of the fleet while it is not. Both count from when what it was sent last looked right.
	Proxy         string // "": of the fleet
	Expected, Got float64
}

// Evidence returns what has been found so far.
func (s *Seen) Evidence() SeenEvidence {
	if s.limit == 0 {
		s.begin(s.settings.fit())
	}
	e := SeenEvidence{
		Log: math.Log(s.now), LogMax: math.Log(s.peak), Limit: math.Log(s.limit), Convicted: s.blamed.sure,
		Proxy: s.blamed.proxy, Expected: s.blamed.expected, Got: s.blamed.got,
	}
	if !e.Convicted {
		e.Expected, e.Got = float64(s.fleet.expected), float64(s.fleet.got)
	}
	return e
}
