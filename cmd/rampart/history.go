package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// historyTail is how many lines are read where only what is new counts. A leader writes a few per step.
const historyTail = 50

func newHistory(a *app) *cobra.Command {
	var asked historyAsked
	var command *cobra.Command
	command = serviceCommand(a, "history", "List the decisions about a service", func(ctx context.Context, name string) error {
		switch {
		case asked.last < 1:
			return usage("history %s: --last %d is not above 0", name, asked.last)
		case asked.release != "" && !asked.turns:
			return usage("history %s: --release goes with --turns", name)
		case asked.turns:
			asked.all = !command.Flags().Changed("last")
			return a.turns(ctx, name, asked)
		}
		return a.history(ctx, name, asked)
	})
	command.Long = "History lists the decisions about a service, with the numbers behind them in -o json and -o yaml.\n" +
		"With --turns it lists what was read and judged in every turn of a release instead, those of the three\n" +
		"newest releases. What a running release has read is written every half minute."
	flags := command.Flags()
	flags.IntVar(&asked.last, "last", 20, "how many lines, at most 500; of turns as values, all unless this is given")
	flags.BoolVar(&asked.turns, "turns", false, "the turns of a release instead of the decisions")
	flags.StringVar(&asked.release, "release", "", "with --turns: the release (default: the newest that is kept)")
	outputFlag(command, &asked.output, asTable, asYAML, asJSON)
	return command
}

type historyAsked struct {
	last    int
	all     bool // values have every turn, because nobody said how many
	turns   bool
	release string
	output  format
}

// turns lists a release's turns. All numbers are in the values only.
func (a *app) turns(ctx context.Context, name string, asked historyAsked) error {
	return a.withStore(ctx, "history "+name, func(s *store.Store) error {
		pieces, err := readRecording(ctx, s, name, asked.release)
		if err != nil {
			return err
		}
		turns := turnsOf(pieces)
		if asked.output == asTable || !asked.all {
			turns = turns[max(0, len(turns)-asked.last):]
		}
		if asked.output != asTable {
			return a.printValue(asked.output, turns)
		}
		a.printTable(turnsTable(turns, a.now()))
		return nil
	})
}

// turnsTable shows what most readers look for.
func turnsTable(turns []policy.TurnRecord, now time.Time) table {
	t := table{{"TIME", "PHASE", "WEIGHT", "LIVE", "CANDIDATE", "EVIDENCE", "VERDICT"}}
	for _, turn := range turns {
		arm := func(c policy.Counts) string { return fmt.Sprintf("%d of %d failed", c.Errors, c.Finished()) }
		t = append(t, []string{
			timeText(time.UnixMilli(turn.At), now), string(turn.Phase), turn.Weight.String(), arm(turn.Reading.Live), arm(turn.Reading.Candidate),
			oddsText(turn.Found.Log) + " : 1", turn.Found.Verdict,
		})
	}
	return t
}

// history knows services that are gone, too: why something was deleted is asked afterwards.
func (a *app) history(ctx context.Context, name string, asked historyAsked) error {
	return a.withStore(ctx, "history "+name, func(s *store.Store) error {
		lines, err := s.History(ctx, name, asked.last)
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			// A service that was deleted still has its history; one that never was has neither.
			if _, err := readService(ctx, s, name); err != nil {
				return err
			}
		}
		if asked.output != asTable {
			return a.printValue(asked.output, lines)
		}
		a.printTable(historyTable(lines, a.now()))
		return nil
	})
}

// historyTable has the text last, so that it is what a narrow screen shortens.
func historyTable(lines []store.Line, now time.Time) table {
	t := table{{"TIME", "RELEASE", "WEIGHT", "WHAT"}}
	for _, l := range lines {
		weight := ""
		if l.Phase != "" {
			weight = policy.Weight(l.Weight).String()
		}
		t = append(t, []string{timeText(l.Time, now), l.Release, padLeft(weight, len("100.00 %")), l.Text})
	}
	return t
}

// timeText leaves the day out when it is today's.
func timeText(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// newLines returns the lines of after that were not there before.
func newLines(before, after []store.Line) []store.Line {
	known := map[string]bool{}
	for _, l := range before {
		known[lineKey(l)] = true
	}
	var fresh []store.Line
	for _, l := range after {
		if !known[lineKey(l)] {
			fresh = append(fresh, l)
		}
	}
	return fresh
}

// lineKey tells lines apart: no two decisions about one service are made at one time.
func lineKey(l store.Line) string { return fmt.Sprint(l.Time.UnixNano(), l.Text) }
