package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// accepting is a set of documents that were put, and what was there before.
type accepting struct {
	changes []change
	before  *world
}

// fate is how a document that was put fares.
type fate int

const (
	pending fate = iota
	accepted
	refused
)

// fate says how one document fares, and why it is refused.
func (c change) fate(w *world) (fate, []string) {
	if c.doc.Service != nil {
		v := w.service(c.doc.Name)
		if v.served == nil {
			return pending, nil
		}
		return fateOf(c.written(v.doc), v.served.Accepted, v.served.Refused)
	}
	g := w.gateway(c.doc.Name)
	if g.served == nil {
		return pending, nil
	}
	return fateOf(c.written(g.doc), g.served.Accepted, g.served.Refused)
}

// written is the mod revision that matters: that of the document as it is now, ours or a later one; 0 if all that is there is what was before.
func (c change) written(now store.Entry) int64 {
	if now.Mod <= c.before.Mod {
		return 0
	}
	return now.Mod
}

// fateOf looks at the refusal first: a refused document leaves the revision that was accepted before it.
func fateOf(mod, acceptedMod int64, r *policy.Refusal) (fate, []string) {
	switch {
	case mod == 0:
		return pending, nil
	case r != nil && r.Revision == mod:
		return refused, r.Problems
	case acceptedMod >= mod:
		return accepted, nil
	}
	return pending, nil
}

// any reports whether a document fares so.
func (p accepting) any(is fate, w *world) bool {
	return slices.ContainsFunc(p.changes, func(c change) bool {
		state, _ := c.fate(w)
		return state == is
	})
}

// settled returns a condition that holds when no document is pending. It is asked at every change of anything, so it does not look at all of them each time.
func (p accepting) settled() func(*world) bool {
	left := p.changes
	return func(w *world) bool {
		for len(left) > 0 {
			if state, _ := left[0].fate(w); state == pending {
				return false
			}
			left = left[1:]
		}
		if !p.any(pending, w) {
			return true
		}
		left = p.changes // one was put again
		return false
	}
}

// acceptEach is how long a leader may take for each of many documents.
const acceptEach = 10 * time.Millisecond

// refusalLasts is how long one of several documents must stay refused: of documents that only fit together, the leader may look at the wrong one first.
const refusalLasts = time.Second

// awaitAccepted waits until the leader has accepted or refused all documents, and tells what has begun.
func (a *app) awaitAccepted(ctx context.Context, s *store.Store, put accepting) error {
	settled := put.settled()
	limit := acceptIn + time.Duration(len(put.changes))*acceptEach
	now, err := within(ctx, time.Second, s, settled)
	if errors.Is(err, context.DeadlineExceeded) {
		a.complain("Stored; waiting for a leader to accept it …")
		now, err = within(ctx, limit-time.Second, s, settled)
	}
	switch {
	case ctx.Err() != nil:
		return notHere("interrupted; the documents are stored, and accepted without this command")
	case errors.Is(err, context.DeadlineExceeded):
		return notHere("the documents are stored, but no leader has accepted them within %s: does `rampart serve` run?", brief(limit))
	case err != nil:
		return err
	}
	if len(put.changes) > 1 && put.any(refused, now) {
		now, err = within(ctx, refusalLasts, s, func(w *world) bool { return !put.any(pending, w) && !put.any(refused, w) })
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
	if put.any(refused, now) {
		return refusedDocuments(put.changes, now)
	}
	return a.tell(ctx, s, put, now)
}

// within follows etcd until the condition holds, and returns the newest world; after the time it fails with context.DeadlineExceeded.
func within(ctx context.Context, limit time.Duration, s *store.Store, holds func(*world) bool) (*world, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var now *world
	err := follow(ctx, s, func(w *world) (bool, error) {
		now = w
		return holds(w), nil
	})
	return now, err
}

// refusedDocuments is the leader's no. It comes when what was served has changed since the documents were checked here, or the leader is of another version.
func refusedDocuments(changes []change, w *world) error {
	var lines []string
	for _, c := range changes {
		if state, problems := c.fate(w); state == refused {
			for _, p := range problems {
				lines = append(lines, clean(p))
			}
		}
	}
	return refusal("refused by the leader; what is served stays:\n%s", strings.Join(lines, "\n"))
}

// tell says what each accepted document has begun.
func (a *app) tell(ctx context.Context, s *store.Store, put accepting, now *world) error {
	for _, c := range put.changes {
		if c.doc.Gateway != nil {
			a.say("Gateway %s is accepted.", c.doc.Name)
			continue
		}
		v := now.service(c.doc.Name)
		r := v.release()
		before := put.before.services[c.doc.Name].release()
		switch {
		case r == nil:
			a.tellSteady(v, put.before.services[c.doc.Name])
		case before != nil && before.ID == r.ID && r.Phase == policy.RollingBack:
			a.say("Release %s is taken back from %s: %s.", r.ID, r.Candidate.Ref, r.Cause)
		case before != nil && before.ID == r.ID:
			a.say("Release %s goes on at %s with what was changed.", r.ID, r.Weight)
		default:
			a.say("Release %s has begun: %s%s.", r.ID, climbText(r, v.served.Service.Plan), a.onProxies(ctx, s, v))
			a.say("Follow it with `rampart watch %s`; take it back with `rampart rollback %s`.", v.name, v.name)
		}
	}
	return nil
}

// tellSteady says why no release runs: applying is not the same as releasing.
func (a *app) tellSteady(v, before *service) {
	live := v.served.Live.Ref
	switch {
	case v.served.Blocked != nil:
		a.say("Accepted, but %s was rolled back and is refused until the wish changes, or until `rampart retry %s`.", *v.served.Blocked, v.name)
	case !before.there() || !before.served.Serves():
		a.say("%s serves %s from now on: a first document is live at once, with nothing to compare it with.", v.name, live)
	default:
		a.say("Accepted. %s stays live: it is what the document wishes.", live)
	}
}

// onProxies counts the proxies of a new release. The replicas report them a moment after it has begun; an answer without them is good enough then.
func (a *app) onProxies(ctx context.Context, s *store.Store, v *service) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	count, reported := 0, false
	// That no replica has reported in time only leaves the number out.
	_ = s.WatchReplicas(ctx, func(reports map[string]store.Report) error {
		fleet, known := fleetOf(reports, v.name, v.release())
		count, reported = fleet.Connected, reported || known
		if known && count > 0 {
			return errEnough
		}
		return nil
	})
	gateways := slices.Clone(v.served.Service.Gateways)
	slices.Sort(gateways)
	switch {
	case count == 0 && !reported:
		return fmt.Sprintf(", on the proxies of %s", listed(gateways))
	case count == 0:
		return fmt.Sprintf(", as soon as a proxy of %s is connected", listed(gateways))
	}
	return fmt.Sprintf(", on %s of %s", proxies(count), listed(gateways))
}
