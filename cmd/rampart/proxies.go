package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/store"
)

// proxiesFlags say which proxies to list.
type proxiesFlags struct {
	names       []string
	gateway     string
	unconfirmed bool
	rejected    bool
	output      format
}

func newProxies(a *app) *cobra.Command {
	f := proxiesFlags{}
	command := &cobra.Command{
		Use: "proxies [PROXY...]", Short: "List the connected proxies, or all that one has",
		Long: "Proxies asks every replica for the proxies that are connected to it: what they have confirmed and what they have rejected, in their own words.\n" +
			"Of proxies that are named it lists each resource: the version that they have, the one that they were sent and have not confirmed, the one that they refuse.\n" +
			"DEAD-MAN is how long ramp weights live in that proxy without a living control plane; \"no\" means a gRPC client, or a bootstrap without the ramp layers.",
		RunE: func(c *cobra.Command, names []string) error {
			f.names = names
			return a.proxies(c.Context(), f)
		},
	}
	flags := command.Flags()
	flags.StringVar(&f.gateway, "gateway", "", "only proxies of this gateway")
	flags.BoolVar(&f.unconfirmed, "unconfirmed", false, "only proxies that have not confirmed all that they were sent, or are sent nothing")
	flags.BoolVar(&f.rejected, "rejected", false, "only proxies that reject something")
	outputFlag(command, &f.output, asTable, asYAML, asJSON)
	return command
}

// keeps reports whether a proxy is to be listed.
func (f proxiesFlags) keeps(p proxy) bool {
	confirmed := p.Known && p.Pending+len(p.Rejections) == 0
	return (f.gateway == "" || p.Gateway == f.gateway) && (!f.unconfirmed || !confirmed) && (!f.rejected || len(p.Rejections) > 0)
}

// proxies finds the replicas in etcd and asks them directly: which proxy holds what changes too often to be written into etcd.
func (a *app) proxies(ctx context.Context, f proxiesFlags) error {
	return a.withStore(ctx, "proxies", func(s *store.Store) error {
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		reports, err := readReports(short, s)
		if err != nil {
			return err
		}
		if len(reports) == 0 {
			return notHere("no replica runs; start one with `rampart serve`")
		}
		found, problems := askReplicas(short, reports, f.names)
		for _, problem := range problems {
			a.complain("proxies: " + clean(problem))
		}
		if len(problems) == len(reports) {
			return notHere("none of %s could be asked", plural(len(reports), "replica", "replicas"))
		}
		if gone := unknownProxies(f.names, found); len(gone) > 0 {
			return notHere("no proxy %s is connected; `rampart proxies` lists those that are", strings.Join(gone, ", "))
		}
		if f.gateway != "" && !slices.ContainsFunc(found, func(p proxy) bool { return p.Gateway == f.gateway }) {
			w, err := readWorld(short, s)
			if err == nil {
				err = w.needGateway(f.gateway)
			}
			if err != nil {
				return err
			}
		}
		found = slices.DeleteFunc(found, func(p proxy) bool { return !f.keeps(p) })
		return a.printProxies(found, f)
	})
}

// unknownProxies are the names that no connected proxy has.
func unknownProxies(names []string, found []proxy) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(found, func(p proxy) bool { return p.Proxy == name })
	})
}

// proxy is one proxy and the replica that it is connected to.
type proxy struct {
	replica.ProxyView
	Replica string `json:"replica"`
}

// askReplicas collects the proxies of all replicas, sorted by gateway and name. A replica that does not answer is a problem, not the end.
func askReplicas(ctx context.Context, reports map[string]store.Report, names []string) (found []proxy, problems []string) {
	found = []proxy{}
	for _, id := range slices.Sorted(maps.Keys(reports)) {
		views, err := askReplica(ctx, reports[id].HTTP, names)
		if err != nil {
			problems = append(problems, fmt.Sprintf("ask replica %s at %s: %v", id, reports[id].HTTP, err))
			continue
		}
		for _, view := range views {
			found = append(found, proxy{ProxyView: view, Replica: id})
		}
	}
	slices.SortFunc(found, func(a, b proxy) int {
		return cmp.Or(strings.Compare(a.Gateway, b.Gateway), strings.Compare(a.Proxy, b.Proxy), a.Connected.Compare(b.Connected))
	})
	return found, problems
}

// askReplica reads /proxies of one replica, at host:port or on a unix socket.
func askReplica(ctx context.Context, address string, names []string) ([]replica.ProxyView, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	network := "tcp"
	if path := strings.TrimPrefix(address, "unix:"); strings.HasPrefix(path, "/") {
		network, address = "unix", path
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://replica/proxies?"+url.Values{"name": names}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", answer.Status)
	}
	var views []replica.ProxyView
	if err := json.NewDecoder(io.LimitReader(answer.Body, 256<<20)).Decode(&views); err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	return views, nil
}

// printProxies puts what is wrong with a proxy below the table, in full: a table would cut its words.
func (a *app) printProxies(found []proxy, f proxiesFlags) error {
	switch {
	case f.output != asTable:
		return a.printValue(f.output, found)
	case len(found) == 0 && (f.gateway != "" || f.unconfirmed || f.rejected):
		a.say("None of the connected proxies is such.")
		return nil
	case len(found) == 0:
		a.say("No proxy is connected. `rampart bootstrap` writes what an Envoy needs.")
		return nil
	}
	a.printTable(proxyTable(found, a.now()))
	for _, p := range found {
		for _, words := range proxyNotes(p) {
			a.say("%s", a.screen.wrap(p.Proxy+": "+clean(words), "  "))
		}
	}
	if len(f.names) == 0 {
		return nil
	}
	for _, p := range found {
		a.say("\n%s has", p.Proxy)
		a.printTable(resourceTable(p, a.now()))
	}
	return nil
}

// resourceTable is each resource that a proxy asked for.
func resourceTable(p proxy, now time.Time) table {
	t := table{{"TYPE", "NAME", "VERSION", "SINCE", "STATE"}}
	for _, r := range p.Resources {
		version, since, state := "–", "–", "confirmed"
		if r.Version != "" {
			version, since = clean(r.Version), brief(now.Sub(r.Since).Truncate(time.Second))
		}
		switch {
		case r.Rejected != "":
			state = "rejects " + clean(r.Rejected)
		case r.Sent != "":
			state = "was sent " + clean(r.Sent)
		case r.Missing && r.Version == "":
			state = "is not there"
		case r.Missing:
			state = "is to lose it"
		case r.Version == "":
			state = "not sent yet"
		}
		t = append(t, []string{r.Type, clean(r.Name), version, since, state})
	}
	return t
}

// proxyTable counts by the clock of this machine, which may differ from a replica's; brief takes a time in the future as now.
func proxyTable(found []proxy, now time.Time) table {
	t := table{{"PROXY", "GATEWAY", "ENVOY", "CONNECTED", "DEAD-MAN", "CONFIRMED", "REJECTED", "LAST REPORT"}}
	for _, p := range found {
		confirmed, rejected, reported := "all", "–", "–"
		if !p.LastReport.IsZero() {
			reported = brief(now.Sub(p.LastReport)) + " ago"
		}
		if open := p.Pending + len(p.Rejections); open > 0 {
			confirmed = fmt.Sprintf("all but %d", open)
		} else if !p.Known {
			confirmed = "–"
		}
		if len(p.Rejections) > 0 {
			rejected = fmt.Sprint(len(p.Rejections))
		}
		t = append(t, []string{
			p.Proxy, p.Gateway, strings.TrimPrefix(p.Version, "Envoy "), brief(now.Sub(p.Connected).Truncate(time.Second)), p.Deadman,
			confirmed, rejected, reported,
		})
	}
	return t
}

// proxyNotes is what does not fit into the table.
func proxyNotes(p proxy) []string {
	var notes []string
	if !p.Known {
		notes = append(notes, fmt.Sprintf("its gateway %q does not exist: it gets nothing new", p.Gateway))
	}
	if p.Duplicate {
		notes = append(notes, "another stream has the same node id: both are counted")
	}
	if p.Dated != "" {
		notes = append(notes, p.Dated)
	}
	if p.Frozen != "" {
		notes = append(notes, "gets nothing new: "+p.Frozen)
	}
	for _, words := range p.Rejections {
		notes = append(notes, "rejected "+words)
	}
	return notes
}
