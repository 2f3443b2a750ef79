package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// applyFlags are what `rampart apply` was asked for.
type applyFlags struct {
	files  []string
	dry    bool
	output format
}

func newApply(a *app) *cobra.Command {
	f := applyFlags{}
	command := &cobra.Command{
		Use: "apply FILE …", Short: "Put documents, all of them or none",
		Long: "Apply reads documents from files, folders (their .yaml, .yml and .json files) or standard input (-), checks all of them, shows what they will change,\n" +
			"and writes them in one transaction, or none of them; more than 64 go in several. Then it waits until they are accepted, and says what has begun.",
		RunE: func(c *cobra.Command, args []string) error { return a.apply(c.Context(), args, f) },
	}
	command.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "file, folder or - for standard input; may be repeated")
	command.Flags().BoolVar(&f.dry, "dry-run", false, "show what would change, and change nothing")
	outputFlag(command, &f.output, asTable, asYAML, asJSON)
	return command
}

// nothingChanged ends every answer of apply that wrote nothing.
const nothingChanged = "Nothing was changed."

// apply checks everything before it writes anything, by the rules that the leader has: so that what is refused is refused here, while its author looks. The
// leader checks again, because etcd may change in between and documents come from elsewhere too.
func (a *app) apply(ctx context.Context, paths []string, f applyFlags) error {
	docs, err := a.documents(ctx, "apply", append(f.files, paths...))
	if err != nil {
		return err
	}
	r := &applying{reply: newReply(a, f.output), docs: docs}
	if len(docs.problems) > 0 {
		r.refuse(docs.problems)
		return r.end(r.result(), refusal("%s\n%s", problemText(docs.problems), nothingChanged))
	}
	work := r.put
	if f.dry {
		work = r.rehearse
	}
	err = r.withStore(ctx, "apply", func(s *store.Store) error { return work(ctx, s) })
	// What could not even be tried is an error alone.
	if r.outcome == "" {
		return err
	}
	return r.end(r.result(), err)
}

// applying is one apply under way. It is owned by the goroutine of its command.
type applying struct {
	*reply
	docs     documents // fixed from the start
	problems []string  // what the documents are refused for
	changes  []change  // what they change; nil before it is known
	outcome  ending
	now      *world // what became of them, as last seen
}

// compare checks against what is served, and shows and returns what would change.
func (r *applying) compare(ctx context.Context, s *store.Store) ([]change, error) {
	w, err := readWorld(ctx, s)
	if err != nil {
		return nil, err
	}
	if problems := r.docs.clashes(w); len(problems) > 0 {
		r.refuse(problems)
		return nil, failure{status: statusNo, err: fmt.Errorf("%s\n%s", problemText(problems), nothingChanged), told: true}
	}
	r.changes, r.now = changesOf(r.docs, w), w
	r.showChanges(r.changes)
	fresh := slices.DeleteFunc(slices.Clone(r.changes), func(c change) bool { return c.same() })
	if len(fresh) == 0 {
		r.outcome = endedIdle
		r.showStanding(r.docs, w)
	}
	return fresh, nil
}

// rehearse changes nothing.
func (r *applying) rehearse(ctx context.Context, s *store.Store) error {
	fresh, err := r.compare(ctx, s)
	if len(fresh) > 0 {
		r.outcome = endedDry
		r.say("%s (dry run)", nothingChanged)
	}
	return err
}

// put writes what changes, if anything does, and waits for the leader.
func (r *applying) put(ctx context.Context, s *store.Store) error {
	fresh, err := r.compare(ctx, s)
	if err != nil || len(fresh) == 0 {
		return err
	}
	if err := put(ctx, s, fresh); err != nil {
		return err
	}
	return r.await(ctx, s, accepting{changes: fresh, before: r.now})
}

// change is what one document changes.
type change struct {
	doc    policy.Document
	before store.Entry
	words  []string // in the operator's words; none: nothing
	fresh  bool     // there was no document of that name
}

// same reports whether the document says what etcd's says, however it is written.
func (c change) same() bool { return len(c.words) == 0 && !c.fresh }

// changesOf compares documents with what operators put before.
func changesOf(docs documents, w *world) []change {
	changes := make([]change, 0, len(docs.all))
	for _, doc := range docs.all {
		if doc.Service != nil {
			changes = append(changes, serviceChange(doc, w.service(doc.Name)))
		} else {
			changes = append(changes, gatewayChange(doc, w.gateway(doc.Name)))
		}
	}
	return changes
}

// serviceChange compares with the document in etcd rather than with what is served: a wish that is not fulfilled yet is not to be put again.
func serviceChange(doc policy.Document, v *service) change {
	c := change{doc: doc, before: v.doc, fresh: v.doc.Mod == 0}
	next := doc.Service.WithDefaults()
	if c.fresh {
		c.words = []string{"new service, " + next.Wish().String() + " for " + strings.Join(next.Hosts, ", ")}
		return c
	}
	old, err := v.wish()
	switch {
	case err == nil:
		c.words = policy.Differences(old.WithDefaults(), next)
	case v.served.Serves():
		c.words = append([]string{"replaces a document that could not be read"}, policy.Differences(v.served.Service, next)...)
	default:
		c.words = []string{"replaces a document that could not be read"}
	}
	return c
}

// gatewayChange compares as serviceChange does.
func gatewayChange(doc policy.Document, g *gateway) change {
	c := change{doc: doc, before: g.doc, fresh: g.doc.Mod == 0}
	next := doc.Gateway.WithDefaults()
	if c.fresh {
		c.words = []string{"new gateway, " + listenersText(next)}
		return c
	}
	parsed, err := policy.ParseGateway("gateways/"+g.name, g.doc.Value)
	if err != nil {
		c.words = []string{"replaces a document that could not be read"}
		return c
	}
	old := parsed.WithDefaults()
	if before, after := listenersText(old), listenersText(next); before != after {
		c.words = append(c.words, "listeners "+before+" → "+after)
	}
	if before, after := deadmanText(old), deadmanText(next); before != after {
		c.words = append(c.words, "deadman "+before+" → "+after)
	}
	return c
}

// listenersText is a gateway's listeners as addresses. None is legal: the RouteConfiguration is then for listeners that are not ours.
func listenersText(g policy.Gateway) string {
	if len(g.Listeners) == 0 {
		return "no listeners"
	}
	texts := make([]string, len(g.Listeners))
	for i, l := range g.Listeners {
		texts[i] = fmt.Sprintf("%s:%d", l.Address, l.Port)
	}
	return strings.Join(texts, ", ")
}

// deadmanText is a gateway's dead-man time, as documents write it.
func deadmanText(g policy.Gateway) string {
	if g.Deadman == nil || *g.Deadman == 0 {
		return "off"
	}
	return policy.Duration(*g.Deadman).String()
}

// showChanges comes before the write, so that it is on the screen whatever becomes of that.
func (a *app) showChanges(changes []change) {
	for _, c := range changes {
		name := c.doc.Name
		if c.doc.Gateway != nil {
			name = "gateway " + name
		}
		if !c.same() {
			a.say("%s: %s", name, clean(strings.Join(c.words, ", ")))
		} else {
			a.say("%s: nothing changes", name)
		}
		if c.doc.Service == nil {
			continue
		}
		for _, warning := range policy.Warnings(*c.doc.Service) {
			a.say("  %s", a.screen.paint(waits, "warning: "+clean(warning)))
		}
	}
}

// showStanding says of unchanged documents why they may not have what they ask for.
func (a *app) showStanding(docs documents, w *world) {
	for _, doc := range docs.all {
		v := w.services[doc.Name]
		if doc.Service == nil || !v.there() || !v.served.Serves() {
			continue
		}
		if blocked := v.served.Blocked; blocked != nil {
			a.say("%s was rolled back and is refused until the wish changes, or until `rampart retry %s`.", *blocked, v.name)
		}
	}
}

// put compares every document with what was read before it was checked, and writes all of them or none; as many as go into a transaction at a time.
func put(ctx context.Context, s *store.Store, changes []change) error {
	written := 0
	for part := range slices.Chunk(changes, store.MaxWrites) {
		writes := make([]store.Write, len(part))
		for i, c := range part {
			writes[i] = store.Write{Kind: docKind(c.doc), Name: c.doc.Name, Value: c.doc.Text, Mod: c.before.Mod}
		}
		err := s.Put(ctx, writes)
		switch {
		case errors.Is(err, store.ErrStale) && written == 0:
			return refusal("%w; nothing was changed: somebody else was quicker, look and apply again", err)
		case errors.Is(err, store.ErrStale):
			return refusal("%w; %d of %d documents were written before: somebody else was quicker, look and apply again", err, written, len(changes))
		case unreachable(err):
			return notHere("%w; whether it was written is not known: `rampart get` shows it", err)
		case err != nil:
			return err
		}
		written += len(part)
	}
	return nil
}
