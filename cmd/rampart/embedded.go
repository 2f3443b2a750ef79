package main

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/store"
)

// embeddedName is the hidden subcommand that is the body of the supervised etcd child.
const embeddedName = "embedded-etcd"

// embeddedCommand re-executes this binary as the etcd child.
func embeddedCommand(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return exec.Command(self, append([]string{embeddedName}, args...)...)
}

// newEmbeddedEtcd is the etcd of a data folder, to be run beside the replica.
func newEmbeddedEtcd(s serving) store.Embedded {
	e := store.Embedded{Dir: filepath.Join(s.folder, "etcd"), Socket: store.SocketPath(s.folder), Log: s.log, Command: embeddedCommand}
	if s.etcdListen != "" {
		e.Listen = "http://" + s.etcdListen
	}
	return e
}

func newEmbedded(*app) *cobra.Command {
	return &cobra.Command{
		Use: embeddedName, Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error { return store.EmbeddedMain(c.Context(), args) },
	}
}
