// Command rampart moves the traffic of an Envoy fleet from one version of a service to the next: see README.md.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// The etcdctl that is linked in turns this on for the whole process; a mistyped `rampart d` must not become `rampart delete`.
	cobra.EnablePrefixMatching = false
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(status)
}

// streams are the standard streams of a process.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line and returns the exit status: 0 as asked, 1 the answer is no, 2 usage, 3 unreachable or not in time. It ends soon after
// ctx does.
func run(ctx context.Context, args []string, s streams) int {
	a := newApp(s)
	root := newRoot(a)
	root.SetArgs(args)
	return a.report(root.ExecuteContext(ctx))
}
