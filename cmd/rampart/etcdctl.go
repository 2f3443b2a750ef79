package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
)

// etcdctlTool is the hidden subcommand that is the plain etcdctl. It ends its process itself and keeps its settings in variables of its package, so it gets
// a process of its own.
const etcdctlTool = "etcdctl-tool"

func newEtcdctl(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "etcdctl COMMAND …",
		Short: "Run the plain etcdctl against rampart's etcd",
		Long: "Etcdctl runs etcd's own tool, connected to the embedded etcd or the one that --etcd names:\n\n" +
			"  rampart etcdctl put /rampart/v1/services/shop < shop.yaml\n" +
			"  rampart etcdctl get --prefix /rampart/v1/\n" +
			"  rampart etcdctl del --prefix /rampart/v1/permits/shop/      # rolls back\n\n" +
			"rampart's own flags go before the command.",
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			args, err := a.ownFlags(args)
			if err != nil {
				return err
			}
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return c.Help()
			}
			return a.etcdctl(c.Context(), args)
		},
	}
}

// ownFlags takes rampart's flags from before etcdctl's command and returns the rest. Cobra does not read flags here, so that etcdctl's pass untouched.
func (a *app) ownFlags(args []string) ([]string, error) {
	a.started = false
	own := pflag.NewFlagSet("etcdctl", pflag.ContinueOnError)
	own.SetInterspersed(false)
	own.Usage = func() {}
	a.flags.register(own)
	mine := 0
	for mine < len(args) && strings.HasPrefix(args[mine], "--") {
		name, _, joined := strings.Cut(strings.TrimPrefix(args[mine], "--"), "=")
		if own.Lookup(name) == nil {
			break
		}
		mine++
		if !joined {
			mine++
		}
	}
	mine = min(mine, len(args))
	if err := own.Parse(args[:mine]); err != nil {
		return nil, usage("etcdctl: %w", err)
	}
	if err := fromEnvironment(own); err != nil {
		return nil, err
	}
	var err error
	if a.tls, err = a.flags.tls(); err != nil {
		return nil, err
	}
	a.started = true
	return args[mine:], nil
}

// etcdctl runs the tool in a child process and hands on its exit status.
func (a *app) etcdctl(ctx context.Context, args []string) error {
	endpoints, err := a.endpoints()
	if err != nil {
		return fmt.Errorf("etcdctl: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("etcdctl: %w", err)
	}
	tool := exec.CommandContext(ctx, self, append([]string{etcdctlTool}, args...)...)
	tool.Stdin, tool.Stdout, tool.Stderr = a.in, a.out, a.err
	tool.Env = unsaid(etcdctlEnvironment(os.Environ(), endpoints, a.flags), args)
	// The terminal sends its Ctrl-C to both of us; a SIGTERM for rampart alone is handed on.
	tool.Cancel = func() error { return tool.Process.Signal(syscall.SIGTERM) }
	tool.WaitDelay = 2 * time.Second
	err = tool.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		// The tool has said why on standard error itself.
		return failure{status: max(1, ended.ExitCode()), err: errors.New("")}
	}
	if err != nil {
		return fmt.Errorf("etcdctl: %w", err)
	}
	return nil
}

// unsaid leaves out of the tool's settings those that its own flags say: it does not start with both.
func unsaid(env, args []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		setting, ours := strings.CutPrefix(name, "ETCDCTL_")
		flag := "--" + strings.ReplaceAll(strings.ToLower(setting), "_", "-")
		return ours && slices.ContainsFunc(args, func(arg string) bool { return arg == flag || strings.HasPrefix(arg, flag+"=") })
	})
}

// etcdctlEnvironment points the tool at rampart's etcd. Settings of the same names that are there already are for other clusters.
func etcdctlEnvironment(inherited, endpoints []string, f clientFlags) []string {
	ours := map[string]string{
		"ETCDCTL_ENDPOINTS": strings.Join(endpoints, ","), "ETCDCTL_CACERT": f.cacert, "ETCDCTL_CERT": f.cert, "ETCDCTL_KEY": f.key,
	}
	var env []string
	for _, entry := range inherited {
		name, _, _ := strings.Cut(entry, "=")
		if _, replaced := ours[name]; !replaced {
			env = append(env, entry)
		}
	}
	for name, value := range ours {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func newEtcdctlTool() *cobra.Command {
	return &cobra.Command{
		Use: etcdctlTool, Hidden: true, DisableFlagParsing: true,
		Run: func(_ *cobra.Command, args []string) {
			// The tool handles signals as it does anywhere else, abbreviations of its commands included.
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			cobra.EnablePrefixMatching = true
			os.Args = append([]string{"etcdctl"}, args...)
			ctlv3.MustStart()
		},
	}
}
