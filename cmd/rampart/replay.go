package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// replayAsked is what `rampart replay` was asked for.
type replayAsked struct {
	files   []string
	release string
	output  format
}

func newReplay(a *app) *cobra.Command {
	var asked replayAsked
	command := serviceCommand(a, "replay", "Judge a past release again, under other settings", func(ctx context.Context, name string) error {
		return a.replay(ctx, name, asked)
	})
	command.Long = "Replay takes the readings of a release that are kept in etcd and has them judged again by the analysis and the warm-up of another document:\n" +
		"what would have been decided, and when. Without --filename it is judged by its own settings. It changes nothing.\n" +
		"The traffic stays as it was, and so does the plan: where another judge would have moved the weights otherwise, that is not played out. Of a running\n" +
		"release it takes what is written so far, every half minute."
	flags := command.Flags()
	flags.StringArrayVarP(&asked.files, "filename", "f", nil, "file, folder or - for standard input with the document to judge by")
	flags.StringVar(&asked.release, "release", "", "the release, as the history names it (default: the newest that is kept; three are)")
	outputFlag(command, &asked.output, asTable, asYAML, asJSON)
	return command
}

func (a *app) replay(ctx context.Context, name string, asked replayAsked) error {
	change, err := a.otherDocument(ctx, name, asked.files)
	if err != nil {
		return err
	}
	return a.withStore(ctx, "replay "+name, func(s *store.Store) error {
		pieces, err := readRecording(ctx, s, name, asked.release)
		if err != nil {
			return err
		}
		found := policy.RunAgain(pieces, change, nil)
		if asked.output != asTable {
			return a.printValue(asked.output, found)
		}
		for _, line := range replayLines(name, found) {
			a.say("%s", a.screen.wrap(clean(line), "    "))
		}
		return nil
	})
}

// otherDocument reads the settings to judge by; nil without files.
func (a *app) otherDocument(ctx context.Context, name string, files []string) (func(policy.Service) policy.Service, error) {
	if len(files) == 0 {
		return nil, nil
	}
	docs, err := a.documents(ctx, "replay "+name, files)
	if err != nil {
		return nil, err
	}
	if len(docs.problems) > 0 {
		return nil, refusal("%s", problemText(docs.problems))
	}
	i := slices.IndexFunc(docs.all, func(d policy.Document) bool { return d.Service != nil && d.Name == name })
	if i < 0 {
		return nil, usage("replay %s: there is no document of service %s in %s", name, name, listed(files))
	}
	other := docs.all[i].Service
	return func(s policy.Service) policy.Service {
		s.Analysis, s.Plan.Warmup = other.Analysis, other.Plan.Warmup
		return s
	}, nil
}

// replayLines tells first what the changed judge would have said.
func replayLines(name string, r policy.Replay) []string {
	lines := []string{fmt.Sprintf("%s %s %s.", name, r.Release, "would have been "+courseText(r.Is))}
	if r.Is.Reason != "" {
		lines = append(lines, "  Judge: "+r.Is.Reason+lacksText(r.Is))
	}
	lines = append(lines,
		fmt.Sprintf("  As it was judged: %s.", courseText(r.Was)),
		fmt.Sprintf("  From %s: %s over %s.", r.From.Local().Format(time.DateTime), plural(r.Turns, "turn", "turns"), brief(r.Length)))
	if r.Lost > 0 {
		lines = append(lines, fmt.Sprintf("  %s more could not be kept.", plural(r.Lost, "turn", "turns")))
	}
	if len(r.Changed) > 0 {
		lines = append(lines, "  Changed: "+strings.Join(r.Changed, ", ")+".")
	}
	return lines
}

func lacksText(c policy.Course) string {
	if c.Convicted || c.Lacks == "" {
		return "."
	}
	return ". To go on it needed " + c.Lacks + "."
}

// courseText says how a judge's course ended.
func courseText(c policy.Course) string {
	if c.Convicted {
		return fmt.Sprintf("rolled back after %s, at %s", brief(c.At), c.Weight)
	}
	return fmt.Sprintf("kept: %s at the end, healthy for %s; the most evidence against it was %s : 1", c.Verdict, brief(c.Healthy), oddsText(c.Strongest))
}

// oddsText writes e^log as odds.
func oddsText(log float64) string {
	switch odds := math.Exp(min(log, 50)); {
	case odds < 10:
		return fmt.Sprintf("%.1f", odds)
	default:
		return fmt.Sprintf("%.0f", odds)
	}
}
