package policy

import "time"

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
	Interval  time.Duration // the turn's length
	Live      Counts
	Candidate Counts
	// SteadyLive and SteadyCandidate are the part from proxies that held the present weights throughout: what share seen may judge.
	SteadyLive      Counts
	SteadyCandidate Counts
	Unsettled       bool // a cluster or its endpoints changed within the interval: counts for the guard rail, never promotes
	Reporting       int  // proxies heard from within three intervals
	Missing         int  // proxies that should have reported and did not
}

// Fleet is what is known of the proxies of a service's gateways, merged over all replicas.
type Fleet struct {
	Connected int          // proxies, those of a lost replica included until the dead-man's time is over
	Ready     int          // of them, with what a release needs accepted: the arms' clusters and endpoints, the gateway's listeners
	Confirmed int          // of them, with everything that served says at its newest revision accepted
	Rejected  int          // of them, that refused something of this service
	Waiting   []ProxyWords // some that have not confirmed, at most three
	LastAck   time.Time    // when the newest confirmation came
}

// ProxyWords is one proxy that has not confirmed, and why as far as is known.
type ProxyWords struct {
	Proxy   string        `json:"proxy"`
	Version string        `json:"version,omitempty"` // "Envoy 1.40.0"
	Silent  time.Duration `json:"silent,omitempty"`  // since anything came from it
	Says    string        `json:"says,omitempty"`    // its own words, if it rejected something
}
