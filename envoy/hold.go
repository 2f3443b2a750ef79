package envoy

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/xds"
)

const (
	// largeRoutes is from how many bytes on a gateway's routes are pushed routesEvery at most. They are sent whole, and cost each Envoy's main thread 0.25 s per
	// megabyte (envoy-measured.md §7): below this a push costs it 16 ms, about what it takes for clusters of a new service.
	largeRoutes = 64 << 10
	routesEvery = time.Second
)

// routes is what is known of the routes of one of a gateway's groups. Those of a large gateway are held: the first change after a quiet second goes at once, and
// what follows within the second goes together. What takes a release back is never held. A group without proxies gets nothing until it has one.
type routes struct {
	bytes    int                  // of all members
	owed     map[string]struct{}  // services whose routes changed since they were pushed
	changed  bool                 // must go out, whoever's routes changed
	pressing bool                 // at once
	urgent   bool                 // a release is taken back: at once, and before all else
	present  bool                 // the group has or had a proxy, or all groups get everything
	pushed   time.Time            // last
	leaving  map[xds.Key]struct{} // clusters of services that left, to be removed with their routes
}

func (r *routes) owe(service string, urgent bool) {
	r.owed[service] = struct{}{}
	r.changed, r.urgent = true, r.urgent || urgent
}

func (r *routes) owes(service string) bool {
	_, owed := r.owed[service]
	return owed
}

func (r *routes) forget() {
	clear(r.owed)
	clear(r.leaving)
	r.changed, r.pressing, r.urgent = false, false, false
}

// due is when changed routes may go; zero is at once.
func (r *routes) due() time.Time {
	if r.pressing || r.urgent || r.bytes < largeRoutes || r.pushed.IsZero() {
		return time.Time{}
	}
	return r.pushed.Add(routesEvery)
}

// RoutesPush tells what one push of a gateway's routes costs: each proxy of the group gets so many bytes.
type RoutesPush struct {
	Gateway, Group string
	Bytes          int
	Services       int // whose changes went together
}

// Flushed is what a flush brings about.
type Flushed struct {
	Updates []xds.Update // to be published at the flush's revision, in this order
	Routes  []RoutesPush // that are among them
	Due     time.Time    // when routes that are held may go; zero: none are
}

// Moment is when and for whom a flush is.
type Moment struct {
	Revision int64
	Now      time.Time
	Present  func(group string) bool // the group has proxies
}

// flushing is one flush.
type flushing struct {
	Moment
	all      bool // nothing is held
	services map[string]*rendered
	out      Flushed
}

// goes reports whether the routes of a group go out in this flush, and notes when they will if not.
func (f *fleet) goes(kind int, at *flushing) bool {
	r := &f.routes[kind]
	if !r.changed || f.document == nil {
		return false
	}
	r.present = r.present || at.all || at.Present(groups(f.name)[kind])
	if !r.present {
		return false
	}
	due := r.due()
	if at.all || !at.Now.Before(due) {
		return true
	}
	if at.out.Due.IsZero() || due.Before(at.out.Due) {
		at.out.Due = due
	}
	return false
}

// flushRoutes sets the routes of the groups for which they are due, dates them, and removes what left with them.
func (f *fleet) flushRoutes(urgent, updates *[kinds]xds.Update, at *flushing) {
	for kind := range f.routes {
		if !f.goes(kind, at) {
			continue
		}
		r := &f.routes[kind]
		into := &updates[kind]
		if r.urgent {
			into = &urgent[kind]
		}
		into.Set = append(into.Set, f.routing(kind))
		for service := range r.owed {
			if n := at.services[service]; n != nil {
				n.routes[kind].at = max(n.routes[kind].at, at.Revision)
			}
		}
		for key := range r.leaving {
			updates[kind].Remove = append(updates[kind].Remove, key)
		}
		slices.SortFunc(updates[kind].Remove, byKey)
		at.out.Routes = append(at.out.Routes, RoutesPush{Gateway: f.name, Group: groups(f.name)[kind], Bytes: r.bytes, Services: len(r.owed)})
		r.pushed = at.Now
		r.forget()
	}
}

// routing assembles the routes of one group from its services' shares. A service's routes go to proxies that have its pool; that they ask for the cluster, whose ACK
// means that it is warm, keeps the routes in place when endpoints take over from a name to resolve.
func (f *fleet) routing(kind int) xds.Resource {
	routes := xds.Resource{Key: xds.Key{Type: xds.RouteType, Name: f.name}, Body: encode(routeHead(f.name)), Parts: make([]xds.Part, 0, len(f.members))}
	for _, n := range f.members {
		routes.Parts = append(routes.Parts, xds.Part{Name: n.name, Body: n.routes[kind].body, Needs: n.routeNeeds})
	}
	return routes
}

// routed is the revision at which a proxy of a group has a service's routes; none has them while they are held.
func (f *fleet) routed(kind int, n *rendered) int64 {
	if f.routes[kind].owes(n.name) {
		return math.MaxInt64
	}
	return n.routes[kind].at
}

// Owes reports whether the routes of a group have changed and have not been pushed. A proxy that joins a group without any must get the newest.
func (r *Renderer) Owes(group string) bool {
	f, kind := r.group(group)
	return f != nil && f.routes[kind].changed
}

// Press has the routes of a group go with the next flush, whether a proxy is seen in it or not.
func (r *Renderer) Press(group string) {
	if f, kind := r.group(group); f != nil {
		f.routes[kind].present, f.routes[kind].pressing = true, true
	}
}

// group finds a group's fleet among those that anything is known of.
func (r *Renderer) group(group string) (*fleet, int) {
	kind := layered
	gateway, is := strings.CutSuffix(group, plainSuffix)
	if is {
		kind = plain
	}
	return r.fleets[gateway], kind
}

// Large reports whether it is the push of a large gateway, whose pushes are held.
func (p RoutesPush) Large() bool { return p.Bytes >= largeRoutes }
