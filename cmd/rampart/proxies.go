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
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/store"
)

func newProxies(a *app) *cobra.Command {
	var gateway string
	var output format
	command := &cobra.Command{
		Use: "proxies", Short: "List the connected proxies", Args: cobra.NoArgs,
		Long: "Proxies asks every replica for the proxies that are connected to it: what they have confirmed and what they have rejected, in their own words.\n" +
			"DEAD-MAN is how long ramp weights live in that proxy without a living control plane; \"no\" means a gRPC client, or a bootstrap without the ramp layers.",
		RunE: func(c *cobra.Command, _ []string) error { return a.proxies(c.Context(), gateway, output) },
	}
	command.Flags().StringVar(&gateway, "gateway", "", "only proxies of this gateway")
	outputFlag(command, &output, asTable, asYAML, asJSON)
	return command
}

// proxies finds the replicas in etcd and asks them directly: which proxy holds what changes too often to be written into etcd.
func (a *app) proxies(ctx context.Context, gateway string, output format) error {
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
		found, problems := askReplicas(short, reports)
		for _, problem := range problems {
			a.complain("proxies: " + clean(problem))
		}
		if len(problems) == len(reports) {
			return notHere("none of %s could be asked", plural(len(reports), "replica", "replicas"))
		}
		if gateway != "" {
			found = slices.DeleteFunc(found, func(p proxy) bool { return p.Gateway != gateway })
		}
		return a.printProxies(found, output)
	})
}

// proxy is one proxy and the replica that it is connected to.
type proxy struct {
	replica.ProxyView
	Replica string `json:"replica"`
}

// askReplicas collects the proxies of all replicas, sorted by gateway and name. A replica that does not answer is a problem, not the end.
func askReplicas(ctx context.Context, reports map[string]store.Report) (found []proxy, problems []string) {
	found = []proxy{}
	for _, id := range slices.Sorted(maps.Keys(reports)) {
		views, err := askReplica(ctx, reports[id].HTTP)
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
func askReplica(ctx context.Context, address string) ([]replica.ProxyView, error) {
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
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://replica/proxies", nil)
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
func (a *app) printProxies(found []proxy, output format) error {
	if output != asTable {
		return a.printValue(output, found)
	}
	if len(found) == 0 {
		a.say("No proxy is connected. `rampart bootstrap` writes what an Envoy needs.")
		return nil
	}
	a.printTable(proxyTable(found, a.now()))
	for _, p := range found {
		for _, words := range proxyNotes(p) {
			a.say("%s", a.screen.wrap(p.Proxy+": "+clean(words), "  "))
		}
	}
	return nil
}

// proxyTable counts by the clock of this machine, which may differ from a replica's; brief takes a time in the future as now.
func proxyTable(found []proxy, now time.Time) table {
	t := table{{"PROXY", "GATEWAY", "ENVOY", "CONNECTED", "DEAD-MAN", "CONFIRMED", "REJECTED", "LAST REPORT"}}
	for _, p := range found {
		confirmed, rejected := "all", "–"
		if open := p.Pending + len(p.Rejections); open > 0 {
			confirmed = fmt.Sprintf("all but %d", open)
		}
		if len(p.Rejections) > 0 {
			rejected = fmt.Sprint(len(p.Rejections))
		}
		t = append(t, []string{
			p.Proxy, p.Gateway, strings.TrimPrefix(p.Version, "Envoy "), brief(now.Sub(p.Connected).Truncate(time.Second)), p.Deadman,
			confirmed, rejected, brief(now.Sub(p.LastSeen)) + " ago",
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
