package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/store"
)

func newDelete(a *app) *cobra.Command {
	agreed := consent{}
	var output format
	command := &cobra.Command{
		Use: "delete SERVICE | delete gateway NAME", Short: "Stop serving a service, or end a gateway",
		Long: "Delete removes a document, which stops what it describes. It asks first; without a terminal it needs --yes.\n" +
			"A service is not deleted while a release of it runs, a gateway not while services name it. Envoys of a deleted gateway keep what they were served.",
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.serviceNames,
		RunE: func(c *cobra.Command, args []string) error {
			r := newReply(a, output)
			switch {
			case len(args) == 1:
				return r.deleteService(c.Context(), args[0], agreed)
			case args[0] == "gateway":
				return r.deleteGateway(c.Context(), args[1], agreed)
			case args[0] == "service":
				return r.deleteService(c.Context(), args[1], agreed)
			}
			return usage("delete: expected `delete SERVICE` or `delete gateway NAME`, one at a time")
		},
	}
	agreed.register(command.Flags())
	outputFlag(command, &output, asTable, asYAML, asJSON)
	return command
}

// deleteService looks twice: a release may have begun while the question was open. The leader has the last word all the same: it keeps a service whose
// document vanishes while a release runs.
func (r *reply) deleteService(ctx context.Context, name string, agreed consent) error {
	r.value.Service, r.value.Command = name, "delete"
	return r.endService(r.withStore(ctx, "delete "+name, func(s *store.Store) error {
		v, err := readService(ctx, s, name)
		if err != nil {
			return err
		}
		if err := deletable(v); err != nil {
			return err
		}
		if err := agreed.ask(ctx, r.app, deleteQuestion(v)); err != nil {
			return err
		}
		if v, err = readService(ctx, s, name); err != nil {
			return err
		}
		if err := deletable(v); err != nil {
			return err
		}
		if err := s.Delete(ctx, store.ServiceDoc, name); err != nil {
			return err
		}
		return r.awaitGone(ctx, s, name+" is no longer served.", func(w *world) bool { return w.service(name).servedMod == 0 })
	}))
}

// deletable says why a service cannot be deleted.
func deletable(v *service) error {
	if r := v.release(); r != nil {
		return refusal("its release of %s runs (%s at %s); roll it back or let it end first", r.Candidate.Ref, r.Phase, r.Weight)
	}
	if v.doc.Mod == 0 {
		return refusal("it has no document any more; `rampart adopt` accepts what is gone as gone")
	}
	return nil
}

// deleteQuestion names what will be missed.
func deleteQuestion(v *service) string {
	if !v.served.Serves() {
		return fmt.Sprintf("Delete %s, which serves nothing yet?", v.name)
	}
	return fmt.Sprintf("Stop serving %s (%s is live; hosts %s)? Requests for it will be answered 404.", v.name, v.served.Live.Ref,
		clean(strings.Join(v.served.Service.Hosts, ", ")))
}

// deleteGateway refuses what the leader would: the default gateway, too, must not move its listeners to loopback under the services that use it.
func (r *reply) deleteGateway(ctx context.Context, name string, agreed consent) error {
	r.value.Gateway, r.value.Command = name, "delete"
	return r.endService(r.withStore(ctx, "delete gateway "+name, func(s *store.Store) error {
		w, err := readWorld(ctx, s)
		if err != nil {
			return err
		}
		g := w.gateways[name]
		switch {
		case g == nil || g.doc.Mod == 0:
			return refusal("there is no document of a gateway %s", name)
		case len(w.usersOf(name)) > 0:
			return refusal("it serves %s; move them to another gateway first", listed(w.usersOf(name)))
		}
		question := fmt.Sprintf("Delete the gateway %s? Its Envoys keep what they were served, and get nothing new.", name)
		if err := agreed.ask(ctx, r.app, question); err != nil {
			return err
		}
		if err := s.Delete(ctx, store.GatewayDoc, name); err != nil {
			return err
		}
		return r.awaitGone(ctx, s, "Gateway "+name+" is gone.", func(w *world) bool { g := w.gateway(name); return g.served == nil || g.served.Gone })
	}))
}

// acceptIn is how long commands wait for a leader to take up a document.
const acceptIn = 10 * time.Second

// awaitGone waits until the leader has carried out a deletion.
func (r *reply) awaitGone(ctx context.Context, s *store.Store, done string, gone func(*world) bool) error {
	r.is(endedStored, nil)
	short, cancel := context.WithTimeout(ctx, acceptIn)
	defer cancel()
	err := follow(short, s, func(w *world) (bool, error) { return gone(w), nil })
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return notHere("the document is deleted, but no leader has carried it out yet; what was served is kept until then")
	}
	if err != nil {
		return err
	}
	r.is(endedDeleted, nil)
	r.say("%s", done)
	return nil
}
