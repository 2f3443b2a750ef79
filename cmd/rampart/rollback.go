package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

func newRollback(a *app) *cobra.Command {
	var timeout time.Duration
	command := replyCommand(a, "rollback", "Take a running release back, now", func(ctx context.Context, r *reply, name string) error {
		return r.rollback(ctx, name, timeout)
	})
	command.Long = "Rollback deletes the permit of the running release: every replica gives the candidate weight 0 at once, whether or not one of them leads.\n" +
		"It then waits for the proxies' confirmation. The wish is refused afterwards until it changes, or until `rampart retry`."
	command.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the proxies")
	return command
}

// rollback asks no leader: deleting the permit is all it takes, and anyone can.
func (r *reply) rollback(ctx context.Context, name string, timeout time.Duration) error {
	return r.withStore(ctx, "rollback "+name, func(s *store.Store) error {
		v, err := readService(ctx, s, name)
		if err != nil {
			return err
		}
		running := v.release()
		if running == nil {
			return nothingToRollBack(v)
		}
		if v.permits[running.ID] {
			r.recordRollback(ctx, s, v)
		}
		if err := s.DeletePermit(ctx, name, running.ID); err != nil {
			return err
		}
		r.is(endedPending, v)
		return r.awaitRollback(ctx, s, rollbackAwaited{name: name, release: *running, timeout: timeout})
	})
}

// nothingToRollBack tells how to go back when there is nothing to take back.
func nothingToRollBack(v *service) error {
	if !v.served.Serves() {
		return refusal("it serves nothing yet")
	}
	return refusal("no release runs: %s is live. To go back further, change `serve` in its document", v.served.Live.Ref)
}

// recordRollback notes who asked, before the permit goes, because the leader looks for the reason when it misses the permit. A rollback is not to wait for
// its record: etcd may be out of space, where only the deletion works.
func (a *app) recordRollback(ctx context.Context, s *store.Store, v *service) {
	who := "an operator"
	if u, err := user.Current(); err == nil && u.Username != "" {
		who = u.Username
	}
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	record := store.RollbackRecord{At: a.now(), Reason: fmt.Sprintf("%s asked for it (rampart rollback)", clean(who)), Replica: "command line"}
	if err := s.RecordRollback(short, v.name, v.release().ID, record); err != nil {
		a.complain(fmt.Sprintf("rollback %s: it goes on without a record: %v", v.name, err))
	}
}

type rollbackAwaited struct {
	name    string
	release policy.Release
	timeout time.Duration
}

// awaitRollback waits until the leader says that the release is over, or says where it stands.
func (r *reply) awaitRollback(ctx context.Context, s *store.Store, what rollbackAwaited) error {
	short, cancel := context.WithTimeout(ctx, what.timeout)
	defer cancel()
	var last *service
	told := false
	err := follow(short, s, func(w *world) (bool, error) {
		last = w.service(what.name)
		now := last.release()
		if now != nil && now.ID == what.release.ID && !told {
			told = true
			r.say("%s: the permit of %s is deleted, its weight is 0 from here on. Waiting for the proxies' confirmation …", what.name, what.release.Candidate.Ref)
		}
		return now == nil || now.ID != what.release.ID, nil
	})
	switch {
	case ctx.Err() != nil:
		return notHere("interrupted; the permit is deleted, and the rollback goes on without this command")
	case errors.Is(err, context.DeadlineExceeded):
		r.is(endedPending, last)
		return unconfirmedRollback(last, what)
	case err != nil:
		return err
	}
	lines, err := s.History(ctx, what.name, historyTail)
	if err != nil {
		return err
	}
	return r.rolledBack(last, what, lines)
}

// unconfirmedRollback says what is certain, and what is not.
func unconfirmedRollback(v *service, r rollbackAwaited) error {
	stands := "no replica leads, so nobody has noted it yet; replicas give it weight 0 all the same"
	if now := v.release(); now != nil && now.Phase == policy.RollingBack {
		stands = "waits for " + now.Waits
	}
	return notHere("not confirmed within %s: %s", policy.Duration(r.timeout), clean(stands))
}

// rolledBack reads how the release has ended: it may have been committed in the very moment.
func (r *reply) rolledBack(v *service, what rollbackAwaited, lines []store.Line) error {
	var last *policy.Outcome
	if v.served != nil {
		last = v.served.Last
	}
	r.is(endedBack, v)
	switch {
	case last == nil || last.Release != what.release.ID:
		r.say("%s: release %s has ended.", v.name, what.release.ID)
	case last.Result == policy.Committed:
		r.is(endedCommitted, v)
		return refusal("too late: %s was committed; to go back, change `serve` in its document", last.To)
	default:
		r.say("%s rolled back %s at %s; %s is live%s.", v.name, last.To, last.Weight, last.From, confirmedText(lines, what.release.ID))
	}
	if v.served != nil && v.served.Blocked != nil {
		r.say("This wish is refused until it changes, or until `rampart retry %s`.", v.name)
	}
	return nil
}

// confirmedText is what the leader wrote about the proxies when a release was over, as the end of a sentence.
func confirmedText(lines []store.Line, release string) string {
	for _, l := range slices.Backward(lines) {
		if l.Event != "rolled back" || l.Release != release {
			continue
		}
		if at := strings.LastIndex(l.Text, "; "); at >= 0 {
			return ", " + clean(l.Text[at+2:])
		}
	}
	return ""
}
