package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is one run of the program: its streams, what they are connected to, and the flags that all commands share.
type app struct {
	// Fixed after newApp.
	streams
	now    func() time.Time
	screen screen
	asks   bool // a person is at the other end of in

	// Fixed once the command line has been read.
	flags   clientFlags
	tls     *tls.Config
	started bool // the command line was understood; errors before that are usage errors
}

// newApp is the one place of the program that reads the clock: all else is given now.
func newApp(s streams) *app {
	return &app{streams: s, now: time.Now, screen: screenOf(s.out), asks: isTerminal(s.in)}
}

const (
	statusNo      = 1 // rolled back, refused
	statusUsage   = 2
	statusNotHere = 3 // unreachable, or not in time
)

// failure is an error that decides the exit status.
type failure struct {
	status int
	err    error
	told   bool // the text is complete: it needs no word of what was being done
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// usage is an error in the command line.
func usage(format string, args ...any) error {
	return failure{status: statusUsage, err: fmt.Errorf(format, args...)}
}

// refusal is a no to what was asked.
func refusal(format string, args ...any) error {
	return failure{status: statusNo, err: fmt.Errorf(format, args...)}
}

// notHere says that something could not be reached or did not happen in time.
func notHere(format string, args ...any) error {
	return failure{status: statusNotHere, err: fmt.Errorf(format, args...)}
}

// report prints the error, if there is one, and returns the exit status.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	text := strings.TrimRight(err.Error(), "\n")
	var f failure
	switch {
	case !a.started:
		a.complain(oneLine(text))
	case text != "":
		a.complain(text)
	}
	switch {
	case errors.As(err, &f):
		return f.status
	case !a.started:
		return statusUsage
	case unreachable(err):
		return statusNotHere
	}
	return statusNo
}

// complain writes to standard error. There is nowhere to report that it cannot be written.
func (a *app) complain(text string) { _, _ = fmt.Fprintln(a.err, text) }

// say writes a line of the answer. A reader that has gone away needs no answer.
func (a *app) say(format string, args ...any) { _, _ = fmt.Fprintf(a.out, format+"\n", args...) }

// oneLine joins what cobra spreads over several lines.
func oneLine(text string) string {
	first, rest, more := strings.Cut(text, "\n")
	if !more {
		return text
	}
	return strings.TrimSpace(first) + "; " + strings.ReplaceAll(strings.Join(strings.Fields(rest), " "), "Did you mean this?", "did you mean")
}

// newRoot puts the command tree together.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "rampart",
		Short: "Move an Envoy fleet from blue to green, and back when green is worse",
		Long: "rampart is an Envoy control plane that moves traffic from one version of a service to the next a little at a time, watches what the Envoys report,\n" +
			"and gives everything back when the next version is worse.\n\n" +
			"Every flag is also read from the environment: --etcd-cacert from RAMPART_ETCD_CACERT.\n" +
			"Exit status: 0 as asked; 1 the answer is no (rolled back, refused); 2 usage; 3 unreachable or not in time.",
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return a.prepare(c) },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%s: %w; see `%s --help`", c.Name(), flagError(err), c.CommandPath())
	})
	a.flags.register(root.PersistentFlags())
	root.AddGroup(&cobra.Group{ID: "release", Title: "Releases:"}, &cobra.Group{ID: "document", Title: "Documents:"}, &cobra.Group{ID: "system", Title: "System:"})
	grouped := map[string][]*cobra.Command{
		"release":  {newWatch(a), newWait(a), newWhy(a), newHistory(a), newReplay(a), newPause(a), newResume(a), newAdvance(a), newPromote(a), newRollback(a), newRetry(a)},
		"document": {newApply(a), newDelete(a), newGet(a), newLint(a), newSimulate(a)},
		"system":   {newServe(a), newDemo(a), newBootstrap(a), newProxies(a), newAdopt(a), newEtcdctl(a), newVersion(a)},
	}
	for id, commands := range grouped {
		for _, command := range commands {
			command.GroupID = id
		}
		root.AddCommand(commands...)
	}
	root.AddCommand(newEmbedded(a), newEtcdctlTool(), newModel(a), newBench(a), newBenchXds(a), newLimit(a))
	return root
}

// prepare completes the flags from the environment and checks what all commands share.
func (a *app) prepare(c *cobra.Command) error {
	if err := fromEnvironment(c.Flags()); err != nil {
		return err
	}
	err := a.flags.checkEtcd()
	if err != nil {
		return err
	}
	if a.tls, err = a.flags.tls(); err != nil {
		return err
	}
	a.started = true
	return nil
}

// fromEnvironment sets every flag that the command line left alone from its variable.
func fromEnvironment(flags *pflag.FlagSet) error {
	var problem error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "RAMPART_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := os.Getenv(name)
		if f.Changed || value == "" || f.Name == "help" || problem != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			problem = usage("read %s: %w", name, flagError(err))
		}
	})
	return problem
}
