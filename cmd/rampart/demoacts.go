package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// act is a story in one or more parts, each of them a release, with what is promised of it.
type act struct {
	number  int
	title   string
	promise string
	parts   []part
	// judge says what was not kept; nothing is good. It goes by the findings alone.
	judge func([]findings) []string
	// tell says in a few words what was measured.
	tell func([]findings) string
}

// part is one release: what is asked for, and what goes wrong with it once the proxies have confirmed a weight.
type part struct {
	version string // of the candidate
	script  script // its serve is filled when it is played: the backend that is not live
	at      policy.Weight
	inject  func(context.Context, *stage, *findings) error // nil: nothing goes wrong
}

// findings are what was found out about one part.
type findings struct {
	version string        // the candidate's
	release string        // its id
	outcome policy.Result // how it ended
	took    time.Duration // from the put of the document to the end
	users   testenv.Totals
	failing []time.Time // the seconds in which requests failed
	events  []event     // of the release, in order

	injected time.Time // when the fault began, by the demo's clock; zero: none
	stamps   stamps    // of the candidate's model servers
	decided  time.Time // when the leader noted the rollback
	lastAck  time.Time // of weight 0, stamped in the server
	seenOn   time.Time // the last moment at which an Envoy was asked that still had the weight
	seenOff  time.Time // by then all Envoys had said that they have it no more

	beaten    time.Time     // the last heartbeat before the control plane was killed
	strays    int64         // requests to the candidate from the restart of a dead control plane to the new beginning of the release
	mended    time.Time     // when the shared outage was over
	lowest    policy.Weight // the least weight that an Envoy had while the control plane was down and came back
	mismatch  []string      // Envoys that did not route by a weight that the server called confirmed
	restarted time.Duration // how long the control plane took until all Envoys had confirmed again
}

const (
	demoSteps = "1%, 5%, 25%, 50%, 100%"
	quarter   = policy.Full / 4
	half      = policy.Full / 2

	outageLasts = 8 * time.Second
)

func demoPlan() plan { return plan{steps: demoSteps, soak: 3 * time.Second, bake: 5 * time.Second} }

// demoActs are the five acts. Each begins with a steady service and a new version, so that each can be played alone.
func demoActs() []act {
	safe := script{idempotent: true, plan: demoPlan()}
	plain := script{plan: demoPlan()}
	return []act{
		{
			number: 1, title: "A good release", promise: "each step confirmed by every Envoy, committed in under 60 s, 0 failed requests",
			parts: []part{{version: "v2", script: plain}}, judge: judgeGood, tell: tellGood,
		},
		{
			number: 2, title: "A bad release: half of its answers fail at 25 %", promise: "from the first bad answer to the last Envoy's ACK of weight 0 ≤ 2 s",
			parts: []part{{version: "v3", script: plain, at: quarter, inject: breakCandidate}}, judge: judgeBad, tell: tellBad,
		},
		{
			number: 3, title: "A dead release: all of its processes are killed at 50 %", promise: "0 failed requests, rolled back within 5 s",
			parts: []part{{version: "v4", script: safe, at: half, inject: killCandidate}}, judge: judgeDead, tell: tellDead,
		},
		{
			number: 4, title: "A dead control plane: rampart and its etcd are killed at 25 %",
			promise: "back within 3 s: nobody notices; later: nothing to the candidate beyond the dead-man's 3 s + 0.5 s, then again from the first step; 0 failed requests",
			parts: []part{
				{version: "v5", script: plain, at: quarter, inject: killBriefly},
				{version: "v6", script: plain, at: quarter, inject: killLong},
			},
			judge: judgeControl, tell: tellControl,
		},
		{
			number: 5, title: "A shared outage: both versions fail alike", promise: "the ramp holds, nothing is rolled back, it goes on afterwards",
			parts: []part{{version: "v7", script: plain, at: quarter, inject: breakBoth}}, judge: judgeShared, tell: tellShared,
		},
	}
}

// breakCandidate makes half of the candidate's answers fail and watches what the Envoys route by until the release is over.
func breakCandidate(ctx context.Context, s *stage, f *findings) error {
	l := s.lookOut(ctx)
	defer l.stop()
	s.note("%s begins to fail half of its requests", f.version)
	f.injected = s.app.now()
	if err := s.candidate().fail(ctx, 0.5); err != nil {
		return err
	}
	if err := s.untilEnded(ctx, f); err != nil {
		return err
	}
	// The Envoys' own pages have the last word, so they are asked until all of them say so.
	wait, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	err := testenv.Eventually(wait, func() (bool, error) {
		f.seenOn, f.seenOff = off(l.sightings())
		return !f.seenOff.IsZero(), nil
	})
	return err
}

// killCandidate ends all of the candidate's processes at once.
func killCandidate(_ context.Context, s *stage, f *findings) error {
	s.note("all processes of %s are killed", f.version)
	f.injected = s.app.now()
	return s.candidate().kill()
}

// killBriefly kills the control plane and starts it again at once. It returns when the dead-man's time is over and the release has gone on.
func killBriefly(ctx context.Context, s *stage, f *findings) error {
	l := s.lookOut(ctx)
	defer l.stop()
	s.note("rampart and its etcd are killed, and started again at once")
	f.injected = s.app.now()
	if err := s.fleet.killServer(); err != nil {
		return err
	}
	began := s.app.now()
	if err := s.fleet.serve(ctx); err != nil {
		return err
	}
	acked, err := s.untilHeldAgain(ctx, f, began)
	if err != nil {
		return err
	}
	f.restarted = acked.Sub(began)
	s.note("all Envoys have confirmed again, %s after the start", f.restarted.Round(time.Millisecond))
	// Only when the dead-man's time has passed has it been shown that nothing was missed.
	passed := f.injected.Add(demoDeadman + time.Second)
	err = s.until(ctx, "the release to go on", func(p picture) bool { return confirmedAt(p, half) || p.service.release() == nil })
	if err == nil {
		err = sleepUntil(ctx, passed)
	}
	f.lowest = lowest(l.sightings())
	return err
}

// untilHeldAgain waits for the report of a server started at began that all its proxies have confirmed the running release, and returns when the last did.
func (s *stage) untilHeldAgain(ctx context.Context, f *findings, began time.Time) (time.Time, error) {
	var acked time.Time
	err := s.until(ctx, "all Envoys to have confirmed again", func(p picture) bool {
		acked = p.fleet.LastAck
		return p.reported && p.fleet.Connected == len(s.fleet.envoys) && p.fleet.Confirmed == p.fleet.Connected && acked.After(began)
	})
	if err != nil {
		return acked, fmt.Errorf("after the restart within %s: %w", f.release, err)
	}
	return acked, nil
}

// killLong kills the control plane right after a heartbeat, when its weights live longest, and starts it again after they have died.
func killLong(ctx context.Context, s *stage, f *findings) error {
	beaten, err := s.nextHeartbeat(ctx)
	if err != nil {
		return err
	}
	f.beaten, f.injected = beaten, s.app.now()
	if err := s.fleet.killServer(); err != nil {
		return err
	}
	s.note("rampart and its etcd are killed")
	wait, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	if err := testenv.Eventually(wait, func() (bool, error) { return s.fallen(wait) }); err != nil {
		return fmt.Errorf("wait for the dead-man's switch: %w", err)
	}
	s.note("the Envoys are back on live by themselves, %.2f s after the last heartbeat", s.app.now().Sub(beaten).Seconds())
	// Whoever still asked the candidate after the promised time must have been able to.
	if err := sleepUntil(ctx, beaten.Add(demoDeadman+2*time.Second)); err != nil {
		return err
	}
	if f.stamps, err = s.candidate().stamps(ctx); err != nil {
		return err
	}
	s.note("rampart is started again")
	if err := s.fleet.serve(ctx); err != nil {
		return err
	}
	return s.untilBegunAgain(ctx, f)
}

// untilBegunAgain waits until a release whose weights have died is back at its beginning, and counts what the candidate was asked until then: a control plane
// that comes back must not hand out the weight that it finds in etcd.
func (s *stage) untilBegunAgain(ctx context.Context, f *findings) error {
	err := s.until(ctx, "the release to begin again", func(p picture) bool {
		// What was confirmed before the death must not be taken for what is confirmed now.
		r := p.service.release()
		return r == nil || r.Weight < quarter
	})
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	// Live is observed for 10 s before the first step, so that all of this lies before the first request that is meant to be.
	if err := testenv.Eventually(wait, func() (bool, error) { return s.unweighted(wait) }); err != nil {
		return fmt.Errorf("wait for the Envoys to have no weight for %s: %w", f.version, err)
	}
	again, err := s.candidate().stamps(ctx)
	f.strays = again.answered - f.stamps.answered
	return err
}

// breakBoth makes both versions fail alike for a while.
func breakBoth(ctx context.Context, s *stage, f *findings) error {
	s.note("what both versions depend on fails half of the time")
	f.injected = s.app.now()
	if err := s.both(ctx, 0.5); err != nil {
		return err
	}
	if err := sleepUntil(ctx, f.injected.Add(outageLasts)); err != nil {
		return err
	}
	err := s.both(ctx, 0)
	f.mended = s.app.now()
	s.note("it is mended")
	return err
}

func (s *stage) both(ctx context.Context, share float64) error {
	return errors.Join(s.candidate().fail(ctx, share), s.fleet.sides[s.fleet.live].fail(ctx, share))
}

// candidate is the side that a release is about.
func (s *stage) candidate() *side { return s.fleet.sides[s.fleet.idle()] }

// sleepUntil waits for a moment: where time itself is what is shown, there is no other condition.
func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
