package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

func newWhy(a *app) *cobra.Command {
	var output format
	command := serviceCommand(a, "why", "Say why a service is where it is, and what happens next", func(ctx context.Context, name string) error {
		return a.why(ctx, name, output)
	})
	command.Long = "Why answers in one screen: where the service is and for what reason, the judge's evidence, the proxies that have not accepted and their own words,\n" +
		"what happens next and when, and what you can do."
	outputFlag(command, &output, asTable, asYAML, asJSON)
	return command
}

// why reads what is in etcd, and nothing else: it answers when no replica does.
func (a *app) why(ctx context.Context, name string, output format) error {
	return a.withStore(ctx, "why "+name, func(s *store.Store) error {
		p, err := a.look(ctx, s, name)
		if err != nil {
			return err
		}
		if output != asTable {
			return a.printValue(output, whyOf(p))
		}
		lines := p.why()
		a.say("%s", a.screen.paint(bold, a.screen.wrap(lines[0], "")))
		for _, line := range lines[1:] {
			a.say("%s", a.screen.wrap(line, "    "))
		}
		return nil
	})
}

// whyView is what -o json says: every number, and the sentences too.
type whyView struct {
	Service  string         `json:"service"`
	Answer   string         `json:"answer"`
	Why      []string       `json:"why"`
	Paused   bool           `json:"paused"`
	Led      bool           `json:"led"` // some replica leads
	Document int64          `json:"document"`
	Served   *policy.Served `json:"served,omitempty"`
	Evidence *evidence      `json:"evidence,omitempty"`
	Fleet    *policy.Fleet  `json:"fleet,omitempty"`
	Alarms   []string       `json:"alarms,omitempty"`
}

// whyOf has the sentences too, so that a bot need not find its own words.
func whyOf(p picture) whyView {
	lines := p.why()
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	view := whyView{
		Service: p.service.name, Answer: lines[0], Why: lines[1:], Paused: p.service.paused, Led: p.led, Document: p.service.doc.Mod,
		Served: p.service.served, Evidence: p.evidence, Alarms: p.alarms,
	}
	if p.reported {
		view.Fleet = &p.fleet
	}
	return view
}
