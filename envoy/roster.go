package envoy

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"time"
)

// roster are the proxies of one gateway that send load reports, in an order that is drawn by lot. In a large fleet only the first of them report fast. Lots are drawn
// anew when releases begin to run in the gateway, so that no proxy is always in the sample, and stay until none runs any more: what is compared must not move. A
// proxy that reconnects, and two with one node id, keep their place.
type roster struct {
	running  bool     // a release runs in the gateway
	clusters []string // that its proxies are asked about, sorted; never changed
	seed     maphash.Seed
	streams  []*reportStream // in the order of their lots
	fast     int             // so many of the first report fast
}

func newRoster() *roster { return &roster{seed: maphash.MakeSeed()} }

func byLot(a, b *reportStream) int {
	return cmp.Or(cmp.Compare(a.lot, b.lot), cmp.Compare(a.number, b.number))
}

// draw draws lots anew. Nobody reports fast until limit says how many may.
func (r *roster) draw(changed func(*reportStream)) {
	r.limit(0, changed)
	r.seed = maphash.MakeSeed()
	for _, s := range r.streams {
		s.lot = maphash.String(r.seed, s.node)
	}
	slices.SortFunc(r.streams, byLot)
}

// enter adds a proxy. It reports fast if its place is among those who do; limit sees to it that they do not become too many.
func (r *roster) enter(s *reportStream) {
	s.lot = maphash.String(r.seed, s.node)
	i, _ := slices.BinarySearchFunc(r.streams, s, byLot)
	r.streams = slices.Insert(r.streams, i, s)
	if s.slow = i > r.fast; !s.slow {
		r.fast++
	}
}

// leave takes a proxy out.
func (r *roster) leave(s *reportStream) {
	i, there := slices.BinarySearchFunc(r.streams, s, byLot)
	if !there {
		return
	}
	r.streams = slices.Delete(r.streams, i, i+1)
	if !s.slow {
		r.fast--
	}
}

// limit sets how many report fast, and calls changed with each proxy for which that changes something.
func (r *roster) limit(most int, changed func(*reportStream)) {
	most = min(most, len(r.streams))
	for ; r.fast > most; r.fast-- {
		r.streams[r.fast-1].slow = true
		changed(r.streams[r.fast-1])
	}
	for ; r.fast < most; r.fast++ {
		r.streams[r.fast].slow = false
		changed(r.streams[r.fast])
	}
}

const (
	fastest     = 250 * time.Millisecond
	slowestFast = 500 * time.Millisecond // a release that goes wrong must be seen within two turns or three
	quickRest   = 10 * time.Second       // how often the others report, at most
	atRest      = time.Hour
	heardOf     = 3          // intervals within which a proxy must have reported
	nodeBytes   = 61_000     // in every report (envoy-measured.md §13)
	readBytes   = 20_000_000 // per second, by one replica, if it is not told otherwise
	fastPart    = 0.8        // of what is read, for those that report fast; and how far a fleet must have shrunk before it is asked otherwise
)

// pace is how often proxies report. Its zero value is for no proxies.
type pace struct {
	budget float64 // bytes per second
	fast   time.Duration
	slow   time.Duration // of those that are not in the sample
	parted bool          // there is a sample: not all can report fast
}

func newPace(budget int) pace {
	return pace{budget: float64(cmp.Or(budget, readBytes)), fast: fastest, slow: quickRest}
}

func load(proxies int, interval time.Duration) float64 {
	return float64(proxies) * nodeBytes / interval.Seconds()
}

// set fits the pace to so many proxies. It moves in doublings, and back only when there is room to spare, so that a proxy that comes and goes does not have the whole
// fleet told anew.
func (p *pace) set(proxies int) {
	for p.fast < slowestFast && load(proxies, p.fast) > p.budget {
		p.fast *= 2
	}
	for p.fast > fastest && load(proxies, p.fast/2) < fastPart*p.budget {
		p.fast /= 2
	}
	switch all := load(proxies, slowestFast); {
	case all > p.budget:
		p.parted = true
	case all <= fastPart*p.budget:
		p.parted = false
	}
	rest := (1 - fastPart) * p.budget
	others := max(0, proxies-p.sample())
	for load(others, p.slow) > rest {
		p.slow *= 2
	}
	for p.slow > quickRest && load(others, p.slow/2) < fastPart*rest {
		p.slow /= 2
	}
}

// sample is how many may report fast.
func (p *pace) sample() int {
	if !p.parted {
		return math.MaxInt
	}
	return max(1, int(fastPart*p.budget*slowestFast.Seconds()/nodeBytes))
}

// shares divides the sample among gateways: each gets as much as every other, as far as it has proxies.
func shares(sample int, gateways []*roster) []int {
	order := make([]int, len(gateways))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(gateways[a].streams), len(gateways[b].streams)) })
	parts := make([]int, len(gateways))
	for done, i := range order {
		parts[i] = min(len(gateways[i].streams), max(1, sample/(len(order)-done)))
		sample = max(0, sample-parts[i])
	}
	return parts
}

// asked is the interval that a proxy of a running release is asked for. Those that report slowly are spread over time, or all would come at once each time.
func (p *pace) asked(s *reportStream) time.Duration {
	if !s.slow {
		return p.fast
	}
	spread := 0.75 + 0.5*float64(s.lot)/math.MaxUint64
	return time.Duration(spread * float64(p.slow)).Round(time.Millisecond)
}
