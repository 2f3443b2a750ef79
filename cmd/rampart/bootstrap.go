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
	grpc        bool
}

func newBootstrap(a *app) *cobra.Command {
	f := bootstrapFlags{}
	command := &cobra.Command{
		Use: "bootstrap", Short: "Write the bootstrap of an Envoy or a gRPC client", Args: cobra.NoArgs,
		Long: "Bootstrap writes what an Envoy of a gateway starts with: `rampart bootstrap --gateway edge --id edge-1 > edge-1.yaml && envoy -c edge-1.yaml`.\n" +
			"With several --xds the Envoy prefers the first that answers. --print snippet gives only what an existing bootstrap lacks.\n" +
			"--grpc writes that of a gRPC client, which calls services without an Envoy: `GRPC_XDS_BOOTSTRAP=client.json checkout`, and dial xds:///SERVICE.",
		RunE: func(*cobra.Command, []string) error { return a.bootstrap(f) },
	}
	host, err := os.Hostname()
	if err != nil {
		host = "envoy"
	}
	flags := command.Flags()
	flags.StringVar(&f.gateway, "gateway", policy.DefaultGateway, "gateway that the proxy belongs to (its node.cluster)")
	flags.StringVar(&f.id, "id", host, "name of this proxy (its node.id)")
	flags.StringSliceVar(&f.servers, "xds", []string{defaultXds}, "replica to connect to: host:port or unix:/path; repeat it, in order of preference")
	flags.IntVar(&f.adminPort, "admin-port", 0, "port of Envoy's admin page on loopback; 0 is none")
	flags.BoolVar(&f.grpc, "grpc", false, "write the bootstrap of a gRPC client")
	flags.StringVar(&f.print, "print", "full", "full, or snippet to merge into an existing bootstrap")
	return command
}

// bootstrap needs no server: a proxy may be set up before rampart is.
func (a *app) bootstrap(f bootstrapFlags) error {
	if f.print != "full" && f.print != "snippet" {
		return usage("bootstrap: --print %q is not full or snippet", f.print)
	}
	if f.grpc && (f.print != "full" || f.adminPort != 0) {
		return usage("bootstrap: --print snippet and --admin-port are for Envoys, not for --grpc")
	}
	if f.grpc && len(f.servers) != 1 {
		return usage("bootstrap: --grpc takes one --xds, with a host that resolves to all replicas: of a list, gRPC leaves the first only when it lacks something")
	}
	text, err := f.write()
	if err != nil {
		return usage("bootstrap: %w", err)
	}
	if _, err := a.out.Write(text); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

func (f bootstrapFlags) write() ([]byte, error) {
	if f.grpc {
		return envoy.ClientBootstrap(envoy.ClientBootstrapConfig{Gateway: f.gateway, ID: f.id, Server: f.servers[0]})
	}
	return envoy.Bootstrap(envoy.BootstrapConfig{
		Gateway: f.gateway, ID: f.id, Servers: f.servers, AdminPort: f.adminPort, Snippet: f.print == "snippet",
	})
}
