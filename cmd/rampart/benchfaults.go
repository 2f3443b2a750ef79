package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// benchBad measures act 2: half of the answers fail, on a route that is not idempotent.
func benchBad(ctx context.Context, b *bench) error {
	for i := range b.runs {
		p := part{version: fmt.Sprintf("v%d", i+2), script: script{plan: quickly()}, at: quarter, inject: breakAtAnyMoment}
		f, err := b.stage.playPart(ctx, p)
		if err != nil {
			return err
		}
		if f.outcome != policy.RolledBack || f.lastAck.IsZero() || f.stamps.firstBad.IsZero() {
			return fmt.Errorf("run %d: %s was %s, not rolled back", i+1, f.release, orNothing(f.outcome))
		}
		b.note("onset → last bad answer", f.stamps.lastBad.Sub(f.stamps.firstBad))
		b.note("onset → last ACK of weight 0", f.lastAck.Sub(f.stamps.firstBad))
		b.note("onset → weight 0 in every /runtime", f.seenOff.Sub(f.stamps.firstBad))
		if err := b.cost(ctx, f, f.stamps.firstBad, f.stamps.bad); err != nil {
			return err
		}
		var m missed
		m.witnessed(f)
		if len(m) > 0 {
			return fmt.Errorf("run %d: %s", i+1, strings.Join(m, "; "))
		}
		b.burden.note(b.stage.app.now())
		b.stage.note("run %d of %d: last ACK after %s", i+1, b.runs, msText(between(f.stamps.firstBad, f.lastAck)))
	}
	return nil
}

// breakAtAnyMoment waits for a part of a second first: the step was confirmed in a turn of the leader, and trouble does not keep to its turns.
func breakAtAnyMoment(ctx context.Context, s *stage, f *findings) error {
	if err := sleepUntil(ctx, s.app.now().Add(rand.N(time.Second))); err != nil {
		return err
	}
	return breakCandidate(ctx, s, f)
}

// cost notes when the leader decided to take a release back, and what that had cost until nobody was sent to it any more.
func (b *bench) cost(ctx context.Context, f findings, onset time.Time, bad int64) error {
	records, err := b.stage.fleet.store.Rollbacks(ctx, demoService)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Release == f.release {
			b.note("onset → decision", r.At.Sub(onset))
			b.count("bad requests served", requests, bad)
			b.stage.note("%s", r.Reason)
			return nil
		}
	}
	return fmt.Errorf("nothing is recorded of the rollback of %s", f.release)
}

// fault is what happens to a candidate at a quarter of the traffic.
type fault struct {
	what     string
	usual    testenv.Behaviour // of both versions until then
	turns    testenv.Behaviour // what it does from then on
	analysis string            // in the document
}

// worseAnswers is a fault of which only the answers themselves tell.
func worseAnswers() fault {
	telling := func(mean float64) testenv.Behaviour { return testenv.Behaviour{Quality: &mean, Scatter: 0.3} }
	return fault{
		what: "a mean quality of 0.8 instead of 0.9", usual: telling(0.9), turns: telling(0.8),
		analysis: "{quality: [{orca: named_metrics.quality, better: higher, margin: 0.02}]}",
	}
}

// strike makes it happen, and waits for the end of the release.
func (c fault) strike(ctx context.Context, s *stage, f *findings) error {
	if err := sleepUntil(ctx, s.app.now().Add(rand.N(time.Second))); err != nil {
		return err
	}
	s.note("from now on %s has %s", f.version, c.what)
	f.injected = s.app.now()
	if err := s.candidate().behave(ctx, c.turns); err != nil {
		return err
	}
	return s.untilWithin(ctx, foundWithin, "the end of "+f.release, func(p picture) bool { return over(p, f.release) })
}

// foundWithin bounds how long a fault may take to be found.
const foundWithin = 5 * time.Minute

// onset is the first request that the fault hit, and how many it did.
func (c fault) onset(st stamps) (time.Time, int64) {
	if c.turns.Fail > 0 {
		return st.firstBad, st.bad
	}
	return st.firstOdd, st.odd
}

// benchFault measures how soon a fault is found, and what it costs.
func benchFault(c fault) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		s := b.stage
		s.fleet.usual = c.usual
		if err := s.fleet.sides[s.fleet.live].behave(ctx, c.usual); err != nil {
			return err
		}
		for i := range b.runs {
			p := part{version: fmt.Sprintf("v%d", i+2), script: script{plan: quickly(), analysis: c.analysis}, at: quarter, inject: c.strike}
			f, err := s.playPart(ctx, p)
			if err != nil {
				return err
			}
			onset, hit := c.onset(f.stamps)
			if f.outcome != policy.RolledBack || f.lastAck.IsZero() || onset.IsZero() {
				return fmt.Errorf("run %d: %s was %s, not rolled back for it", i+1, f.release, orNothing(f.outcome))
			}
			b.note("onset → last ACK of weight 0", f.lastAck.Sub(onset))
			if err := b.cost(ctx, f, onset, hit); err != nil {
				return err
			}
			b.burden.note(s.app.now())
			s.note("run %d of %d: last ACK after %s", i+1, b.runs, msText(between(onset, f.lastAck)))
		}
		return nil
	}
}

// burstyFor bounds how long a release may take where what both versions depend on fails again and again.
const burstyFor = 10 * time.Minute

// benchBursts releases versions that are no worse than what is live, by the default plan without its warm-up, while both fail in bursts at the same moments. All must
// be committed.
func benchBursts(ctx context.Context, b *bench) error {
	s := b.stage
	ctx, end := context.WithCancelCause(ctx)
	sides := make(chan [2]*side)
	var bursts sync.WaitGroup
	bursts.Go(func() { end(burst(ctx, sides)) })
	defer bursts.Wait()
	defer end(nil)
	committed, why := int64(0), []string{}
	for i := range b.runs {
		f, err := b.release(ctx, fmt.Sprintf("v%d", i+2), sides)
		if err != nil {
			return err
		}
		last, _ := s.now()
		if f.outcome == policy.Committed {
			committed++
			s.fleet.live = s.fleet.idle()
			b.note("document → commit", f.took)
		} else {
			why = append(why, fmt.Sprintf("run %d: %s", i+1, last.service.served.Last.Reason))
		}
		b.burden.note(s.app.now())
		s.note("run %d of %d: %s after %s; %d of %d requests failed", i+1, b.runs, orNothing(f.outcome), f.took.Round(time.Second), f.users.Failed, f.users.Requests)
	}
	b.count("committed", releases, committed)
	b.count("rolled back", releases, int64(len(why)))
	if len(why) > 0 {
		return fmt.Errorf("%d of %d good releases were taken back: %s", len(why), b.runs, strings.Join(why, "; "))
	}
	return nil
}

// release brings one release to its end, with bursts on both of its sides.
func (b *bench) release(ctx context.Context, version string, hit chan<- [2]*side) (findings, error) {
	s := b.stage
	f := findings{version: version}
	if err := s.fleet.deploy(ctx, s.fleet.idle(), version); err != nil {
		return f, err
	}
	if err := strike(ctx, hit, [2]*side{s.candidate(), s.fleet.sides[s.fleet.live]}); err != nil {
		return f, err
	}
	before, began := s.load.Totals(), s.app.now()
	if err := s.release(ctx, script{serve: s.fleet.idle(), plan: plan{evidence: true}}, &f); err != nil {
		return f, err
	}
	err := s.untilWithin(ctx, burstyFor, "the end of "+f.release, func(p picture) bool { return over(p, f.release) })
	err = errors.Join(err, strike(ctx, hit, [2]*side{}))
	f.took, f.users = s.app.now().Sub(began), s.load.Totals().Minus(before)
	if now, _ := s.now(); err == nil {
		f.outcome = now.service.served.Last.Result
	}
	return f, err
}

// strike tells burst whom to hit from now on.
func strike(ctx context.Context, hit chan<- [2]*side, both [2]*side) error {
	select {
	case hit <- both:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// burst makes a part of the requests to two sides fail now and then, for a moment and at the same time: a dozen of 300 a second, every fifteen seconds, which is a
// share of 0.3 %. It takes which sides, and nothing for nobody.
func burst(ctx context.Context, sides <-chan [2]*side) error {
	var both [2]*side
	for {
		select {
		case both = <-sides:
			continue
		case <-ctx.Done():
			return nil
		case <-time.After(10*time.Second + rand.N(10*time.Second)):
		}
		if both[0] == nil {
			continue
		}
		if err := failBoth(ctx, both, 0.1+0.2*rand.Float64()); err != nil {
			return err
		}
		if err := sleepUntil(ctx, time.Now().Add(100*time.Millisecond+rand.N(200*time.Millisecond))); err != nil {
			return nil
		}
		if err := failBoth(ctx, both, 0); err != nil {
			return err
		}
	}
}

// failBoth makes a share of the requests to both sides fail.
func failBoth(ctx context.Context, both [2]*side, share float64) error {
	var group errgroup.Group
	for _, s := range both {
		for _, m := range s.models {
			group.Go(func() error { return m.Fail(ctx, share) })
		}
	}
	return group.Wait()
}
