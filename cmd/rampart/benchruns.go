package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
)

// bench is one trial under way. It is owned by the goroutine that plays.
type bench struct {
	stage   *stage
	runs    int
	samples []sample
	failed  int64 // requests that failed although nothing but the control plane was touched
	burden  burden
}

// note adds one time to what is measured under a name.
func (b *bench) note(what string, took time.Duration) {
	b.samples = append(b.samples, sample{what, milliseconds, float64(took.Microseconds()) / 1000})
}

// count does the same with a number of something.
func (b *bench) count(what string, of unit, n int64) {
	b.samples = append(b.samples, sample{what, of, float64(n)})
}

// quickly is a plan that goes to 25 % at once and stays there.
func quickly() plan { return plan{steps: "25%, 100%", soak: time.Hour, bake: time.Hour} }

// begin brings a release to a plan's first weight without waiting for anything that is not measured.
func (b *bench) begin(ctx context.Context, p plan) (findings, error) {
	s := b.stage
	f := findings{version: "v2"}
	if err := s.fleet.deploy(ctx, s.fleet.idle(), f.version); err != nil {
		return f, err
	}
	if err := s.release(ctx, script{serve: s.fleet.idle(), plan: p}, &f); err != nil {
		return f, err
	}
	return f, b.advance(ctx, 0)
}

// advance orders the next step and waits until it is confirmed.
func (b *bench) advance(ctx context.Context, from policy.Weight) error {
	if err := b.stage.fleet.store.PutOrder(ctx, demoService, string(policy.Advance)); err != nil {
		return err
	}
	return b.stage.until(ctx, "the next step", func(p picture) bool { return confirmedAt(p, from+1) })
}

// benchPut measures from an operator's put into etcd, the order of the next step, to the last Envoy's ACK of the new weight.
func benchPut(ctx context.Context, b *bench) error {
	steps := make([]string, b.runs+1)
	for i := range steps {
		steps[i] = policy.Weight((i + 1) * int(half) / len(steps)).String()
	}
	plan := plan{steps: strings.ReplaceAll(strings.Join(steps, ", "), " %", "%"), soak: time.Hour, bake: time.Hour}
	if _, err := b.begin(ctx, plan); err != nil {
		return err
	}
	s := b.stage
	for i := range b.runs {
		now, _ := s.now()
		put := s.app.now()
		if err := b.advance(ctx, now.service.release().Weight); err != nil {
			return err
		}
		var acked time.Time
		err := s.until(ctx, "the last ACK", func(p picture) bool {
			acked = p.fleet.LastAck
			return p.fleet.Confirmed == len(s.fleet.envoys) && acked.After(put)
		})
		if err != nil {
			return err
		}
		b.note(fmt.Sprintf("etcd put → last ACK of %d", len(s.fleet.envoys)), acked.Sub(put))
		b.burden.note(s.app.now())
		s.note("run %d of %d: %s", i+1, b.runs, msText(between(put, acked)))
	}
	return nil
}

// benchDeadman measures how long a candidate still gets requests after the control plane was killed, at any moment between two heartbeats.
func benchDeadman(ctx context.Context, b *bench) error {
	if _, err := b.begin(ctx, quickly()); err != nil {
		return err
	}
	s := b.stage
	for i := range b.runs {
		before := s.load.Totals()
		b.burden.note(s.app.now())
		killed := s.app.now()
		if err := s.fleet.killServer(); err != nil {
			return err
		}
		if err := b.untilFallen(ctx, killed); err != nil {
			return err
		}
		st, err := s.candidate().stamps(ctx)
		if err != nil {
			return err
		}
		b.note("control plane killed → last green request", st.lastAsked.Sub(killed))
		s.note("run %d of %d: %s", i+1, b.runs, msText(between(killed, st.lastAsked)))
		if err := b.comeBack(ctx); err != nil {
			return err
		}
		b.failed += s.load.Totals().Minus(before).Failed
	}
	return nil
}

// untilFallen waits until every Envoy is back on live and the last request that was on its way has come.
func (b *bench) untilFallen(ctx context.Context, killed time.Time) error {
	wait, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	if err := testenv.Eventually(wait, func() (bool, error) { return b.stage.fallen(wait) }); err != nil {
		return err
	}
	return sleepUntil(ctx, killed.Add(demoDeadman+time.Second))
}

// comeBack starts the control plane again and brings the release, which begins again, to its first weight.
func (b *bench) comeBack(ctx context.Context) error {
	s := b.stage
	if err := s.fleet.serve(ctx); err != nil {
		return err
	}
	b.burden.begin(s.fleet, s.app.now())
	err := s.until(ctx, "the release to begin again", func(p picture) bool {
		r := p.service.release()
		return r != nil && r.Weight == 0
	})
	if err != nil {
		return err
	}
	return b.advance(ctx, 0)
}

// benchRestart measures from the start of a killed control plane, with its etcd, to the last Envoy's ACK of the weights it had.
func benchRestart(ctx context.Context, b *bench) error {
	f, err := b.begin(ctx, quickly())
	if err != nil {
		return err
	}
	s := b.stage
	for i := range b.runs {
		before := s.load.Totals()
		b.burden.note(s.app.now())
		l := s.lookOut(ctx)
		if err := s.fleet.killServer(); err != nil {
			l.stop()
			return err
		}
		began := s.app.now()
		acked, err := b.restart(ctx, &f, began)
		l.stop()
		if err != nil {
			return err
		}
		if least := lowest(l.sightings()); least < quarter {
			return fmt.Errorf("run %d: an Envoy fell to %s within the dead-man's time", i+1, weightText(least))
		}
		b.note("restart → weights confirmed again", acked.Sub(began))
		s.note("run %d of %d: %s", i+1, b.runs, msText(between(began, acked)))
		b.failed += s.load.Totals().Minus(before).Failed
	}
	return nil
}

func (b *bench) restart(ctx context.Context, f *findings, began time.Time) (time.Time, error) {
	if err := b.stage.fleet.serve(ctx); err != nil {
		return time.Time{}, err
	}
	b.burden.begin(b.stage.fleet, began)
	acked, err := b.stage.untilHeldAgain(ctx, f, began)
	now, _ := b.stage.now()
	if r := now.service.release(); err == nil && (r == nil || r.ID != f.release || r.Weight != quarter) {
		err = errors.New("the release did not go on: " + now.said())
	}
	return acked, err
}
