package envoy

import "time"

const (
	// flushEvery is how often the bootstrap has statistics sent.
	flushEvery = 500 * time.Millisecond
	// slowestFlush is the longest time between two messages that is taken for the usual one.
	slowestFlush = 10 * time.Second
	// oneFlush is the time within which the messages of one flush come: a bootstrap may have it cut into batches.
	oneFlush = 200 * time.Millisecond
)

// statsStream is one proxy's stream of statistics. Collector.mu guards what may change.
type statsStream struct {
	node, gateway string // fixed
	blind         bool   // fixed: as in reportStream

	heard time.Time     // of the last message
	flush time.Duration // about how often they come
	mark  uint64        // of the last message
	arms  map[*watch]*armStats
	complaints

	touched    map[*watch]*armStats // by the message that is being counted
	generation uint64               // of what was watched when the last message came
	before     uint64               // the one before it
	changed    time.Time            // when the first message of generation came
}

// armStats is what one proxy has counted of one cluster in one release.
type armStats struct {
	since     time.Time        // its first message
	seen      time.Time        // its last message
	known     [counters]bool   // the counter has come
	value     [counters]uint64 // its newest value
	change    [counters]uint64 // within the message that is being counted
	restarted bool             // in it
}

// beat notes a message, and learns how often they come.
func (s *statsStream) beat(now time.Time) {
	gap := now.Sub(s.heard)
	if !s.heard.IsZero() && gap > oneFlush {
		s.flush += (min(gap, slowestFlush) - s.flush) / 4
	}
	s.heard = now
}

// repeats reports whether a message is the one before, come again.
func (s *statsStream) repeats(mark uint64) bool {
	again := mark == s.mark
	s.mark = mark
	return again
}

// turn begins a message.
func (s *statsStream) turn(generation uint64, watched map[string]*watch, now time.Time) {
	s.touched = map[*watch]*armStats{}
	if s.changed.IsZero() || generation != s.generation {
		s.before, s.generation, s.changed = s.generation, generation, now
	}
	if len(s.arms) > len(watched) {
		for of := range s.arms {
			if watched[of.cluster] != of {
				delete(s.arms, of)
			}
		}
	}
}

// count takes a counter's newest value. Envoy leaves out what was never counted, and sends the rest in each flush; so one that comes for the first time has grown from
// zero, unless the first flush is still under way. What an arm's first flush says of the time before is not known to be of this release, and only tells where to count
// from; of a pool, which is there all the time, that is so of the proxy's first flush.
func (s *statsStream) count(r countReport, now time.Time) {
	arm := s.arms[r.watch]
	if arm == nil {
		arm = &armStats{since: now}
		s.arms[r.watch] = arm
	}
	if s.touched[r.watch] == nil {
		s.touched[r.watch] = arm
		arm.seen, arm.change, arm.restarted = now, [counters]uint64{}, false
	}
	since := arm.since
	if r.watch.role < liveArm {
		since = time.Time{}
		if r.watch.generation > s.before {
			since = s.changed
		}
	}
	switch last := arm.value[r.counter]; {
	case arm.known[r.counter] && r.value < last:
		arm.restarted = true
	case arm.known[r.counter] || now.Sub(since) > oneFlush:
		arm.change[r.counter] = r.value - last
	}
	arm.known[r.counter], arm.value[r.counter] = true, r.value
}

// unfinished is how many requests of an arm ended in this message without a sample of their time (envoy-measured.md §14): those that timed out, and those without an
// answer. Requests count as completed when their headers come, and their time when their body has come; so of long answers there are always some with the one and
// without the other. They have no 5xx, which those that are looked for have, unless they timed out amid the body.
func (a *armStats) unfinished(canary bool, sampled uint64) uint64 {
	all, bad, late := a.change[completed], a.change[failed], a.change[timedOut]
	if canary {
		all, bad, late = a.change[canaryCompleted], a.change[canaryFailed], a.change[canaryTimedOut]
	}
	silent := max(min(late, a.change[timeouts]+a.change[tryTimeouts]), min(bad, all-min(all, sampled)))
	return silent + a.change[timeouts] - min(a.change[timeouts], a.change[timedOut])
}
