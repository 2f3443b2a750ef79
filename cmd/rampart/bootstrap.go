package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
)

// bootstrapFlags are what `rampart bootstrap` was asked for.
type bootstrapFlags struct {
	gateway, id string
	servers     []string
	adminPort   int
	print       string
}

func newBootstrap(a *app) *cobra.Command {
	f := bootstrapFlags{}
	command := &cobra.Command{
		Use: "bootstrap", Short: "Write an Envoy's bootstrap", Args: cobra.NoArgs,
		Long: "Bootstrap writes what an Envoy of a gateway starts with: `rampart bootstrap --gateway edge --id edge-1 > edge-1.yaml && envoy -c edge-1.yaml`.\n" +
			"With several --xds the Envoy prefers the first that answers. --print snippet gives only what an existing bootstrap lacks.",
		RunE: func(*cobra.Command, []string) error { return a.bootstrap(f) },
	}
	host, err := os.Hostname()
	if err != nil {
		host = "envoy"
	}
	flags := command.Flags()
	flags.StringVar(&f.gateway, "gateway", policy.DefaultGateway, "gateway that the Envoy belongs to (its node.cluster)")
	flags.StringVar(&f.id, "id", host, "name of this Envoy (its node.id)")
	flags.StringSliceVar(&f.servers, "xds", []string{defaultXds}, "replica to connect to: host:port or unix:/path; repeat it, in order of preference")
	flags.IntVar(&f.adminPort, "admin-port", 0, "port of Envoy's admin page on loopback; 0 is none")
	flags.StringVar(&f.print, "print", "full", "full, or snippet to merge into an existing bootstrap")
	return command
}

// bootstrap needs no server: an Envoy may be set up before rampart is.
func (a *app) bootstrap(f bootstrapFlags) error {
	if f.print != "full" && f.print != "snippet" {
		return usage("bootstrap: --print %q is not full or snippet", f.print)
	}
	text, err := envoy.Bootstrap(envoy.BootstrapConfig{
		Gateway: f.gateway, ID: f.id, Servers: f.servers, AdminPort: f.adminPort, Snippet: f.print == "snippet",
	})
	if err != nil {
		return usage("bootstrap: %w", err)
	}
	if _, err := a.out.Write(text); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}
