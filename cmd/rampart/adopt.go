package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/store"
)

func newAdopt(a *app) *cobra.Command {
	agreed := consent{}
	var reason string
	command := &cobra.Command{
		Use: "adopt", Short: "Accept what is gone from etcd as gone", Args: cobra.NoArgs,
		Long: "Nothing that was served is dropped because it could not be read: when several documents vanish at once, when served keys are missing, or when etcd was\n" +
			"replaced or restored, replicas keep what they served and raise an alarm. Adopt says that what etcd holds now is right: what is missing there stops being served.",
		RunE: func(c *cobra.Command, _ []string) error { return a.adopt(c.Context(), reason, agreed) },
	}
	agreed.register(command.Flags())
	command.Flags().StringVar(&reason, "reason", "rampart adopt", "why, for the record")
	return command
}

// adopt shows what is missing before it asks: a yes to an unknown list would be no yes.
func (a *app) adopt(ctx context.Context, reason string, agreed consent) error {
	return a.withStore(ctx, "adopt", func(s *store.Store) error {
		w, err := readWorld(ctx, s)
		if err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, acceptIn)
		defer cancel()
		reports, err := readReports(short, s)
		if err != nil {
			return err
		}
		missing := missingParts(w, reports)
		for _, line := range missing {
			a.say("  %s", clean(line))
		}
		question := "Accept all of this as gone? What is missing in etcd will no longer be served."
		if len(missing) == 0 {
			// Replicas that were cut off from etcd cannot say what they miss, so an empty list does not end it.
			question = "Nothing is known to be missing. Accept what etcd holds as it is?"
		}
		if err := agreed.ask(ctx, a, question); err != nil {
			return err
		}
		if err := s.Adopt(ctx, reason); err != nil {
			return err
		}
		a.say("Adopted: replicas accept what etcd holds now.")
		return nil
	})
}

// missingParts lists what adopt is about: what etcd lacks, and what replicas complain of.
func missingParts(w *world, reports map[string]store.Report) []string {
	lines := map[string]bool{}
	for _, name := range w.serviceNames() {
		v := w.services[name]
		switch {
		case v.doc.Mod == 0 && v.servedMod > 0:
			lines[fmt.Sprintf("%s: served, and its document is gone", name)] = true
		case v.servedMod == 0 && len(v.permits) > 0:
			lines[fmt.Sprintf("%s: it has a permit (%s), and its served key is gone", name, strings.Join(slices.Sorted(maps.Keys(v.permits)), ", "))] = true
		}
	}
	for _, report := range reports {
		for _, alarm := range report.Alarms {
			lines[alarm] = true
		}
	}
	return slices.Sorted(maps.Keys(lines))
}
