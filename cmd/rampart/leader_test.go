package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/store"
)

// leader decides with policy.Decide as a replica's deciding half does, over a fleet and a judge that the test sets.
type leader struct {
	e     *etcd
	proof *store.Leadership

	mu        sync.Mutex
	elapsed   time.Duration    // guarded by mu: what each turn takes; 0 keeps releases where they are
	fleet     policy.Fleet     // guarded by mu
	judgement policy.Judgement // guarded by mu
	alarms    []string         // guarded by mu
	http      string           // guarded by mu: where /proxies is
	cause     string           // guarded by mu: why the permit was deleted last, if this leader did it
}

// lead elects a leader that takes a turn every 20 ms until the test ends. Its fleet is three proxies that have confirmed everything.
func (e *etcd) lead() *leader {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	proof, err := e.store.Campaign(ctx, store.Candidate{ID: "one", TTL: 5 * time.Second})
	if err != nil {
		e.t.Fatal(err)
	}
	l := &leader{e: e, proof: proof, fleet: policy.Fleet{Connected: 3, Ready: 3, Confirmed: 3}, judgement: policy.Judgement{Verdict: policy.Healthy, Reason: "errors: none"}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx)
	}()
	e.t.Cleanup(func() {
		cancel()
		<-ended
		if err := proof.Resign(context.Background()); err != nil {
			e.t.Error(err)
		}
	})
	return l
}

// set changes what the leader sees from its next turn on.
func (l *leader) set(change func(l *leader)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func (l *leader) run(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := l.turn(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrStale) {
				l.e.t.Errorf("leader: %v", err)
				return
			}
		}
	}
}

func (l *leader) turn(ctx context.Context) error {
	w, err := readWorld(ctx, l.e.store)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	report := store.Report{ID: "one", HTTP: l.http, Alarms: l.alarms, Releases: map[string]store.ReleaseReport{}, Proxies: l.fleet.Connected}
	for _, name := range w.gatewayNames() {
		if err := l.decideGateway(ctx, w.gateway(name)); err != nil {
			return err
		}
	}
	if w, err = readWorld(ctx, l.e.store); err != nil {
		return err
	}
	for _, name := range w.gatewayNames() {
		if !w.gateway(name).decided() {
			return nil // it came meanwhile, and a service that names it with it
		}
	}
	for _, name := range w.serviceNames() {
		v := w.services[name]
		if err := l.decide(ctx, w, v); err != nil {
			return err
		}
		if r := v.release(); r != nil {
			report.Releases[name] = store.ReleaseReport{Release: r.ID, Fleet: l.fleet}
		}
	}
	return l.e.store.PublishReport(ctx, "one", 5*time.Second, report)
}

// decided reports whether the newest document was accepted or refused.
func (g *gateway) decided() bool {
	served := g.served
	return g.doc.Mod == 0 && served == nil || served != nil && (served.Accepted == g.doc.Mod || (served.Refused != nil && served.Refused.Revision == g.doc.Mod))
}

func (l *leader) decideGateway(ctx context.Context, g *gateway) error {
	served := g.served
	if g.decided() {
		return nil
	}
	save := store.Save{Kind: store.ServedGateway, Name: g.name}
	save.Seen.Wish = g.doc.Mod
	next := policy.ServedGateway{Accepted: g.doc.Mod}
	if served != nil {
		next = *served
	}
	if g.doc.Mod > 0 {
		parsed, err := policy.ParseGateway("gateways/"+g.name, g.doc.Value)
		if err != nil {
			next.Refused = &policy.Refusal{Revision: g.doc.Mod, Problems: []string{err.Error()}}
		} else {
			next = policy.ServedGateway{Gateway: parsed.WithDefaults(), Accepted: g.doc.Mod}
		}
		save.Value = next
	}
	return l.saveGateway(ctx, save)
}

// saveGateway reads the served key's revision, which the command line has no use for.
func (l *leader) saveGateway(ctx context.Context, save store.Save) error {
	batch, err := l.e.store.Read(ctx)
	if err != nil {
		return err
	}
	for _, c := range batch.Changes {
		if c.Kind == store.ServedGateway && c.Name == save.Name {
			save.Seen.Served = c.Mod
		}
	}
	_, err = l.e.store.Save(ctx, l.proof, save)
	return err
}

func (l *leader) decide(ctx context.Context, w *world, v *service) error {
	view, err := l.e.store.Service(ctx, v.name)
	if err != nil {
		return err
	}
	turn := policy.Turn{
		Now: time.Now(), Elapsed: max(l.elapsed, 1), Revision: w.revision, // each of its turns is a tick
		Served: v.served, Wish: wishOf(v), Permit: picture{service: v}.permitted(),
		Paused: v.paused, Fleet: l.fleet, Judgement: l.judgement, Deadman: 15 * time.Second,
	}
	if !turn.Permit && v.release() != nil {
		if turn.Cause, err = l.causeOf(ctx, v); err != nil {
			return err
		}
	}
	others := documents{}
	turn.Around = others.around(w).of(turn.Wish.Service, w)
	if words := strings.Fields(v.order); len(words) > 0 {
		turn.Order = &policy.Order{Verb: policy.Verb(words[0]), Mod: view.Order.Mod}
		if len(words) > 1 {
			turn.Order.Release = words[1]
		}
	}
	decision := policy.Decide(turn)
	if decision.Rollback != nil {
		l.cause = decision.Rollback.Reason
		return l.e.store.DeletePermit(ctx, v.name, decision.Rollback.Release)
	}
	if !decision.Save && !decision.Delete && !decision.DropOrder && l.elapsed == 0 {
		return nil
	}
	save := store.Save{
		Kind: store.ServedService, Name: v.name,
		NeedPermit: decision.NeedPermit, CreatePermit: decision.CreatePermit, DeletePermit: decision.DeletePermit, DropOrder: decision.DropOrder,
	}
	save.Seen = store.Seen{Served: view.Served.Mod, Wish: view.Doc.Mod, Pause: view.Pause.Mod, Order: view.Order.Mod}
	if !decision.Delete {
		save.Value = decision.Served
	}
	save.History = lineOf(turn, decision)
	_, err = l.e.store.Save(ctx, l.proof, save)
	return err
}

// causeOf says why a permit is gone: what this leader knows, or what others recorded.
func (l *leader) causeOf(ctx context.Context, v *service) (string, error) {
	records, err := l.e.store.Rollbacks(ctx, v.name)
	for _, record := range records {
		if record.Release == v.release().ID {
			return record.Reason, nil
		}
	}
	return l.cause, err
}

func wishOf(v *service) policy.Wish {
	if v.doc.Mod == 0 {
		return policy.Wish{Gone: true}
	}
	wish := policy.Wish{Mod: v.doc.Mod}
	parsed, err := v.wish()
	if err != nil {
		wish.Problems = strings.Split(err.Error(), "\n")
		return wish
	}
	wish.Service = parsed.WithDefaults()
	return wish
}

func lineOf(turn policy.Turn, decision policy.Decision) *store.Line {
	if len(decision.Events) == 0 {
		return nil
	}
	l := &store.Line{Time: turn.Now}
	var texts []string
	for _, e := range decision.Events {
		l.Event = e.Name
		texts = append(texts, e.Name+": "+e.Text)
	}
	l.Text = strings.Join(texts, "; ")
	if s := decision.Served; s != nil && s.Release != nil {
		l.Release, l.Phase, l.Weight = s.Release.ID, string(s.Release.Phase), int(s.Release.Weight)
	} else if s != nil && s.Last != nil {
		l.Release = s.Last.Release
	}
	return l
}

// awaitPhase waits until the running release is in a phase, at any weight above least.
func (l *leader) awaitPhase(name string, phase policy.Phase, least policy.Weight) *policy.Release {
	l.e.t.Helper()
	var found *policy.Release
	eventually(l.e.t, string(phase), func() bool {
		v, err := readService(context.Background(), l.e.store, name)
		if err != nil {
			return false
		}
		found = v.release()
		return found != nil && found.Phase == phase && found.Weight >= least
	})
	return found
}

// serveProxies lets the leader's report name a replica that answers /proxies.
func (l *leader) serveProxies(views []replica.ProxyView) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/proxies" {
			http.NotFound(w, r)
			return
		}
		if err := json.NewEncoder(w).Encode(views); err != nil {
			l.e.t.Error(err)
		}
	}))
	l.e.t.Cleanup(server.Close)
	l.set(func(l *leader) { l.http = strings.TrimPrefix(server.URL, "http://") })
	eventually(l.e.t, "the report names the replica", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		reports, err := readReports(ctx, l.e.store)
		return err == nil && slices.ContainsFunc([]store.Report{reports["one"]}, func(r store.Report) bool { return r.HTTP == l.http })
	})
}
