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
	command := replyCommand(a, "wait", "Wait for the outcome of a release, for pipelines", func(ctx context.Context, r *reply, name string) error {
		return r.wait(ctx, name, timeout)
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
func (r *reply) wait(ctx context.Context, name string, timeout time.Duration) error {
	if timeout <= 0 {
		return usage("wait: --timeout %s is not above 0", timeout)
	}
	return r.withStore(ctx, "wait "+name, func(s *store.Store) error {
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
		return r.waitFor(ctx, s, waiting{name: name, awaited: what, timeout: timeout})
	})
}

type waiting struct {
	awaited
	name    string
	timeout time.Duration
}

// waitFor goes on through lost connections, restarts and elections: only the time ends it.
func (r *reply) waitFor(ctx context.Context, s *store.Store, w waiting) error {
	short, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var last outcome
	shown := ""
	err := follow(short, s, func(now *world) (bool, error) {
		v := now.service(w.name)
		last = w.outcome(v)
		r.is(last.ending, v)
		// Progress is a line for each new state, not for each save.
		if line := progressText(v); !last.over && line != shown {
			shown = line
			r.progress(clean(line))
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
	case last.ending != endedLive:
		return refusal("%s", clean(last.text))
	}
	r.say("%s", clean(w.name+": "+last.text))
	return nil
}

// progress is seen while it happens: on standard error when standard output is for a value.
func (r *reply) progress(line string) {
	if r.format == asTable {
		r.say("%s", line)
		return
	}
	r.complain(line)
}

// outcome is how what was awaited has ended, or how it stands.
type outcome struct {
	ending ending
	over   bool
	text   string
}

// outcome judges a service's state by what is awaited. It is pure.
func (w awaited) outcome(v *service) outcome {
	s := v.served
	switch {
	case v.doc.Mod == 0 && v.servedMod == 0:
		return outcome{ending: endedDeleted, over: true, text: "it was deleted"}
	case s == nil:
		return outcome{ending: endedStored, text: "no leader has accepted its document yet"}
	case s.Refused != nil && s.Refused.Revision >= w.mod:
		return outcome{ending: endedRefused, over: true, text: "the document is refused: " + strings.Join(s.Refused.Problems, "; ")}
	case s.Accepted < w.mod || !s.Serves():
		return outcome{ending: endedStored, text: "no leader has accepted its document yet"}
	case s.Release != nil:
		return outcome{ending: endedRunning, text: progressText(v)}
	case w.known && s.Live.Ref == w.target:
		return outcome{ending: endedLive, over: true, text: s.Live.String() + " is live"}
	case s.Blocked != nil && *s.Blocked == w.target:
		return outcome{ending: endedBack, over: true, text: s.Blocked.String() + " was rolled back: " + lastReason(s)}
	case s.Service.Wish() != w.target:
		return outcome{ending: endedReplaced, over: true, text: "the wish was changed to " + s.Service.Wish().String() + " meanwhile"}
	}
	return outcome{ending: endedRunning, text: "its release has not begun yet"}
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
	text := v.name + ": " + r.Candidate.String() + " " + string(r.Phase) + " at " + r.Weight.String()
	if r.Phase == policy.Gated && climbs(r, v.served.Service.Plan) {
		text += ", then " + climbText(r, v.served.Service.Plan)
	}
	return text
}
