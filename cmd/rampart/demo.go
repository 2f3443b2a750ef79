package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// demoFlags are what `rampart demo` was asked for.
type demoFlags struct {
	act    int // 0: all
	stay   bool
	rate   float64
	output format
}

func newDemo(a *app) *cobra.Command {
	f := demoFlags{}
	command := &cobra.Command{
		Use: "demo", Short: "Show five releases on real Envoys, good and bad ones", Args: cobra.NoArgs,
		Long: "Demo starts a server with its own etcd, three Envoys and model servers on loopback, sends requests through them, and plays five acts:\n" +
			"a good release, a bad one, a dead one, a dead control plane and an outage of both versions. It judges itself: what was promised, what was measured.\n" +
			"It needs an Envoy of at least 1.38: $ENVOY, or one on the PATH; `make demo` fetches one. The exit status is 1 when a promise is missed.",
		RunE: func(c *cobra.Command, _ []string) error { return a.demo(c.Context(), f) },
	}
	flags := command.Flags()
	flags.IntVar(&f.act, "act", 0, "play only this act, 1 to 5")
	flags.BoolVar(&f.stay, "stay", false, "keep everything running afterwards, and say what can be tried")
	flags.Float64Var(&f.rate, "rate", demoRate, "requests per second")
	outputFlag(command, &f.output, asTable, asYAML, asJSON)
	return command
}

// demo plays the acts and says what became of their promises.
func (a *app) demo(ctx context.Context, f demoFlags) error {
	acts := demoActs()
	if f.act != 0 {
		acts = slices.DeleteFunc(acts, func(one act) bool { return one.number != f.act })
		if len(acts) == 0 {
			return usage("demo: --act %d is none of 1 to %d", f.act, len(demoActs()))
		}
	}
	if f.rate <= 0 {
		return usage("demo: --rate %g is not above 0", f.rate)
	}
	var results []result
	err := a.onStage(ctx, stageConfig{rate: f.rate, quiet: f.output != asTable}, func(ctx context.Context, s *stage) error {
		results = s.playAll(ctx, acts)
		s.curtain()
		if err := a.tellResults(results, f.output); err != nil {
			return err
		}
		if f.stay && ctx.Err() == nil {
			return s.stay(ctx)
		}
		return nil
	})
	if ctx.Err() != nil && err == nil && len(results) < len(acts) {
		return notHere("demo: interrupted; nothing of it is left running")
	}
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return verdictOn(results)
}

// verdictOn is the demo's exit: an error when an act missed its promise.
func verdictOn(results []result) error {
	missed := 0
	for _, r := range results {
		if !r.Kept {
			missed++
		}
	}
	if missed > 0 {
		return refusal("demo: %d of %s missed what was promised", missed, plural(len(results), "act", "acts"))
	}
	return nil
}

// tellResults prints the table, or the same figures for machines.
func (a *app) tellResults(results []result, output format) error {
	if output != asTable {
		return a.printValue(output, results)
	}
	for _, line := range resultLines(results, a.screen) {
		a.say("%s", line)
	}
	return nil
}

// onStage sets up a fleet in a temporary folder, does something with it, and leaves nothing behind.
func (a *app) onStage(ctx context.Context, c stageConfig, work func(context.Context, *stage) error) (err error) {
	envoy, err := testenv.FindEnvoy()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own binary: %w", err)
	}
	folder, leave, err := enterFolder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	if c.proxies == 0 {
		c.proxies = demoProxies
	}
	f, err := newFleet(fleetConfig{self: self, envoy: envoy, folder: folder, proxies: c.proxies})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	s := newStage(a, f, c)
	s.note("Starting rampart with its etcd, %d Envoys and %d model servers …", c.proxies, demoModels)
	if err = f.start(ctx); err == nil {
		err = s.run(ctx, work)
	}
	// What fails after an interrupt fails because of it; only what cannot be cleared away counts then.
	if ctx.Err() != nil {
		return nil
	}
	return err
}

const folderPattern = "rampart-demo-*"

// enterFolder makes the folder that everything lies in, and returns what removes it. Folders that killed demos have left are removed, too.
func enterFolder() (folder string, leave func() error, err error) {
	sweepFolders(time.Now())
	folder, err = os.MkdirTemp("", folderPattern)
	if err != nil {
		return "", nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	unlock, err := store.LockFolder(folder)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(folder))
	}
	return folder, func() error { return errors.Join(unlock(), os.RemoveAll(folder)) }, nil
}

// sweepFolders removes what demos that were killed could not remove: nobody holds their locks any more. One that is a minute old has locked its folder, if it lives.
func sweepFolders(now time.Time) {
	// The pattern is well formed, so there is no error.
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPattern))
	for _, folder := range folders {
		state, err := os.Stat(folder)
		if err != nil || now.Sub(state.ModTime()) < time.Minute {
			continue
		}
		unlock, err := store.LockFolder(folder)
		if err != nil {
			continue
		}
		// What cannot be removed stays until somebody may.
		_, _ = os.RemoveAll(folder), unlock()
	}
}
