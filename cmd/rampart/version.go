package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what was built, as far as the build knows.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func newVersion(a *app) *cobra.Command {
	var output format
	command := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			found, _ := debug.ReadBuildInfo()
			b := buildOf(found)
			if output != asTable {
				return a.printValue(output, b)
			}
			a.say("rampart %s (commit %s, %s %s/%s)", b.Version, b.Commit, b.Go, runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
	outputFlag(command, &output, asTable, asYAML, asJSON)
	return command
}

// buildOf reads what the Go tool has noted; nil if it noted nothing, as in some test binaries.
func buildOf(found *debug.BuildInfo) build {
	b := build{Version: "(devel)", Commit: "unknown", Go: runtime.Version()}
	if found == nil {
		return b
	}
	if found.Main.Version != "" {
		b.Version = found.Main.Version
	}
	for _, setting := range found.Settings {
		switch {
		case setting.Key == "vcs.revision":
			b.Commit = fmt.Sprintf("%.12s", setting.Value)
		case setting.Key == "vcs.modified" && setting.Value == "true":
			b.Commit += " with changes"
		}
	}
	return b
}
