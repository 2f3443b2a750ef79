package envoy

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// pacer is a renderer whose time the test moves. Every change has a revision of its own.
type pacer struct {
	t       rapid.TB
	r       *Renderer
	rev     int64
	now     time.Time
	nobody  map[string]bool // groups without proxies
	has     map[string]map[xds.Key]xds.Resource
	due     time.Time
	updates []xds.Update
	routes  []RoutesPush
}

// newPacer has shop and, if it is large, a service of so many hosts that its gateway's pushes are held. All of it was pushed at the beginning.
func newPacer(t rapid.TB, large bool) *pacer {
	p := &pacer{t: t, r: NewRenderer(), now: time.Unix(1_000_000, 0), nobody: map[string]bool{}, has: map[string]map[xds.Key]xds.Resource{}}
	p.r.SetGateway("edge", &policy.Gateway{Name: "edge"}, 1)
	if large {
		p.r.SetService("big", big(), State{}, 1)
	}
	p.set(shop(), State{})
	return p
}

func big() *policy.Served {
	s := *shop()
	s.Service.Name, s.Service.Hosts = "big", nil
	for i := range largeRoutes / 100 {
		s.Service.Hosts = append(s.Service.Hosts, fmt.Sprintf("%s-%d.example.com", strings.Repeat("x", 100), i))
	}
	return &s
}

// flush is at the next revision.
func (p *pacer) flush() {
	p.rev++
	out := p.r.FlushAt(Moment{Revision: p.rev, Now: p.now, Present: func(group string) bool { return !p.nobody[group] }})
	p.due, p.updates, p.routes = out.Due, out.Updates, out.Routes
	p.publish(out.Updates)
}

func (p *pacer) set(s *policy.Served, st State) {
	p.r.SetService(s.Service.Name, s, st, p.rev+1)
	p.flush()
}

func (p *pacer) pass(d time.Duration) {
	p.now = p.now.Add(d)
	p.flush()
}

// pushed names the groups whose routes went with the last flush.
func (p *pacer) pushed() []string {
	var groups []string
	for _, push := range p.routes {
		groups = append(groups, push.Group)
	}
	slices.Sort(groups)
	return groups
}

// wants is the revision at which a proxy has a service's routes.
func (p *pacer) wants(service, group string) int64 {
	for _, w := range p.r.Confirmed(service)[group] {
		if w.Type == xds.RouteType {
			return w.Revision
		}
	}
	return 0
}

// renamed is shop with other routes.
func renamed(host string) *policy.Served {
	s := shop()
	s.Service.Hosts = []string{host}
	return s
}

func edges() []string { return []string{"edge", "edge/plain"} }

func TestRoutesOfASmallGatewayGoAtOnce(t *testing.T) {
	p := newPacer(t, false)
	for i := range 3 {
		p.set(renamed(fmt.Sprint("h", i)), State{})
		same(t, "pushed", p.pushed(), edges())
	}
}

// DESIGN §4: commits of a gateway within a second go together. The first one does not wait.
func TestRoutesOfALargeGatewayGoOnceInASecond(t *testing.T) {
	p := newPacer(t, true)
	p.pass(time.Second)
	p.set(renamed("a"), State{})
	same(t, "the first", p.pushed(), edges())
	p.set(renamed("b"), State{})
	p.r.SetService("new", renamed("c"), State{}, p.rev+1)
	p.pass(time.Millisecond)
	same(t, "within the second", p.pushed(), []string{})
	if want := p.now.Add(time.Second - time.Millisecond); !p.due.Equal(want) {
		t.Errorf("due at %v, not %v", p.due, want)
	}
	p.pass(time.Second - 2*time.Millisecond)
	same(t, "a moment before", p.pushed(), []string{})
	p.pass(time.Millisecond)
	same(t, "after the second", p.pushed(), edges())
	if push := p.routes[0]; push.Services != 2 || push.Bytes < largeRoutes || !push.Large() || !p.due.IsZero() {
		t.Errorf("it says %+v, and the next is due at %v", push, p.due)
	}
}

// What was published before must not pass for what is held.
func TestHeldRoutesAreConfirmedByNobody(t *testing.T) {
	p := newPacer(t, true)
	p.set(renamed("a"), State{})
	before := p.wants("shop", "edge")
	p.set(renamed("b"), State{})
	if got := p.wants("shop", "edge"); got != math.MaxInt64 {
		t.Errorf("a proxy has them at revision %d", got)
	}
	if got := p.wants("big", "edge"); got > before {
		t.Errorf("the other service, whose routes did not change, waits for revision %d", got)
	}
	p.pass(routesEvery)
	if got := p.wants("shop", "edge"); got != p.rev {
		t.Errorf("a proxy has them at revision %d, they were pushed at %d", got, p.rev)
	}
}

func TestWhatTakesAReleaseBackIsNeverHeld(t *testing.T) {
	for name, c := range map[string]struct {
		phase  policy.Phase
		weight policy.Weight
		routes []string
	}{
		"of the layer, and of routes where there is none": {policy.Soaking, 5000, []string{"edge/plain"}},
		"of the base that was committed":                  {policy.Committing, policy.MaxRunning, edges()},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPacer(t, true)
			p.pass(time.Minute)
			p.set(releasing(shop(), c.phase, c.weight), State{Permit: true})
			p.r.SetService("other", renamed("o"), State{}, p.rev+1)
			p.pass(time.Millisecond)
			p.set(releasing(shop(), c.phase, c.weight), State{Permit: true, Latched: true})
			same(t, "pushed", p.pushed(), c.routes)
			var urgent []string
			for _, u := range p.updates {
				if u.Urgent {
					urgent = append(urgent, u.Group)
				}
			}
			same(t, "urgent", urgent, edges())
			if len(p.updates) < len(urgent) || !p.updates[0].Urgent {
				t.Errorf("something goes before it: %+v", p.updates)
			}
			same(t, "keys", slices.ContainsFunc(p.updates[0].Set, func(r xds.Resource) bool { return r.Key == layerKey() }), true)
		})
	}
}

func TestOnlyWhatTakesTrafficFromACandidateIsUrgent(t *testing.T) {
	p := newPacer(t, false)
	permit := State{Permit: true}
	for _, s := range []*policy.Served{
		releasing(shop(), policy.Gated, 0), releasing(shop(), policy.Soaking, 5000), releasing(shop(), policy.Soaking, 100),
		releasing(shop(), policy.Committing, policy.MaxRunning), committed(releasing(shop(), policy.Committing, policy.MaxRunning)),
	} {
		p.set(s, permit)
		if slices.ContainsFunc(p.updates, func(u xds.Update) bool { return u.Urgent }) {
			t.Errorf("urgent: %+v", s.Release)
		}
	}
}

// Make before break: a cluster that published routes name stays.
func TestClustersOfAServiceThatLeavesStayAsLongAsItsRoutes(t *testing.T) {
	p := newPacer(t, true)
	p.set(renamed("a"), State{})
	p.r.SetService("shop", nil, State{}, p.rev+1)
	p.flush()
	pool := xds.Key{Type: xds.ClusterType, Name: "shop/blue"}
	for _, group := range edges() {
		if _, there := p.has[group][pool]; !there {
			t.Errorf("%s: removed before its routes", group)
		}
	}
	p.pass(routesEvery)
	for _, group := range edges() {
		if _, there := p.has[group][pool]; there {
			t.Errorf("%s: stays", group)
		}
	}
}

// To assemble routes costs as much as there are services, so a weight step must not do it for nobody.
func TestRoutesOfAGroupWithoutProxiesWaitForTheFirst(t *testing.T) {
	p := newPacer(t, true)
	p.nobody["quiet/plain"] = true
	p.r.SetGateway("quiet", &policy.Gateway{Name: "quiet"}, p.rev+1)
	s := shop()
	s.Service.Gateways = []string{"quiet"}
	p.set(releasing(s, policy.Soaking, 100), State{Permit: true})
	same(t, "pushed", p.pushed(), []string{"quiet"})
	p.set(releasing(s, policy.Soaking, 200), State{Permit: true})
	same(t, "after a step", p.pushed(), []string{})
	if !p.r.Owes("quiet/plain") || p.r.Owes("quiet") {
		t.Error("it does not say which group's are not pushed")
	}
	p.r.Press("quiet/plain")
	p.flush()
	same(t, "when one joins", p.pushed(), []string{"quiet/plain"})
	p.set(releasing(s, policy.Soaking, 300), State{Permit: true})
	same(t, "from then on", p.pushed(), []string{"quiet/plain"})
}

// Held or not, what is published in the end is the same; and a proxy that is said to have a service's routes has the newest.
func TestHoldingChangesOnlyWhenRoutesGo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPacer(t, rapid.Bool().Draw(t, "large"))
		eager := newPacer(t, false)
		eager.r = NewRenderer()
		eager.has = map[string]map[xds.Key]xds.Resource{}
		eager.r.SetGateway("edge", &policy.Gateway{Name: "edge"}, 1)
		if p.r.services["big"] != nil {
			eager.r.SetService("big", big(), State{}, 1)
		}
		newest := map[string]*policy.Served{"shop": shop()}
		eager.r.SetService("shop", shop(), State{}, 1)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			name, s, st := drawChange(t)
			p.r.SetService(name, s, st, p.rev+1)
			eager.r.SetService(name, s, st, p.rev+1)
			newest[name] = s
			p.pass(time.Duration(rapid.IntRange(0, 700).Draw(t, "ms")) * time.Millisecond)
			eager.publish(eager.r.Flush(p.rev))
			for name, s := range newest {
				for _, group := range edges() {
					held := p.wants(name, group) == math.MaxInt64
					if s != nil && !held && !bytes.Equal(partOf(p.has[group], name), partOf(eager.has[group], name)) {
						t.Fatalf("%s: a proxy that has not got the newest routes of %s would be said to have them", group, name)
					}
				}
			}
		}
		p.pass(time.Minute)
		for _, group := range edges() {
			if got, want := contents(p.has[group]), contents(eager.has[group]); !maps.Equal(got, want) {
				t.Fatalf("%s: in the end %v is published instead of %v", group, slices.SortedFunc(maps.Keys(got), byKey), slices.SortedFunc(maps.Keys(want), byKey))
			}
		}
	})
}

func (p *pacer) publish(updates []xds.Update) {
	for _, u := range updates {
		if p.has[u.Group] == nil {
			p.has[u.Group] = map[xds.Key]xds.Resource{}
		}
		for _, r := range u.Set {
			p.has[u.Group][r.Key] = r
		}
		for _, key := range u.Remove {
			delete(p.has[u.Group], key)
		}
	}
}

// drawChange is a service that comes, goes, changes its routes, or is somewhere in a release.
func drawChange(t *rapid.T) (string, *policy.Served, State) {
	name := rapid.SampledFrom([]string{"shop", "cart"}).Draw(t, "service")
	s := renamed(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "host"))
	s.Service.Name = name
	st := State{Permit: rapid.Bool().Draw(t, "permit")}
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		return name, nil, st
	case 1:
		return name, releasing(s, policy.Soaking, policy.Weight(rapid.IntRange(0, 9999).Draw(t, "weight"))), st
	case 2:
		return name, releasing(s, policy.Committing, policy.MaxRunning), st
	}
	return name, s, st
}

func partOf(has map[xds.Key]xds.Resource, service string) []byte {
	for _, part := range has[xds.Key{Type: xds.RouteType, Name: "edge"}].Parts {
		if part.Name == service {
			return part.Body
		}
	}
	return nil
}

func contents(has map[xds.Key]xds.Resource) map[xds.Key]string {
	all := map[xds.Key]string{}
	for key, r := range has {
		all[key] = string(whole(r)) + r.Tag
	}
	return all
}
