package main

import (
	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/testenv"
)

// modelName is the hidden subcommand that is a model server of the demo.
const modelName = "model"

func newModel(*app) *cobra.Command {
	return &cobra.Command{
		Use: modelName, Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error { return testenv.ModelMain(c.Context(), args) },
	}
}
