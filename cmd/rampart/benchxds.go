package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/testenv/limit"
	"github.com/rampart-proxy/rampart/testenv/xdsbench"
)

// benchXdsFlags are what `rampart bench-xds` was asked for.
type benchXdsFlags struct {
	xdsbench.Config
	output format
}

// newBenchXds is hidden: it measures rampart, it does not use it. `make bench-xds` runs it.
func newBenchXds(a *app) *cobra.Command {
	f := benchXdsFlags{}
	command := &cobra.Command{
		Use: "bench-xds", Hidden: true, Short: "Measure rampart on simulated fleets", Args: cobra.NoArgs,
		Long: "Bench-xds measures what connecting a fleet, holding it and one step cost rampart, beside the best server over grpc-go in the same run: see docs/xds.md.",
		RunE: func(c *cobra.Command, _ []string) error { return a.benchXds(c.Context(), f) },
	}
	flags := command.Flags()
	flags.IntSliceVar(&f.Services, "services", []int{10, 1000, 10000}, "services in the world; several are measured one after the other")
	flags.IntSliceVar(&f.Proxies, "proxies", []int{1000, 5000}, "proxies of a fleet; several are measured in each world")
	flags.IntVar(&f.Steps, "steps", 30, "steps in each cell")
	flags.IntVar(&f.Latency, "latency", 200, "steps of the first fleet in each world, for the p99 of their times")
	flags.IntVar(&f.Connects, "connects", 9, "how often a whole fleet connects to each server; less often, but three times, when that takes longer than three minutes")
	flags.IntVar(&f.Envoys, "envoys", 0, "instead of all that: how long steps take to so many real Envoys")
	flags.IntVar(&f.Endpoints, "churn", 0, "instead of all that: what it costs the first fleet in the first world that a backend of so many endpoints changes 100 times a second")
	flags.DurationVar(&f.Rest, "rest", 30*time.Second, "from the last proxy connected until memory is read")
	flags.DurationVar(&f.Pause, "pause", 100*time.Millisecond, "between two steps")
	flags.DurationVar(&f.Idle, "idle", 6*time.Second, "over which the use at rest is told")
	outputFlag(command, &f.output, asTable, asYAML, asJSON)
	return command
}

// newLimit is the body of the process that rampart is measured beside.
func newLimit(*app) *cobra.Command {
	return &cobra.Command{
		Use: xdsbench.RoleLimit, Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error { return limit.Main(c.Context(), args) },
	}
}

// problem is what is wrong with the figures asked for, "" for nothing.
func (f benchXdsFlags) problem() string {
	for _, flag := range []struct {
		name      string
		is, least int
	}{
		{"services", slices.Min(f.Services), 1}, {"proxies", slices.Min(f.Proxies), 1}, {"steps", f.Steps, 1}, {"connects", f.Connects, 1},
		{"latency", f.Latency, 0}, {"envoys", f.Envoys, 0}, {"churn", f.Endpoints, 0},
	} {
		if flag.is < flag.least {
			return fmt.Sprintf("--%s %d: expected %d or more", flag.name, flag.is, flag.least)
		}
	}
	switch {
	case min(f.Rest, f.Pause, f.Idle) < 0:
		return fmt.Sprintf("--rest %s, --pause %s, --idle %s: expected 0s or more", f.Rest, f.Pause, f.Idle)
	case f.Envoys > 0 && f.Endpoints > 0:
		return "--envoys and --churn are measured one at a time"
	}
	return ""
}

// benchXds keeps the processes' logs only of what went wrong.
func (a *app) benchXds(ctx context.Context, f benchXdsFlags) error {
	if problem := f.problem(); problem != "" {
		return usage("bench-xds: %s", problem)
	}
	self, err := testenv.Self()
	if err != nil {
		return fmt.Errorf("bench-xds: %w", err)
	}
	folder, err := os.MkdirTemp("", "rampart-bench-xds-")
	if err != nil {
		return fmt.Errorf("bench-xds: %w", err)
	}
	f.Self, f.Folder, f.Tell = self.Path, folder, func(format string, args ...any) { a.complain(fmt.Sprintf(format, args...)) }
	err = a.measureXds(ctx, f)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("bench-xds: %w; logs are in %s", err, folder)
	}
	if gone := os.RemoveAll(folder); err == nil {
		return gone
	}
	return notHere("bench-xds: interrupted; nothing of it is left running")
}

// measureXds measures what was asked for and tells it; of an interrupted series, what was measured until then.
func (a *app) measureXds(ctx context.Context, f benchXdsFlags) error {
	switch {
	case f.Envoys > 0:
		real, err := xdsbench.RunReal(ctx, f.Config)
		if err != nil {
			return err
		}
		return a.tellReal(real, f.output)
	case f.Endpoints > 0:
		churn, err := xdsbench.RunChurn(ctx, f.Config)
		if err != nil {
			return err
		}
		return a.tellChurn(churn, f.output)
	}
	cells := []xdsbench.Cell{}
	err := xdsbench.Run(ctx, f.Config, func(c xdsbench.Cell) { cells = append(cells, c) })
	return errors.Join(a.tellXds(cells, f.output), err)
}

// tellXds prints what was measured.
func (a *app) tellXds(cells []xdsbench.Cell, output format) error {
	if output != asTable {
		return a.printValue(output, cells)
	}
	if len(cells) == 0 {
		return nil
	}
	for i, t := range []table{costs(cells), times(cells), returns(cells)} {
		if i > 0 {
			a.say("")
		}
		a.printTable(t)
	}
	for _, c := range cells {
		if !c.InTurn {
			a.say("S = %d, N = %d: the limit's steps were made after all of rampart's: this process may not have so many connections at once (ulimit -n)", c.Services, c.Proxies)
		}
		for _, problem := range c.Problems {
			a.say("S = %d, N = %d: %s", c.Services, c.Proxies, problem)
		}
	}
	return nil
}

// tellReal prints how long steps took to real Envoys.
func (a *app) tellReal(real xdsbench.Real, output format) error {
	if output != asTable {
		return a.printValue(output, real)
	}
	sorted := slices.Sorted(slices.Values(real.Steps))
	a.printTable(table{
		{"S", "REAL ENVOYS", "LOAD", "STEPS", "p50 ms", "p99 ms", "MAX"},
		{fmt.Sprint(real.Services), fmt.Sprint(real.Envoys), real.Load, fmt.Sprint(len(sorted)), millis(of(sorted, 0.5)), millis(of(sorted, 0.99)), millis(of(sorted, 1))},
	})
	return nil
}

// tellChurn prints what endpoints that change all the time cost.
func (a *app) tellChurn(c xdsbench.Churn, output format) error {
	if output != asTable {
		return a.printValue(output, c)
	}
	a.printTable(table{
		{"S", "N", "ENDPOINTS", "LOAD", "PUTS/s", "RESPONSES A PROXY/s", "KiB A PROXY/s", "CPU ms A PUT", "BEHIND ms"},
		{
			fmt.Sprint(c.Services), fmt.Sprint(c.Proxies), fmt.Sprint(c.Endpoints), c.Load, fmt.Sprintf("%.0f", float64(c.Puts)/c.Took.Seconds()),
			fmt.Sprintf("%.1f", c.Responses*float64(c.Puts)/c.Took.Seconds()), fmt.Sprintf("%.0f", float64(c.Bytes)*float64(c.Puts)/c.Took.Seconds()/1024), millis(c.CPU), millis(c.Behind),
		},
	})
	return nil
}

// costs are what a proxy costs the server: each with the limit's in the same run, and the ratio.
func costs(cells []xdsbench.Cell) table {
	t := table{{"S", "N", "LOAD", "STEP µs", "LIMIT", "RATIO", "WHOLE SPAN", "LIMIT", "RATIO", "CONNECT µs", "LIMIT", "RATIO", "FIRST", "KiB AT REST", "LIMIT", "PEAK", "IDLE", "SIMULATOR µs"}}
	for _, c := range cells {
		r, l := c.Rampart, c.Limit
		connect, limit := r.Connect().CPU, l.Connect().CPU
		t = append(t, []string{
			fmt.Sprint(c.Services), fmt.Sprint(c.Proxies), c.Load,
			micros(r.StepCPU), micros(l.StepCPU), timesThe(r.StepCPU, l.StepCPU), micros(r.SpanCPU), micros(l.SpanCPU), timesThe(r.SpanCPU, l.SpanCPU),
			micros(connect), micros(limit), timesThe(connect, limit), timesThe(firstConnect(r), firstConnect(l)),
			fmt.Sprintf("%.1f", float64(r.Settled)/1024), fmt.Sprintf("%.1f", float64(l.Settled)/1024), fmt.Sprintf("%.1f", float64(r.Peak)/1024),
			fmt.Sprintf("%.2f %%", 100*r.Idle), micros(r.StepSim),
		})
	}
	return t
}

// firstConnect is what the first fleet's connecting cost, 0 if none came up.
func firstConnect(s xdsbench.Side) time.Duration {
	if len(s.Connects) == 0 {
		return 0
	}
	return s.Connects[0].CPU
}

// times are from the put to the last ACK.
func times(cells []xdsbench.Cell) table {
	t := table{{"S", "N", "STEPS", "p50 ms", "p99 ms", "MAX", "LIMIT p50", "p99", "MAX", "RATIO p50", "p99", "ROLLBACK ms"}}
	for _, c := range cells {
		r, l := slices.Sorted(slices.Values(c.Rampart.Steps)), slices.Sorted(slices.Values(c.Limit.Steps))
		if len(r) == 0 || len(l) == 0 {
			continue
		}
		t = append(t, []string{
			fmt.Sprint(c.Services), fmt.Sprint(c.Proxies), fmt.Sprint(len(r)),
			millis(of(r, 0.5)), millis(of(r, 0.99)), millis(of(r, 1)), millis(of(l, 0.5)), millis(of(l, 0.99)), millis(of(l, 1)),
			timesThe(of(r, 0.5), of(l, 0.5)), timesThe(of(r, 0.99), of(l, 0.99)), millis(c.Rollback),
		})
	}
	return t
}

// returns are how fleets connect and come back.
func returns(cells []xdsbench.Cell) table {
	t := table{{"S", "N", "READY ms", "CONNECTED ms", "LIMIT", "KiB EACH", "CUT → BACK ms", "LIMIT", "RATIO", "CPU µs", "LIMIT", "RATIO", "MiB AT MOST", "LIMIT", "EXPIRED", "BYTES EACH", "RESPONSES", "KILLED → BACK ms", "MiB AT MOST", "EXPIRED", "BYTES EACH", "RESPONSES"}}
	for _, c := range cells {
		r, l := c.Rampart, c.Limit
		n := int64(c.Proxies)
		t = append(t, []string{
			fmt.Sprint(c.Services), fmt.Sprint(c.Proxies), millis(r.Ready), millis(r.Connect().Took), millis(l.Connect().Took), fmt.Sprint(r.Connect().Bytes >> 10),
			millis(c.Reconnect.Took), millis(c.LimitBack.Took), timesThe(c.Reconnect.Took, c.LimitBack.Took), micros(c.Reconnect.CPU), micros(c.LimitBack.CPU), timesThe(c.Reconnect.CPU, c.LimitBack.CPU),
			fmt.Sprint(c.Reconnect.Peak >> 20), fmt.Sprint(c.LimitBack.Peak >> 20), fmt.Sprint(c.Reconnect.Expired), fmt.Sprint(c.Reconnect.Bytes / n), byType(c.Reconnect.Responses),
			millis(c.Restart.Took), fmt.Sprint(c.Restart.Peak >> 20), fmt.Sprint(c.Restart.Expired), fmt.Sprint(c.Restart.Bytes / n), byType(c.Restart.Responses),
		})
	}
	return t
}

// byType lists numbers of responses, as "1000 Runtime".
func byType(responses map[string]int64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(responses)) {
		all = append(all, fmt.Sprintf("%d %s", responses[name], name))
	}
	return cmp.Or(strings.Join(all, ", "), "–")
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1000) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

func timesThe(a, b time.Duration) string {
	if b <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

// of is a quantile of sorted times.
func of(sorted []time.Duration, q float64) time.Duration {
	return sorted[max(0, int(q*float64(len(sorted))+0.999999)-1)]
}
