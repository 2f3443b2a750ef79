package xdsbench

import (
	"context"
	"time"
)

const (
	warmUp  = 3
	lowest  = 200 // weights of steps go up from it
	highest = 4900
)

// stepping measures the steps of one server, whose fleet is connected.
type stepping struct {
	*bench
	side *Side

	began, ended time.Time
	first, last  time.Duration // CPU that the server had used then
	inSteps      time.Duration // CPU of the server in the steps
	own          time.Duration // CPU of the simulator in them
	during       time.Duration // how long they took
}

// inTurn measures so many steps of each server: one of each in turn, so that what else the machine does meets all alike, and each when the server has had time to come
// to rest after the one before.
func inTurn(ctx context.Context, steps int, servers ...*stepping) error {
	err := each(servers, func(s *stepping) error { return s.warmUp(ctx) })
	if err != nil {
		return err
	}
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	if err := each(servers, (*stepping).begin); err != nil {
		return err
	}
	for i := range steps {
		if err := each(servers, func(s *stepping) error { return s.next(ctx, i, steps) }); err != nil {
			return err
		}
	}
	if err := each(servers, (*stepping).end); err != nil {
		return err
	}
	return each(servers, func(s *stepping) error { return s.count(ctx, steps) })
}

func each(servers []*stepping, do func(*stepping) error) error {
	for _, s := range servers {
		if err := do(s); err != nil {
			return err
		}
	}
	return nil
}

func (s *stepping) warmUp(ctx context.Context) error {
	for i := range warmUp {
		if _, _, err := s.step(ctx, lowest+i); err != nil {
			return err
		}
	}
	return nil
}

func (s *stepping) begin() (err error) {
	s.began = time.Now()
	s.first, err = cpuOf(s.of.pid())
	return err
}

func (s *stepping) next(ctx context.Context, nth, steps int) error {
	before, err := cpuOf(s.of.pid())
	if err != nil {
		return err
	}
	own, began := ownCPU(), time.Now()
	_, took, err := s.step(ctx, lowest+warmUp+nth%(highest-lowest))
	if err != nil {
		return err
	}
	if err := sleep(ctx, tail); err != nil {
		return err
	}
	after, err := cpuOf(s.of.pid())
	if err != nil {
		return err
	}
	s.inSteps, s.during, s.own = s.inSteps+after-before, s.during+time.Since(began), s.own+ownCPU()-own
	s.side.Steps = append(s.side.Steps, took)
	s.tell("%s: step %d of %d: %s", s.of.name, nth+1, steps, round(took))
	return sleep(ctx, s.Pause)
}

func (s *stepping) end() (err error) {
	s.ended = time.Now()
	s.last, err = cpuOf(s.of.pid())
	return err
}

// count says what a step cost, less what the server uses in the same time at rest.
func (s *stepping) count(ctx context.Context, steps int) error {
	// Steps come more often than heartbeats, so what is subtracted must be free of them, too.
	quiet, err := s.idle(ctx, min(betweenBeats, s.Idle))
	if err != nil {
		return err
	}
	if s.side.Idle, err = s.idle(ctx, s.Idle); err != nil {
		return err
	}
	quiet = min(quiet, s.side.Idle) // in the first seconds a server may still be busy with the last step
	per := float64(s.n * steps)
	s.side.StepCPU = time.Duration((float64(s.inSteps) - quiet*float64(s.during)) / per)
	s.side.SpanCPU = time.Duration((float64(s.last-s.first) - quiet*float64(s.ended.Sub(s.began))) / per)
	s.side.StepSim = time.Duration(float64(s.own) / per)
	return nil
}

// betweenBeats is less than the time from a step to the heartbeat after it, a third of the dead-man's time.
const betweenBeats = 3 * time.Second

// idle is the share of a core that the server uses at rest.
func (b *bench) idle(ctx context.Context, over time.Duration) (float64, error) {
	before, err := cpuOf(b.of.pid())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := sleep(ctx, over); err != nil {
		return 0, err
	}
	after, err := cpuOf(b.of.pid())
	return float64(after-before) / float64(time.Since(began)), err
}
