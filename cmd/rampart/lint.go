package main

import (
	"context"
	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
)

func newLint(a *app) *cobra.Command {
	var files []string
	command := &cobra.Command{
		Use: "lint FILE …", Short: "Check documents without a server",
		Long: "Lint reads documents as `rampart apply` does, from files, folders or standard input (-), and prints every problem and every warning.\n" +
			"It asks no server, so it cannot see what is served already. Exit status 1 if there is a problem.",
		RunE: func(c *cobra.Command, args []string) error { return a.lint(c.Context(), append(files, args...)) },
	}
	command.Flags().StringArrayVarP(&files, "filename", "f", nil, "file, folder or - for standard input; may be repeated")
	return command
}

// lint prints warnings as an answer and problems as errors, all of both.
func (a *app) lint(ctx context.Context, paths []string) error {
	docs, err := a.documents(ctx, "lint", paths)
	if err != nil {
		return err
	}
	var problems policy.Problems
	problems = append(problems, docs.problems...)
	problems = append(problems, docs.clashes(offlineWorld(docs))...)
	for _, d := range docs.all {
		if d.Service == nil {
			continue
		}
		for _, warning := range policy.Warnings(*d.Service) {
			a.say("%s:%d: warning: %s", d.Source, d.Line, clean(warning))
		}
	}
	if len(problems) > 0 {
		return refusal("%s", problemText(problems))
	}
	a.say("%s, no problems.", plural(len(docs.all), "document", "documents"))
	return nil
}

// offlineWorld serves nothing, and has every gateway that the documents name: whether those exist is for the server to say.
func offlineWorld(docs documents) *world {
	w := newWorld()
	for _, d := range docs.all {
		if d.Service == nil {
			continue
		}
		for _, name := range d.Service.WithDefaults().Gateways {
			w.gateway(name).served = &policy.ServedGateway{Gateway: policy.Gateway{Name: name}.WithDefaults()}
		}
	}
	return w
}
