package envoy

import (
	"time"

	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// grpc-go takes the first order of a stream and no other. So a client is not answered before there is something to report; then it is asked for all its clusters, which
// are few, and what is not asked for by then is left aside; and that it is enough it is told by the end of its stream, after which it comes back at once. What it counted
// in the meantime it brings in the first report, which may reach back for hours and is not counted. Its reports are small, as it names itself only once, so they are
// never asked for more slowly.

// order is the order that a client must be sent, nil if it has one or there is none. The caller holds mu.
func (s *reportStream) order(interval time.Duration) *loadstatsv3.LoadStatsResponse {
	if s.ordered != 0 || interval == atRest {
		return nil
	}
	return &loadstatsv3.LoadStatsResponse{SendAllClusters: true, LoadReportingInterval: durationpb.New(interval)}
}

// list notes of which clusters a client's reports count. The caller holds mu.
func (c *Collector) list(s *reportStream) {
	r := c.roster(s.gateway)
	interval := atRest
	if r.running && s.ordered != 0 {
		interval = s.ordered
	}
	s.ask(r.clusters, interval, c.config.Now())
}

// over reports whether a client has reported enough.
func (c *Collector) over(s *reportStream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.ordered != 0 && s.asked == atRest
}

// uses reports whether a client has sent requests to a side of a release: all clients of a gateway are asked about all that runs there. The caller holds mu.
func (s *reportStream) uses(w Wanted) bool {
	return !s.listed[w.LivePool].at.IsZero() || !s.listed[w.CandidatePool].at.IsZero()
}

// Hears reports whether the gRPC client of this node id was heard from within three intervals, whatever it uses.
func (c *Collector) Hears(node string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.stations[node]
	if n == nil {
		return false
	}
	for _, s := range n.reports {
		if s.client && !s.heard.IsZero() && now.Sub(s.heard) <= heardOf*s.asked {
			return true
		}
	}
	return false
}
