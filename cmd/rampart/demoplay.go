package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// playAll plays acts one after the other in one fleet. An act that could not be played to its end is the last one: what follows would not begin as it must.
func (s *stage) playAll(ctx context.Context, acts []act) []result {
	var results []result
	for _, one := range acts {
		s.announce(fmt.Sprintf("Act %d. %s.", one.number, one.title))
		found, err := s.playAct(ctx, one)
		if ctx.Err() != nil {
			return results
		}
		r := resultOf(one, found, err)
		s.note("act %d: %s", r.Act, r.summary())
		results = append(results, r)
		if err != nil {
			break
		}
	}
	return results
}

func (s *stage) playAct(ctx context.Context, a act) ([]findings, error) {
	var all []findings
	for _, p := range a.parts {
		found, err := s.playPart(ctx, p)
		all = append(all, found)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// playPart deploys a version, asks for its release, lets go wrong what is to go wrong, and looks at what became of it.
func (s *stage) playPart(ctx context.Context, p part) (findings, error) {
	f := findings{version: p.version, lowest: policy.Full}
	backend := s.fleet.idle()
	if err := s.fleet.deploy(ctx, backend, p.version); err != nil {
		return f, err
	}
	before, began := s.load.Totals(), s.app.now()
	p.script.serve = backend
	if err := s.release(ctx, p.script, &f); err != nil {
		return f, err
	}
	err := s.climb(ctx, p, &f)
	f.took, f.users = s.app.now().Sub(began), s.load.Totals().Minus(before)
	f.failing = failingSince(began, s.load.Seconds(int(f.took.Seconds())+1))
	if err != nil {
		return f, err
	}
	err = s.account(ctx, &f)
	if f.outcome == policy.Committed {
		s.fleet.live = backend
	}
	return f, err
}

// failingSince lists the seconds in which requests failed.
func failingSince(began time.Time, seconds []testenv.Second) []time.Time {
	var failing []time.Time
	for _, one := range seconds {
		if one.Failed > 0 && one.Start.After(began) {
			failing = append(failing, one.Start)
		}
	}
	return failing
}

// release puts the document and waits until its release has begun.
func (s *stage) release(ctx context.Context, asked script, f *findings) error {
	s.note("the document asks for %s %s", asked.serve, f.version)
	if err := s.fleet.put(ctx, store.ServiceDoc, demoService, s.fleet.document(asked)); err != nil {
		return err
	}
	refused := ""
	err := s.until(ctx, "the release to begin", func(p picture) bool {
		if no := p.refusedDetails(); len(no) > 0 {
			refused = strings.Join(no, " ")
			return true
		}
		r := p.service.release()
		if r == nil || r.Candidate.Revision != f.version {
			return false
		}
		f.release = r.ID
		return true
	})
	if err == nil && refused != "" {
		err = fmt.Errorf("release %s: %s", f.version, refused)
	}
	return err
}

// climb follows a release to its end. Every weight that the server calls confirmed is compared with the Envoys' own /runtime.
func (s *stage) climb(ctx context.Context, p part, f *findings) error {
	weight := policy.Weight(0)
	injected := p.inject == nil
	for {
		err := s.until(ctx, "the next step of "+f.release, func(now picture) bool {
			return over(now, f.release) || confirmedAt(now, weight+1)
		})
		if err != nil {
			return err
		}
		now, _ := s.now()
		if over(now, f.release) {
			f.outcome = now.service.served.Last.Result
			return nil
		}
		weight = now.service.release().Weight
		if err := s.compare(ctx, weight, f); err != nil {
			return err
		}
		if !injected && weight >= p.at {
			injected = true
			if err := p.inject(ctx, s, f); err != nil {
				return err
			}
			weight = s.resumeFrom(f, weight)
		}
	}
}

// resumeFrom is the weight from which confirmed steps count as new after a fault: what is confirmed now, or nothing when the release has begun again.
func (s *stage) resumeFrom(f *findings, before policy.Weight) policy.Weight {
	if !f.beaten.IsZero() {
		return 0
	}
	now, _ := s.now()
	if r := now.service.release(); r != nil && r.Phase != policy.RollingBack {
		return max(before, r.Weight)
	}
	return before
}

// over reports whether a release is over.
func over(p picture, release string) bool {
	v := p.service.served
	return v != nil && v.Release == nil && v.Last != nil && v.Last.Release == release
}

// untilEnded waits for the end of the release.
func (s *stage) untilEnded(ctx context.Context, f *findings) error {
	return s.until(ctx, "the end of "+f.release, func(p picture) bool { return over(p, f.release) })
}

// compare notes when an Envoy does not route by a weight that is called confirmed. A step that ended while the Envoys were asked proves nothing.
func (s *stage) compare(ctx context.Context, weight policy.Weight, f *findings) error {
	same, err := s.allAt(ctx, weight)
	if err != nil || same {
		return err
	}
	fresh, err := readService(ctx, s.fleet.store, demoService)
	if err != nil {
		return err
	}
	if r := fresh.release(); r != nil && r.ID == f.release && r.Weight == weight && fresh.permits[r.ID] {
		f.mismatch = append(f.mismatch, weight.String())
	}
	return nil
}

// account reads what was written down about a release that is over: its history, and the stamps of its model servers.
func (s *stage) account(ctx context.Context, f *findings) error {
	lines, err := s.fleet.store.History(ctx, demoService, 500)
	if err != nil {
		return err
	}
	f.take(lines)
	// Killed model servers tell nothing; those that were asked before they got work again have told what counts.
	if f.stamps == (stamps{}) {
		f.stamps, _ = s.candidate().stamps(ctx)
	}
	return nil
}

// event is one decision about a release.
type event struct {
	at   time.Time
	name string
	text string
}

// take sorts out what the history says of the release. A line may tell of several events.
func (f *findings) take(lines []store.Line) {
	for _, l := range lines {
		if l.Release != f.release {
			continue
		}
		for piece := range strings.SplitSeq(l.Text, "; ") {
			f.note(l.Time, piece)
		}
		if ms := l.Numbers["lastAckUnixMs"]; ms > 0 {
			seconds, rest := math.Modf(ms / 1000)
			f.lastAck = time.Unix(int64(seconds), int64(rest*1e9))
		}
	}
}

// note takes one piece of a line. A reason may hold what divides pieces; what comes after that is no event.
func (f *findings) note(at time.Time, piece string) {
	name, text, _ := strings.Cut(piece, ": ")
	switch name {
	case "began", "moved", "confirmed", "restarted", "paused", "committing", "committed", "rolled back":
	case "rolling back":
		f.decided = at
	default:
		return
	}
	f.events = append(f.events, event{at, name, text})
}

// heartbeatsSent asks rampart's own metrics how many messages have fed the dead-man's switches so far: heartbeats, and layers sent whole.
func (s *stage) heartbeatsSent(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(s.fleet.ports.http)+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("read rampart's metrics: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	total := 0.0
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == "rampart_xds_heartbeats_total" || name == `rampart_xds_responses_total{type="Runtime"}` {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("read rampart's metrics: %s: %w", filepath.Base(name), err)
			}
			total += n
		}
	}
	return total, lines.Err()
}

// nextHeartbeat waits for a heartbeat and returns a moment just before it: when it was last seen not to have been sent.
func (s *stage) nextHeartbeat(ctx context.Context) (time.Time, error) {
	first, err := s.heartbeatsSent(ctx)
	if err != nil {
		return time.Time{}, err
	}
	wait, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	tick := time.NewTicker(lookEvery / 2)
	defer tick.Stop()
	for before := s.app.now(); ; {
		asked := s.app.now()
		sent, err := s.heartbeatsSent(wait)
		if err != nil {
			return before, err
		}
		if sent > first {
			return before, nil
		}
		before = asked
		select {
		case <-tick.C:
		case <-wait.Done():
			return before, fmt.Errorf("wait for a heartbeat: %w", wait.Err())
		}
	}
}
