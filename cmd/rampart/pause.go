package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// serviceCommand is a command about one service.
func serviceCommand(a *app, name, short string, work func(ctx context.Context, service string) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " SERVICE", Short: short, Args: oneService, ValidArgsFunction: a.serviceNames,
		RunE: func(c *cobra.Command, args []string) error { return work(c.Context(), args[0]) },
	}
}

// oneService is the argument of a command about one service.
func oneService(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("%s: expected the name of one service, got %d; see `%s --help`", c.Name(), len(args), c.CommandPath())
	}
	return nil
}

func newPause(a *app) *cobra.Command {
	command := replyCommand(a, "pause", "Rest the climb of a service; rollbacks do not rest", pause)
	command.Long = "Pause keeps the release of a service where it is until `rampart resume`. It is still judged, and rolled back if it is worse."
	return command
}

func newResume(a *app) *cobra.Command {
	command := replyCommand(a, "resume", "End a pause, an operator's or rampart's own", resume)
	command.Long = "Resume ends `rampart pause`, and the hold that rampart puts on a release whose evidence does not become clear (plan.patience)."
	return command
}

// pause is a key of its own, not an order: it holds for as long as the key exists, whoever leads.
func pause(ctx context.Context, r *reply, name string) error {
	return r.withStore(ctx, "pause "+name, func(s *store.Store) error {
		v, err := readService(ctx, s, name)
		if err != nil {
			return err
		}
		if v.paused {
			r.is(endedIdle, v)
			r.say("%s is paused already. `rampart resume %s` ends it.", name, name)
			return nil
		}
		if err := s.SetPause(ctx, name); err != nil {
			return err
		}
		r.is(endedAsAsked, v)
		r.say("%s is paused%s: it climbs no further, and is still rolled back if it is worse.", name, at(v.release()))
		r.say("`rampart resume %s` goes on.", name)
		return nil
	})
}

// at says where a running release is, as the end of a sentence.
func at(r *policy.Release) string {
	if r == nil {
		return ", before its next release"
	}
	return fmt.Sprintf(" with %s at %s", r.Candidate.Ref, r.Weight)
}

// resume ends both kinds of rest. The operator's is a key that goes; rampart's own is in the served copy, which only the leader writes, so it takes an order.
func resume(ctx context.Context, r *reply, name string) error {
	return r.withStore(ctx, "resume "+name, func(s *store.Store) error {
		v, err := readService(ctx, s, name)
		if err != nil {
			return err
		}
		running := v.release()
		held := running != nil && running.Held != ""
		if !v.paused && !held {
			r.is(endedIdle, v)
			r.say("%s is not paused.", name)
			return nil
		}
		if err := s.ClearPause(ctx, name); err != nil {
			return err
		}
		if held {
			return r.order(ctx, s, v, policy.Resume)
		}
		r.is(endedAsAsked, v)
		r.say("%s goes on%s.", name, at(running))
		return nil
	})
}
