package envoy

import (
	"maps"
	"slices"
	"time"
)

// Pace is how the proxies of running releases are asked to report.
type Pace struct {
	Fast, Slow int           // proxies
	Interval   time.Duration // of those that report fast
	Rest       time.Duration // of those that report slowly, about; 0 if there are none
}

// Pace returns how the proxies of running releases are asked to report.
func (c *Collector) Pace() Pace {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := Pace{Interval: c.pace.fast}
	for _, r := range c.rosters {
		if r.running {
			all.Fast += r.fast
			all.Slow += len(r.streams) - r.fast
		}
	}
	if all.Slow > 0 {
		all.Rest = c.pace.slow
	}
	return all
}

// Quiet has all proxies go on counting and report no more, as the end of this replica is near: what they count from here on they report to the next one, all of it, for
// that is what an Envoy does when its stream breaks (envoy-measured.md §13).
func (c *Collector) Quiet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = true
	for s := range c.streams {
		c.tell(s)
	}
}

// Slow is how many of the proxies that are asked about a service are not in the sample that reports fast.
func (c *Collector) Slow(service string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, gateway := range c.wanted[service].Gateways {
		if r := c.rosters[gateway]; r != nil {
			n += len(r.streams) - r.fast
		}
	}
	return n
}

// roster is a gateway's. The caller holds mu.
func (c *Collector) roster(gateway string) *roster {
	r := c.rosters[gateway]
	if r == nil {
		r = newRoster()
		c.rosters[gateway] = r
	}
	return r
}

// start notes in which gateways releases run, and has lots drawn where they begin to. The caller holds mu.
func (c *Collector) start() {
	runs := map[string]bool{}
	for _, w := range c.wanted {
		for _, gateway := range w.Gateways {
			runs[gateway] = true
		}
	}
	for gateway := range runs {
		if r := c.roster(gateway); !r.running {
			r.running = true
			r.draw(c.move)
		}
	}
	for gateway, r := range c.rosters {
		r.running, r.clusters = runs[gateway], c.clusters(gateway)
		c.sweep(gateway)
	}
}

// clusters are what the proxies of a gateway are asked about. The caller holds mu.
func (c *Collector) clusters(gateway string) []string {
	var clusters []string
	for _, w := range c.wanted {
		if slices.Contains(w.Gateways, gateway) {
			clusters = append(clusters, w.LivePool, w.CandidatePool)
		}
	}
	slices.Sort(clusters)
	return clusters
}

// sweep forgets a gateway in which nothing runs and nobody is. The caller holds mu.
func (c *Collector) sweep(gateway string) {
	if r := c.rosters[gateway]; r != nil && !r.running && len(r.streams) == 0 {
		delete(c.rosters, gateway)
	}
}

// fit sets the pace for those who must report, and tells whom it changes anything for. The caller holds mu.
func (c *Collector) fit() {
	var running []*roster
	proxies := 0
	for _, gateway := range slices.Sorted(maps.Keys(c.rosters)) {
		if r := c.rosters[gateway]; r.running {
			running = append(running, r)
			proxies += len(r.streams)
		}
	}
	before := c.pace
	c.pace.set(proxies)
	for i, part := range shares(c.pace.sample(), running) {
		running[i].limit(part, c.move)
		if c.pace != before {
			for _, s := range running[i].streams {
				c.tell(s)
			}
		}
	}
}

// move has a proxy told that it must report at another pace. What it reports slowly does not count with the sample's; so what it has in progress is taken back out of
// what was issued, or it would look as if it never ended. The caller holds mu.
func (c *Collector) move(s *reportStream) {
	c.tell(s)
	if !s.slow {
		return // its next report settles it
	}
	for cluster, listed := range s.listed {
		if to := (*c.watched.Load())[cluster]; listed.sampled && to != nil && to.role <= candidatePool {
			c.tally(to.service).arm(to).left += listed.active
		}
		listed.sampled = false
	}
}

// sampled reports whether what a node tells counts with the sample's: it does unless its load reports come slowly. The caller holds mu.
func (c *Collector) sampled(node string) bool {
	return !slices.ContainsFunc(c.station(node).reports, func(s *reportStream) bool { return s.slow })
}
