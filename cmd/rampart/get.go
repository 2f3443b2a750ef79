package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// getFlags are what `rampart get` was asked for.
type getFlags struct {
	output   format
	defaults bool
}

func newGet(a *app) *cobra.Command {
	f := getFlags{}
	command := &cobra.Command{
		Use: "get [services|gateways] [NAME …]", Short: "List services or gateways, or print their documents",
		Long: "Get lists what is served. With -o yaml it prints documents as they were put, with --defaults as they are understood: every default filled in.\n" +
			"With -o json it prints documents and served copies, every number included.",
		ValidArgsFunction: a.serviceNames,
		RunE:              func(c *cobra.Command, args []string) error { return a.get(c.Context(), args, f) },
	}
	command.Flags().BoolVar(&f.defaults, "defaults", false, "with -o yaml: fill in every default")
	outputFlag(command, &f.output, asTable, asYAML, asJSON)
	return command
}

// get reads everything at one revision, so that what it shows fits together.
func (a *app) get(ctx context.Context, args []string, f getFlags) error {
	if f.defaults && f.output == asTable {
		return usage("get: --defaults shows documents: it goes with -o yaml or -o json")
	}
	return a.withStore(ctx, "get", func(s *store.Store) error {
		w, err := readWorld(ctx, s)
		if err != nil {
			return err
		}
		if len(args) > 0 && (args[0] == "gateway" || args[0] == "gateways") {
			return a.getGateways(w, args[1:], f)
		}
		if len(args) > 0 && (args[0] == "services" || (args[0] == "service" && len(args) > 1)) {
			args = args[1:]
		}
		if len(w.serviceNames()) == 0 {
			w.lost = lostOf(ctx, s, w)
		}
		return a.getServices(w, args, f)
	})
}

// getServices fails for a name that is unknown, before it prints any other.
func (a *app) getServices(w *world, names []string, f getFlags) error {
	asked := names
	if len(asked) == 0 {
		names = w.serviceNames()
	}
	found := make([]*service, 0, len(names))
	for _, name := range names {
		v, err := w.known(name)
		if err != nil {
			return err
		}
		found = append(found, v)
	}
	switch f.output {
	case asYAML:
		return a.printServiceDocuments(found, f)
	case asJSON:
		return printViews(a, asked, found, func(v *service) any { return serviceJSON(v, f) })
	}
	switch {
	case len(found) > 0:
		a.printTable(serviceTable(found))
	case len(w.lost) > 0:
		a.say("etcd has no services any more, and replicas raise alarms:")
		for _, alarm := range w.lost {
			a.say("  %s", alarm)
		}
	default:
		a.say("There are no services. `rampart apply FILE` makes one.")
	}
	for _, key := range w.strays {
		a.complain("get: " + clean(key) + " does not belong under rampart's keys; it is ignored")
	}
	return nil
}

// serviceTable shows what serves, what is wished, and where between them the service is.
func serviceTable(services []*service) table {
	t := table{{"SERVICE", "LIVE", "WISH", "PHASE", "WEIGHT", "NOTE"}}
	for _, v := range services {
		row := []string{v.name, "–", "–", "–", "–", noteOf(v)}
		if v.served.Serves() {
			row[1], row[2], row[3] = v.served.Live.String(), v.served.Service.Wish().String(), "steady"
		}
		if r := v.release(); r != nil {
			row[3], row[4] = string(r.Phase), r.Weight.String()
		}
		t = append(t, row)
	}
	return t
}

// noteOf says in a few words what is special about a service. What keeps it from its document comes before what its release does.
func noteOf(v *service) string {
	switch {
	case v.servedMod > 0 && v.served == nil:
		return "its served key cannot be read"
	case v.doc.Mod == 0:
		return "its document is gone; what was served is kept"
	case v.servedMod == 0:
		return "not accepted yet"
	case v.served.Refused != nil && v.served.Refused.Revision == v.doc.Mod:
		return "newest document refused: " + firstOf(v.served.Refused.Problems)
	case v.served.Accepted != v.doc.Mod:
		return "newest document not looked at yet"
	case v.served.Blocked != nil:
		return fmt.Sprintf("%s was rolled back: %s", *v.served.Blocked, lastReason(v.served))
	case v.release() == nil && v.paused:
		return "paused: its next release begins so"
	case v.release() != nil && v.paused:
		return "paused by an operator"
	case v.release() != nil:
		return "waits for " + v.release().Waits
	}
	return ""
}

// firstOf is for tables: all of the lines are in `why`.
func firstOf(lines []string) string {
	if len(lines) == 0 {
		return "no reason given"
	}
	return lines[0]
}

// lastReason is why the last release ended. It is there whenever something is blocked, unless somebody edited the served key.
func lastReason(s *policy.Served) string {
	if s.Last == nil {
		return "the reason is in its history"
	}
	return s.Last.Reason
}

// printServiceDocuments prints documents as operators wrote them, or as they are understood.
func (a *app) printServiceDocuments(services []*service, f getFlags) error {
	var texts []string
	for _, v := range services {
		if v.doc.Mod == 0 {
			return refusal("%s has no document any more", v.name)
		}
		text := string(v.doc.Value)
		if f.defaults {
			parsed, err := v.wish()
			if err != nil {
				return refusal("its document cannot be read: %w", err)
			}
			text = string(parsed.WithDefaults().YAML())
		}
		texts = append(texts, text)
	}
	a.printDocuments(texts)
	return nil
}

// printDocuments separates documents so that `rampart apply -f -` reads them back. Files get every byte as it is; a terminal is protected.
func (a *app) printDocuments(texts []string) {
	for i, text := range texts {
		if i > 0 {
			a.say("---")
		}
		if a.screen.live {
			text = cleanLines(text)
		}
		a.say("%s", strings.TrimRight(text, "\n"))
	}
}

// cleanLines is clean for text of several lines.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return strings.Join(lines, "\n")
}

// serviceView is what -o json says of a service.
type serviceView struct {
	Service  string          `json:"service"`
	Document *policy.Service `json:"document,omitempty"`
	Revision int64           `json:"revision"` // etcd mod revision of the document
	Served   *policy.Served  `json:"served,omitempty"`
	Permits  []string        `json:"permits,omitempty"`
	Paused   bool            `json:"paused"`
	Order    string          `json:"order,omitempty"`
	Problem  string          `json:"problem,omitempty"` // why the document cannot be read
}

// serviceJSON leaves the document out when there is none, and says why when it cannot be read.
func serviceJSON(v *service, f getFlags) serviceView {
	view := serviceView{Service: v.name, Revision: v.doc.Mod, Served: v.served, Paused: v.paused, Order: v.order}
	parsed, err := v.wish()
	switch {
	case v.doc.Mod == 0:
	case err != nil:
		view.Problem = err.Error()
	case f.defaults:
		filled := parsed.WithDefaults()
		view.Document = &filled
	default:
		view.Document = &parsed
	}
	for release := range v.permits {
		view.Permits = append(view.Permits, release)
	}
	slices.Sort(view.Permits)
	return view
}

// printViews prints one object when one was asked for by its name, else a list: how many there happen to be must not change the shape that a script reads.
func printViews[T any](a *app, asked []string, found []T, view func(T) any) error {
	if len(asked) == 1 {
		return a.printValue(asJSON, view(found[0]))
	}
	views := make([]any, len(found))
	for i, one := range found {
		views[i] = view(one)
	}
	return a.printValue(asJSON, views)
}
