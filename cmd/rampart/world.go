package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// world is what etcd holds, as far as commands ask for it. It is owned by the goroutine that reads or follows.
type world struct {
	revision int64
	services map[string]*service
	gateways map[string]*gateway
	strays   []string
	lost     []string // what replicas say of services that etcd does not have any more; only asked when it has none
}

// service is everything under one service's keys.
type service struct {
	name      string
	doc       store.Entry
	served    *policy.Served // nil: there is none, or it cannot be read
	servedMod int64
	permits   map[string]bool
	paused    bool
	order     string
}

// gateway is a gateway's document and its served copy.
type gateway struct {
	name   string
	doc    store.Entry
	served *policy.ServedGateway
}

func newWorld() *world {
	return &world{services: map[string]*service{}, gateways: map[string]*gateway{}}
}

// service returns an empty service for one that is not known yet.
func (w *world) service(name string) *service {
	found := w.services[name]
	if found == nil {
		found = &service{name: name, permits: map[string]bool{}}
		w.services[name] = found
	}
	return found
}

// gateway does the same for gateways.
func (w *world) gateway(name string) *gateway {
	found := w.gateways[name]
	if found == nil {
		found = &gateway{name: name}
		w.gateways[name] = found
	}
	return found
}

// apply takes one batch of a listing or of the watch.
func (w *world) apply(b store.Batch) {
	w.revision = b.Revision
	for _, c := range b.Changes {
		switch c.Kind {
		case store.ServiceDoc, store.ServedService, store.Permit, store.Pause, store.Order:
			w.service(c.Name).apply(c)
		case store.GatewayDoc, store.ServedGateway:
			w.gateway(c.Name).apply(c)
		case store.Stray:
			w.strays = slices.DeleteFunc(w.strays, func(s string) bool { return s == c.Name })
			if !c.Deleted {
				w.strays = append(w.strays, c.Name)
			}
		}
	}
}

// apply takes what cannot be read as absent: what is wrong with it is the replicas' to say.
func (v *service) apply(c store.Change) {
	switch c.Kind {
	case store.ServiceDoc:
		v.doc = entryOf(c)
	case store.ServedService:
		v.served, v.servedMod = nil, 0
		if !c.Deleted {
			v.servedMod = c.Mod
			v.served = decoded[policy.Served](c.Value)
		}
	case store.Permit:
		delete(v.permits, c.Release)
		if !c.Deleted {
			v.permits[c.Release] = true
		}
	case store.Pause:
		v.paused = !c.Deleted
	case store.Order:
		v.order = strings.TrimSpace(string(c.Value))
	}
}

func (g *gateway) apply(c store.Change) {
	if c.Kind == store.GatewayDoc {
		g.doc = entryOf(c)
		return
	}
	g.served = nil
	if !c.Deleted {
		g.served = decoded[policy.ServedGateway](c.Value)
	}
}

// entryOf is an empty entry for a deletion.
func entryOf(c store.Change) store.Entry {
	if c.Deleted {
		return store.Entry{}
	}
	return store.Entry{Value: c.Value, Mod: c.Mod, Create: c.Create}
}

// decoded is nil for what cannot be read.
func decoded[T any](value []byte) *T {
	var into T
	if json.Unmarshal(value, &into) != nil {
		return nil
	}
	return &into
}

// there reports whether anything at all is known of the service.
func (v *service) there() bool {
	return v != nil && (v.doc.Mod > 0 || v.servedMod > 0 || len(v.permits) > 0)
}

// release is the running release; nil: none.
func (v *service) release() *policy.Release {
	if v == nil || !v.served.Serves() {
		return nil
	}
	return v.served.Release
}

// wish is the parsed document as it stands in etcd.
func (v *service) wish() (policy.Service, error) {
	return policy.ParseService("services/"+v.name, v.doc.Value)
}

// serviceNames lists the services of which anything is there, sorted.
func (w *world) serviceNames() []string {
	var names []string
	for name, v := range w.services {
		if v.there() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// gatewayNames lists the gateways that have a document or are served, and the default one, which exists always.
func (w *world) gatewayNames() []string {
	names := map[string]bool{policy.DefaultGateway: true}
	for name, g := range w.gateways {
		if g.doc.Mod > 0 || g.served != nil {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// needGateway is an error that names those there are, unless there is this one.
func (w *world) needGateway(name string) error {
	names := w.gatewayNames()
	if slices.Contains(names, name) {
		return nil
	}
	return refusal("there is no gateway %s; there are: %s", name, strings.Join(names, ", "))
}

// servedGateways maps the gateways that exist, the default one included.
func (w *world) servedGateways() map[string]policy.Gateway {
	found := map[string]policy.Gateway{policy.DefaultGateway: policy.Gateway{Name: policy.DefaultGateway}.WithDefaults()}
	for name, g := range w.gateways {
		if g.served.Serves() && !g.served.Gone {
			found[name] = g.served.Gateway
		}
	}
	return found
}

// usersOf lists the services that are served on a gateway.
func (w *world) usersOf(gateway string) []string {
	var names []string
	for _, name := range w.serviceNames() {
		v := w.services[name]
		if v.served.Serves() && slices.Contains(v.served.Service.Gateways, gateway) {
			names = append(names, name)
		}
	}
	return names
}

// known returns a service of which something is in etcd, or says which ones there are.
func (w *world) known(name string) (*service, error) {
	if v := w.services[name]; v.there() {
		return v, nil
	}
	names := w.serviceNames()
	if len(names) == 0 {
		return nil, refusal("there is no service %s, nor any other: `rampart apply FILE` makes one", name)
	}
	return nil, refusal("there is no service %s; there are: %s", name, strings.Join(names, ", "))
}

// readWorld reads everything at one revision.
func readWorld(ctx context.Context, s *store.Store) (*world, error) {
	batch, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	w := newWorld()
	w.apply(batch)
	return w, nil
}

// readService reads one service, and fails when there is nothing of that name.
func readService(ctx context.Context, s *store.Store, name string) (*service, error) {
	view, err := s.Service(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &service{
		name: name, doc: view.Doc, servedMod: view.Served.Mod, permits: map[string]bool{},
		paused: view.Pause.Mod > 0, order: strings.TrimSpace(string(view.Order.Value)),
	}
	for release := range view.Permits {
		v.permits[release] = true
	}
	if v.servedMod > 0 {
		v.served = decoded[policy.Served](view.Served.Value)
	}
	if v.there() {
		return v, nil
	}
	w, err := readWorld(ctx, s)
	if err != nil {
		return nil, err
	}
	if lost := lostOf(ctx, s, w); len(lost) > 0 {
		return nil, refusal("etcd has no service %s, and replicas raise alarms: %s", name, strings.Join(lost, "; "))
	}
	return w.known(name)
}

// lostOf lists what replicas say of services of which etcd has nothing any more. Replicas that cannot be asked say nothing.
func lostOf(ctx context.Context, s *store.Store, w *world) []string {
	short, cancel := context.WithTimeout(ctx, acceptIn)
	defer cancel()
	reports, err := readReports(short, s)
	if err != nil {
		return nil
	}
	lost := map[string]bool{}
	for _, report := range reports {
		for _, alarm := range report.Alarms {
			if name, _, named := strings.Cut(alarm, ": "); named && w.services[name] == nil && !strings.Contains(name, " ") {
				lost[clean(alarm)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(lost))
}

// follow calls each with the world at the start and after every change, until each says that it is done or fails. When ctx ends first, it returns its error.
func follow(ctx context.Context, s *store.Store, each func(*world) (done bool, err error)) error {
	w := newWorld()
	err := s.Watch(ctx, func(b store.Batch) error {
		w.apply(b)
		done, err := each(w)
		if err == nil && done {
			return errEnough
		}
		return err
	})
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err != nil:
		return err
	}
	return ctx.Err()
}

// readReports reads what the replicas report, by replica id.
func readReports(ctx context.Context, s *store.Store) (map[string]store.Report, error) {
	var found map[string]store.Report
	err := s.WatchReplicas(ctx, func(current map[string]store.Report) error {
		found = current
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("read the replicas' reports: %w", errors.Join(err, ctx.Err()))
	}
	return found, nil
}

// evidence is the part of a release's evidence that is shown.
type evidence struct {
	Release string           `json:"release"`
	Latest  policy.Judgement `json:"latest"`
	Rates   policy.Rates     `json:"rates"`
}

// readEvidence returns the evidence of this release; nil while there is none.
func readEvidence(ctx context.Context, s *store.Store, name string, r *policy.Release) (*evidence, error) {
	if r == nil {
		return nil, nil
	}
	data, err := s.Evidence(ctx, name)
	if err != nil {
		return nil, err
	}
	found := decoded[evidence](data)
	if found == nil || found.Release != r.ID {
		return nil, nil
	}
	return found, nil
}

// fleetOf adds up what the replicas say of a release's proxies. known is false while none of them says anything.
func fleetOf(reports map[string]store.Report, name string, r *policy.Release) (fleet policy.Fleet, known bool) {
	if r == nil {
		return fleet, false
	}
	for _, id := range slices.Sorted(maps.Keys(reports)) {
		part, found := reports[id].Releases[name]
		if !found || part.Release != r.ID {
			continue
		}
		known = true
		fleet.Connected += part.Fleet.Connected
		fleet.Ready += part.Fleet.Ready
		fleet.Confirmed += part.Fleet.Confirmed
		fleet.Rejected += part.Fleet.Rejected
		fleet.Slow += part.Fleet.Slow
		fleet.Waiting = append(fleet.Waiting, part.Fleet.Waiting...)
		if part.Fleet.LastAck.After(fleet.LastAck) {
			fleet.LastAck = part.Fleet.LastAck
		}
	}
	return fleet, known
}
