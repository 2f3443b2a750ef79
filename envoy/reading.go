package envoy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// Take returns what came since the last Take, by service: a reading for each service that is wanted. Steady tells whether a proxy has held the present weights for as
// long as a report at the fastest interval can reach back; of slower reports Take sees to it by itself. It is called without a lock held.
func (c *Collector) Take(now time.Time, steady func(service, node string) bool) map[string]policy.Reading {
	c.mu.Lock()
	tallies := c.tallies
	c.tallies = map[string]*tally{}
	for service, t := range tallies {
		if next := t.next(); next != nil {
			c.tallies[service] = next
		}
	}
	asked := map[string][]string{}
	readings := map[string]policy.Reading{}
	for service, w := range c.wanted {
		readings[service] = c.levels(w, now)
		for s := range c.streams {
			if s.covers(w) {
				asked[service] = append(asked[service], s.node)
			}
		}
	}
	names := c.names()
	c.mu.Unlock()
	for service, reading := range readings {
		since := c.hold(service, asked[service], now, func(node string) bool { return steady(service, node) })
		if t := tallies[service]; t != nil {
			readings[service] = t.reading(reading, now, since, names)
		}
	}
	return readings
}

// levels is the part of a reading that does not add up. The caller holds mu.
func (c *Collector) levels(w Wanted, now time.Time) policy.Reading {
	var r policy.Reading
	claimed := map[string]int{} // statistics streams, by node
	for s := range c.streams {
		if !s.reports(w, now) {
			continue
		}
		if s.slow {
			r.Slow++
			continue
		}
		r.LiveActive += s.listed[w.LivePool].inProgress()
		r.CandidateActive += s.listed[w.CandidatePool].inProgress()
		if s.client {
			if s.uses(w) {
				r.Untimed++
			}
			continue
		}
		r.Reporting++
		timely := 0
		for _, other := range c.station(s.node).statistics {
			if c.timely(other, s, w, now) {
				timely++
			}
		}
		if claimed[s.node]++; timely < claimed[s.node] {
			r.Timeless++
		}
	}
	return r
}

// hold returns since when Take has found the proxies of a service steady, without a break; who is not steady now is left out.
func (c *Collector) hold(service string, nodes []string, now time.Time, steady func(node string) bool) map[string]time.Time {
	since := map[string]time.Time{}
	for _, node := range nodes {
		if steady(node) {
			since[node] = now
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, at := range c.held[service] {
		if _, still := since[node]; still {
			since[node] = at
		}
	}
	c.held[service] = since
	return since
}

// names are what the streams' proxies are called: by their node ids; of several with one id the second is called "id#2", and so on. The caller holds mu.
func (c *Collector) names() map[uint64]string {
	names, taken := make(map[uint64]string, len(c.streams)), map[string]int{}
	for _, s := range slices.SortedFunc(maps.Keys(c.streams), func(a, b *reportStream) int { return cmp.Compare(a.number, b.number) }) {
		name := s.node
		if taken[s.node]++; taken[s.node] > 1 {
			name = fmt.Sprintf("%s#%d", s.node, taken[s.node])
		}
		names[s.number] = name
	}
	return names
}

// Reporting tells when each Envoy that is asked about a service last reported, of those heard from within three intervals.
func (c *Collector) Reporting(service string, now time.Time) map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	heard := map[string]time.Time{}
	names, w := c.names(), c.wanted[service]
	for s := range c.streams {
		if s.reports(w, now) && !s.client {
			heard[names[s.number]] = s.heard
		}
	}
	return heard
}
