package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// lookEvery is how often a lookout looks at each Envoy: fine against what is promised, and nothing an Envoy notices.
const lookEvery = 20 * time.Millisecond

// noKey is a weight that an Envoy's runtime does not have: it routes by its base, which is all on live.
const noKey policy.Weight = -1

// sighting is what one Envoy's /runtime said of the candidate's weight between two moments.
type sighting struct {
	asked, answered time.Time
	weight          policy.Weight
}

// lookout watches the Envoys' own /runtime: what they really route by, whatever anybody else says.
type lookout struct {
	envoys []*testenv.Envoy // fixed from the start
	key    string           // fixed from the start: the candidate arm's runtime key
	now    func() time.Time // fixed from the start
	end    context.CancelFunc
	ended  sync.WaitGroup

	mu   sync.Mutex
	seen map[string][]sighting // guarded by mu: by Envoy, in order
}

// rampKey is the runtime key of a candidate's arm.
func rampKey(candidate, live string) string {
	return envoy.RuntimePrefix(demoService) + "." + envoy.CandidateArm(demoService, candidate, live)
}

// lookOut starts to watch; stop ends it.
func (s *stage) lookOut(ctx context.Context) *lookout {
	l := &lookout{envoys: s.fleet.envoys, key: rampKey(s.fleet.idle(), s.fleet.live), now: s.app.now, seen: map[string][]sighting{}}
	ctx, l.end = context.WithCancel(ctx)
	for _, e := range l.envoys {
		l.ended.Go(func() { l.watch(ctx, e) })
	}
	return l
}

func (l *lookout) stop() {
	l.end()
	l.ended.Wait()
}

func (l *lookout) watch(ctx context.Context, e *testenv.Envoy) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		// An Envoy that does not answer for once is asked again.
		if one, err := look(ctx, e, l.key, l.now); err == nil {
			l.mu.Lock()
			l.seen[e.ID] = append(l.seen[e.ID], one)
			l.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks one Envoy once.
func look(ctx context.Context, e *testenv.Envoy, key string, now func() time.Time) (sighting, error) {
	one := sighting{asked: now(), weight: noKey}
	values, err := e.Runtime(ctx)
	if err != nil {
		return one, err
	}
	one.answered = now()
	if n, err := strconv.Atoi(values[key]); err == nil {
		one.weight = policy.Weight(n)
	}
	return one, nil
}

// sightings returns what has been seen so far, by Envoy.
func (l *lookout) sightings() map[string][]sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[string][]sighting, len(l.seen))
	for id, all := range l.seen {
		seen[id] = all[:len(all):len(all)]
	}
	return seen
}

// off is when the Envoys were seen to have taken the candidate's weight away: the last moment at which one was asked that still had it, and the first moment by
// which all had answered that they had not. Both are zero when one was never seen without it.
func off(seen map[string][]sighting) (last, all time.Time) {
	for _, one := range seen {
		var on, gone time.Time
		for _, s := range one {
			if s.weight > 0 {
				on, gone = s.asked, time.Time{}
			} else if gone.IsZero() {
				gone = s.answered
			}
		}
		if gone.IsZero() {
			return time.Time{}, time.Time{}
		}
		last, all = latest(last, on), latest(all, gone)
	}
	return last, all
}

// lowest is the least weight that was seen anywhere; noKey if one Envoy once had none.
func lowest(seen map[string][]sighting) policy.Weight {
	least := policy.Full
	for _, one := range seen {
		for _, s := range one {
			least = min(least, s.weight)
		}
	}
	return least
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fallen reports whether every Envoy routes by its base again, without any weight for the candidate.
func (s *stage) fallen(ctx context.Context) (bool, error) {
	return s.allAt(ctx, noKey)
}

// allAt reports whether every Envoy has this weight for the candidate.
func (s *stage) allAt(ctx context.Context, weight policy.Weight) (bool, error) {
	return s.everyWeight(ctx, func(w policy.Weight) bool { return w == weight })
}

// unweighted reports whether no Envoy sends requests to the candidate, be it by its base or by a weight of 0.
func (s *stage) unweighted(ctx context.Context) (bool, error) {
	return s.everyWeight(ctx, func(w policy.Weight) bool { return w <= 0 })
}

// everyWeight reports whether the candidate's weight in every Envoy is as wanted.
func (s *stage) everyWeight(ctx context.Context, wanted func(policy.Weight) bool) (bool, error) {
	key := rampKey(s.fleet.idle(), s.fleet.live)
	for _, e := range s.fleet.envoys {
		one, err := look(ctx, e, key, s.app.now)
		if err != nil || !wanted(one.weight) {
			return false, err
		}
	}
	return true, nil
}
