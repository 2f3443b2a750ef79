package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

func newWait(a *app) *cobra.Command {
	var timeout time.Duration
	command := serviceCommand(a, "wait", "Wait for the outcome of a release, for pipelines", func(ctx context.Context, name string) error {
		return a.wait(ctx, name, timeout)
	})
	command.Long = "Wait first waits until the service's document is accepted, then until what it wishes is live, or refused.\n" +
		"Exit status: 0 it is live; 1 it was rolled back or refused; 3 not in time, or unreachable. Ctrl-C leaves the release alone."
	command.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait")
	return command
}

// awaited is what `wait` waits for: the wish of the document that was there when it began.
type awaited struct {
	mod    int64
	target policy.Ref
	known  bool // the document could be read; otherwise it will be refused
}

// wait notes the wish before it waits, so that a later one does not count as the answer to this one.
func (a *app) wait(ctx context.Context, name string, timeout time.Duration) error {
	return a.withStore(ctx, "wait "+name, func(s *store.Store) error {
		v, err := readService(ctx, s, name)
		if err != nil {
			return err
		}
		if v.doc.Mod == 0 {
			return refusal("its document is gone")
		}
		what := awaited{mod: v.doc.Mod}
		if parsed, err := v.wish(); err == nil {
			what.target, what.known = parsed.WithDefaults().Wish(), true
		}
		return a.waitFor(ctx, s, waiting{name: name, awaited: what, timeout: timeout})
	})
}

type waiting struct {
	awaited
	name    string
	timeout time.Duration
}

// waitFor goes on through lost connections, restarts and elections: only the time ends it.
func (a *app) waitFor(ctx context.Context, s *store.Store, w waiting) error {
	short, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var last outcome
	shown := ""
	err := follow(short, s, func(now *world) (bool, error) {
		v := now.service(w.name)
		last = w.outcome(v)
		// Progress is a line for each new state, not for each save.
		if line := progressText(v); !last.over && line != shown {
			shown = line
			a.say("%s", clean(line))
		}
		return last.over, nil
	})
	switch {
	case ctx.Err() != nil:
		return notHere("interrupted; the release goes on without this command: %s", clean(last.text))
	case errors.Is(err, context.DeadlineExceeded):
		return notHere("not over within %s: %s", policy.Duration(w.timeout), clean(last.text))
	case err != nil:
		return err
	case !last.yes:
		return refusal("%s", clean(last.text))
	}
	a.say("%s", clean(w.name+": "+last.text))
	return nil
}

// outcome is how what was awaited has ended, or how it stands.
type outcome struct {
	over, yes bool
	text      string
}

// outcome judges a service's state by what is awaited. It is pure.
func (w awaited) outcome(v *service) outcome {
	s := v.served
	switch {
	case v.doc.Mod == 0 && v.servedMod == 0:
		return outcome{over: true, text: "it was deleted"}
	case s == nil:
		return outcome{text: "no leader has accepted its document yet"}
	case s.Refused != nil && s.Refused.Revision >= w.mod:
		return outcome{over: true, text: "the document is refused: " + strings.Join(s.Refused.Problems, "; ")}
	case s.Accepted < w.mod || !s.Serves():
		return outcome{text: "no leader has accepted its document yet"}
	case s.Release != nil:
		return outcome{text: progressText(v)}
	case w.known && s.Live.Ref == w.target:
		return outcome{over: true, yes: true, text: s.Live.String() + " is live"}
	case s.Blocked != nil && *s.Blocked == w.target:
		return outcome{over: true, text: s.Blocked.String() + " was rolled back: " + lastReason(s)}
	case s.Service.Wish() != w.target:
		return outcome{over: true, text: "the wish was changed to " + s.Service.Wish().String() + " meanwhile"}
	}
	return outcome{text: "its release has not begun yet"}
}

// progressText is one line about a service, the same as long as nothing of interest changes.
func progressText(v *service) string {
	r := v.release()
	switch {
	case r == nil:
		return v.name + ": waiting for the document to be accepted"
	case r.Phase == policy.RollingBack:
		return v.name + ": rolling back " + r.Candidate.String() + ": " + r.Cause
	case v.paused:
		return v.name + ": " + r.Candidate.String() + " " + string(r.Phase) + " at " + r.Weight.String() + ", paused by an operator"
	case r.Held != "":
		return v.name + ": " + r.Candidate.String() + " held at " + r.Weight.String() + ": " + r.Held
	}
	return v.name + ": " + r.Candidate.String() + " " + string(r.Phase) + " at " + r.Weight.String()
}
