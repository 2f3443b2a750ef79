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

// obeyIn is how long a command waits to see its order obeyed. A leader looks four times a second; the rest is for elections.
const obeyIn = 5 * time.Second

func newAdvance(a *app) *cobra.Command {
	command := replyCommand(a, "advance", "Take the next step of a release now", orderer(policy.Advance))
	command.Long = "Advance takes the next step as soon as the proxies have confirmed the present one, without waiting for its time or its evidence.\n" +
		"No order skips the proxies' confirmation or the judge's no."
	return command
}

func newPromote(a *app) *cobra.Command {
	command := replyCommand(a, "promote", "Give a release all traffic now", orderer(policy.Promote))
	command.Long = "Promote moves to full weight at once, without soak or bake, and commits after the proxies' confirmation and 5 s in which the judge may still say no."
	return command
}

func newRetry(a *app) *cobra.Command {
	command := replyCommand(a, "retry", "Try a wish again that was rolled back", orderer(policy.Retry))
	command.Long = "Retry begins the release of a wish anew that was rolled back. Without it, such a wish is refused until it changes."
	return command
}

// orderer refuses at once what the leader would drop a moment later.
func orderer(verb policy.Verb) func(context.Context, *reply, string) error {
	return func(ctx context.Context, r *reply, name string) error {
		return r.withStore(ctx, string(verb)+" "+name, func(s *store.Store) error {
			v, err := readService(ctx, s, name)
			if err != nil {
				return err
			}
			if err := orderable(v, verb); err != nil {
				return err
			}
			return r.order(ctx, s, v, verb)
		})
	}
}

// orderable says why an order would be dropped.
func orderable(v *service, verb policy.Verb) error {
	r := v.release()
	switch {
	case verb == policy.Retry && r != nil:
		return refusal("a release of %s runs already (%s)", r.Candidate.Ref, r.ID)
	case verb == policy.Retry && (v.served == nil || v.served.Blocked == nil):
		return refusal("nothing of it was rolled back that could be tried again")
	case verb != policy.Retry && r == nil:
		return refusal("no release runs; change `serve` in its document to begin one")
	case verb != policy.Retry && r.Phase == policy.RollingBack:
		return refusal("%s is being rolled back: %s", r.Candidate.Ref, r.Cause)
	case verb != policy.Retry && r.Phase == policy.Committing:
		return refusal("%s is being committed already", r.Candidate.Ref)
	}
	return nil
}

// order gives an order for the running release, by its name so that it can never be for a later one, and waits briefly to see what becomes of it.
func (r *reply) order(ctx context.Context, s *store.Store, v *service, verb policy.Verb) error {
	text := string(verb)
	if running := v.release(); running != nil {
		text += " " + running.ID
	}
	before, err := s.History(ctx, v.name, historyTail)
	if err != nil {
		return err
	}
	if err := s.PutOrder(ctx, v.name, text); err != nil {
		return err
	}
	r.is(endedStored, v)
	now, err := within(ctx, obeyIn, s, func(w *world) bool { return w.service(v.name).order != text })
	switch {
	case ctx.Err() != nil:
		return notHere("interrupted; the order stands until the leader obeys it")
	case errors.Is(err, context.DeadlineExceeded):
		return r.standing(ctx, s, verb)
	case err != nil:
		return err
	}
	after, err := s.History(ctx, v.name, historyTail)
	if err != nil {
		return err
	}
	return r.obeyed(now.service(v.name), verb, newLines(before, after))
}

// standing tells of an order that nobody has obeyed yet.
func (r *reply) standing(ctx context.Context, s *store.Store, verb policy.Verb) error {
	if err := mustBeLed(ctx, s); err != nil {
		return err
	}
	r.say("Ordered. The %s follows as soon as the proxies have confirmed the present step.", verb)
	return nil
}

// mustBeLed fails when nobody decides: what was asked stays in etcd until somebody does.
func mustBeLed(ctx context.Context, s *store.Store) error {
	_, led, err := s.Leader(ctx)
	if err != nil {
		return err
	}
	if !led {
		return notHere("stored, and not yet obeyed: no replica leads at present")
	}
	return nil
}

// obeyed prints what the leader made of an order.
func (r *reply) obeyed(v *service, verb policy.Verb, lines []store.Line) error {
	for _, line := range lines {
		if why, dropped := strings.CutPrefix(line.Text, "dropped: order "+string(verb)+" is dropped: "); dropped {
			r.is(endedDropped, v)
			return refusal("the order was dropped: %s", clean(why))
		}
	}
	r.is(endedAsAsked, v)
	for _, line := range lines {
		if did, mine := strings.CutPrefix(line.Text, "ordered: "+string(verb)); mine {
			did = strings.TrimPrefix(did, "; ")
			if did == "" {
				did = "ordered"
			}
			r.say("%s: %s.", v.name, clean(did))
			return nil
		}
	}
	r.say("%s: the order was taken.", v.name)
	return nil
}
