package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/testenv"
)

// benchFlags are what `rampart bench` was asked for.
type benchFlags struct {
	runs   int
	only   string
	output format
}

// newBench is hidden: it measures rampart, it does not use it. `make bench` runs it.
func newBench(a *app) *cobra.Command {
	f := benchFlags{}
	command := &cobra.Command{
		Use: "bench", Hidden: true, Short: "Measure rampart on real Envoys", Args: cobra.NoArgs,
		Long: "Bench measures, over many runs on a fleet like the demo's, how quickly releases that go bad in one way or another are taken back and what that costs,\n" +
			"what becomes of good ones when both versions fail in bursts, how quickly a change of weight is accepted, how long weights outlive a killed control\n" +
			"plane, and how soon a restarted one has the fleet again.",
		RunE: func(c *cobra.Command, _ []string) error { return a.bench(c.Context(), f) },
	}
	flags := command.Flags()
	flags.IntVar(&f.runs, "runs", 20, "runs of each measurement")
	flags.StringVar(&f.only, "only", "", "only this measurement: "+strings.Join(trialNames(), ", "))
	outputFlag(command, &f.output, asTable, asYAML, asJSON)
	return command
}

// trial is one measurement: what it runs on, and how it is run.
type trial struct {
	name    string
	rate    float64
	proxies int
	play    func(context.Context, *bench) error
}

func trials() []trial {
	return []trial{
		{"bad-300", 300, 3, benchBad},
		{"bad-50", 50, 3, benchBad},
		{"errors-5pp", 300, 3, benchFault(fault{what: "5 % more of its requests", turns: testenv.Behaviour{Fail: 0.05}})},
		{"slow-2x", 300, 3, benchFault(fault{what: "twice the time for all of its requests", turns: testenv.Behaviour{Slow: 2}})},
		{"slow-tail", 300, 3, benchFault(fault{what: "eight times the time for 2 % of its requests", turns: testenv.Behaviour{Tail: 0.02, TailSlow: 8}})},
		{"quality", 300, 3, benchFault(worseAnswers())},
		{"hang", 300, 3, benchFault(fault{what: "no answer to any of its requests", turns: testenv.Behaviour{Hang: 1}})},
		{"aa-bursts", 300, 3, benchBursts},
		{"put-3", 300, 3, benchPut},
		{"put-30", 300, 30, benchPut},
		{"deadman", 300, 3, benchDeadman},
		{"restart", 300, 3, benchRestart},
	}
}

func trialNames() []string {
	var names []string
	for _, t := range trials() {
		names = append(names, t.name)
	}
	return names
}

// bench measures the trials one after the other, each on a fleet of its own.
func (a *app) bench(ctx context.Context, f benchFlags) error {
	chosen := trials()
	if f.only != "" {
		chosen = slices.DeleteFunc(chosen, func(t trial) bool { return t.name != f.only })
	}
	if len(chosen) == 0 {
		return usage("bench: --only %s is none of %s", f.only, strings.Join(trialNames(), ", "))
	}
	if f.runs < 1 {
		return usage("bench: --runs %d is not above 0", f.runs)
	}
	if _, err := testenv.FindEnvoy(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	all, err := a.measureAll(ctx, chosen, f.runs)
	return errors.Join(a.tellBench(all, f.output), err)
}

// measureAll goes on after a trial that failed: the next one has a fleet of its own, and hours of measuring are not to be lost. Only an interrupt ends it.
func (a *app) measureAll(ctx context.Context, chosen []trial, runs int) ([]measured, error) {
	all, failed := []measured{}, error(nil)
	for _, t := range chosen {
		m, err := a.measure(ctx, t, runs)
		if ctx.Err() != nil {
			err = notHere("interrupted; nothing of it is left running")
		}
		if err != nil {
			m.Error = err.Error()
			failed = errors.Join(failed, fmt.Errorf("bench %s: %w", t.name, err))
		}
		all = append(all, m)
		if ctx.Err() != nil {
			break
		}
	}
	return all, failed
}

// measure runs one trial. What was measured before an error counts as well.
func (a *app) measure(ctx context.Context, t trial, runs int) (measured, error) {
	b := &bench{runs: runs}
	err := a.onStage(ctx, stageConfig{rate: t.rate, proxies: t.proxies, quiet: true}, func(ctx context.Context, s *stage) error {
		b.stage = s
		s.announce(fmt.Sprintf("%s: %d runs on %d Envoys at %g requests/s", t.name, runs, t.proxies, t.rate))
		b.burden.begin(s.fleet, a.now())
		return t.play(ctx, b)
	})
	return b.found(t.name), err
}

// tellBench prints the distributions.
func (a *app) tellBench(all []measured, output format) error {
	if output != asTable {
		return a.printValue(output, all)
	}
	a.printTable(distributions(all))
	a.say("")
	a.printTable(burdens(all))
	return nil
}
