package policy

import (
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// Counts are what proxies counted for one backend in one interval, per try, so that retries hide nothing.
type Counts struct {
	OK     uint64 `json:"ok"`     // 1xx to 4xx, and gRPC statuses that are no server errors
	Errors uint64 `json:"errors"` // 5xx, resets before headers, timeouts, refused connections
	Issued uint64 `json:"issued"` // tries started; may finish in a later interval
}

// Finished is the number of tries with a known end.
func (c Counts) Finished() uint64 { return c.OK + c.Errors }

// Add returns the sum of both.
func (c Counts) Add(d Counts) Counts {
	return Counts{OK: c.OK + d.OK, Errors: c.Errors + d.Errors, Issued: c.Issued + d.Issued}
}

// Reading is what the proxies of a service reported in one turn.
type Reading struct {
	Interval  time.Duration `json:"interval,omitzero"` // the turn's length
	Live      Counts        `json:"live,omitzero"`
	Candidate Counts        `json:"candidate,omitzero"`
	// SteadyLive and SteadyCandidate are the part from proxies that held the present weights throughout: what share seen may judge.
	SteadyLive      Counts `json:"steadyLive,omitzero"`
	SteadyCandidate Counts `json:"steadyCandidate,omitzero"`
	Unsettled       bool   `json:"unsettled,omitzero"` // a cluster or its endpoints changed within the interval: counts for the guard rail, never promotes
	Reporting       int    `json:"reporting,omitzero"` // Envoys heard from within three intervals
	// Slow are proxies besides, of a fleet so large that only a random part reports every turn. All but share seen is of that part alone.
	Slow    int `json:"slow,omitzero"`
	Missing int `json:"missing,omitzero"` // proxies that should have reported and did not

	// Tries in progress by the newest report of each proxy: levels, not counts.
	LiveActive      uint64 `json:"liveActive,omitzero"`
	CandidateActive uint64 `json:"candidateActive,omitzero"`

	// Untimed are the proxies that report and can send no statistics, gRPC clients; the others are what has finished by their reports.
	Untimed          int    `json:"untimed,omitzero"`
	UntimedLive      uint64 `json:"untimedLive,omitzero"`
	UntimedCandidate uint64 `json:"untimedCandidate,omitzero"`

	Proxies  []ProxyReading `json:"proxies,omitzero"`  // by proxy: those of which something came in this turn
	Times    *Times         `json:"times,omitzero"`    // nil: no proxy's statistics came in this turn
	Timeless int            `json:"timeless,omitzero"` // proxies that should have sent statistics lately and did not
	Statuses *Statuses      `json:"statuses,omitzero"` // by gRPC status; nil: nothing came
	Quality  []ArmSamples   `json:"quality,omitzero"`  // as Analysis.Quality lists them; empty: nothing came
	Queries  []QueryReading `json:"queries,omitzero"`  // as Analysis.Queries lists them; empty: nothing is known of them
}

// ProxyReading is what one proxy issued to each arm in one turn.
type ProxyReading struct {
	Proxy string `json:"proxy"`
	// Tries started; with an Envoy that reports no refused connections, its own count of those is in them.
	Live      uint64 `json:"live,omitzero"`
	Candidate uint64 `json:"candidate,omitzero"`
	Steady    bool   `json:"steady,omitzero"` // it held the present weights throughout
}

// Times are how long the finished requests of both arms took.
type Times struct {
	Live      judge.Histogram `json:"live"`
	Candidate judge.Histogram `json:"candidate"`
}

// GRPCStatuses is how many statuses gRPC has: 0 (OK) to 16 (UNAUTHENTICATED).
const GRPCStatuses = 17

// Statuses are the finished gRPC requests of both arms by status.
type Statuses struct {
	Live      [GRPCStatuses]uint64 `json:"live"`
	Candidate [GRPCStatuses]uint64 `json:"candidate"`
}

// ArmSamples are what both arms' requests reported of one named metric in one turn.
type ArmSamples struct {
	Live      judge.Sample `json:"live"`
	Candidate judge.Sample `json:"candidate"`
}

// QueryReading is the newest answer to one query for both arms.
type QueryReading struct {
	Live      float64 `json:"live,omitzero"`
	Candidate float64 `json:"candidate,omitzero"`
	Fresh     bool    `json:"fresh,omitzero"`   // it was read since the last turn: a sample to judge, once
	Problem   string  `json:"problem,omitzero"` // why there is no answer that counts, in the operator's words: stale, empty, not a number, too slow; "" is none
}

// Fleet is what is known of the proxies of a service's gateways, merged over all replicas.
type Fleet struct {
	Connected int          `json:"connected"`        // proxies, those of a lost replica included until the dead-man's time is over
	Ready     int          `json:"ready"`            // of them, with what a release needs accepted: the arms' clusters and endpoints, the gateway's listeners
	Confirmed int          `json:"confirmed"`        // of them, with everything that served says at its newest revision accepted
	Rejected  int          `json:"rejected"`         // of them, that refused something of this service
	Slow      int          `json:"slow,omitzero"`    // of them, that report seldom, because a random part of a large fleet does for all
	Waiting   []ProxyWords `json:"waiting,omitzero"` // some that have not confirmed, at most three
	LastAck   time.Time    `json:"lastAck,omitzero"` // when the newest confirmation came
}

// ProxyWords is one proxy that has not confirmed, and why as far as is known.
type ProxyWords struct {
	Proxy   string        `json:"proxy"`
	Version string        `json:"version,omitempty"` // "Envoy 1.40.0"
	Silent  time.Duration `json:"silent,omitempty"`  // since anything came from it
	Says    string        `json:"says,omitempty"`    // its own words, if it rejected something
}
