package policy

import (
	"maps"
	"slices"
	"strings"
)

// Around is what an accepted document must fit in with.
type Around struct {
	Others   map[string]*Served // the other services that are served, by name, without this one; of those that share no host with it any may be left out
	Gateways map[string]Gateway // the gateways that exist, the default one included
	Served   *Served            // what is served of this service; nil: nothing
}

// Accept checks a service against what is around it: the problems that it cannot see by itself. The service must have its defaults. The problems have paths
// but no lines.
func Accept(s Service, around Around) Problems {
	c := &check{}
	for i, name := range s.Gateways {
		if _, there := around.Gateways[name]; !there {
			c.bad(item("gateways", i), "no gateway is named %s; there are: %s", quoted(name), listOf(around.Gateways))
		}
	}
	c.hosts(s, around.Others)
	if around.Served.Serves() {
		c.live(s, around.Served.Live)
	}
	return c.problems
}

// listOf names what there is, not all of it if it is much.
func listOf(gateways map[string]Gateway) string {
	const most = 10
	names := slices.Sorted(maps.Keys(gateways))
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// hosts refuses a host that another service has on a common gateway. Whoever is served first keeps it.
func (c *check) hosts(s Service, others map[string]*Served) {
	// The service's few hosts are looked up for each of possibly thousands of others, not the other way round.
	wished := make(map[string]int, len(s.Hosts))
	for i, host := range s.Hosts {
		wished[strings.ToLower(host)] = i
	}
	from := len(c.problems)
	for name, other := range others {
		if !other.Serves() || name == s.Name {
			continue
		}
		common := commonGateway(s.Gateways, other.Service.Gateways)
		if common == "" {
			continue
		}
		for _, host := range other.Service.Hosts {
			if i, taken := wished[strings.ToLower(host)]; taken {
				c.bad(item("hosts", i), "%s is served already by service %s on gateway %s", host, name, common)
			}
		}
	}
	// The order of a map must not show: a refusal is stored, and stored again when its text differs.
	slices.SortFunc(c.problems[from:], func(a, b Problem) int { return strings.Compare(a.Path+a.Text, b.Path+b.Text) })
	c.problems = slices.Clip(c.problems).sorted()
}

// commonGateway returns the first gateway that is in both lists, or "".
func commonGateway(mine, theirs []string) string {
	for _, name := range mine {
		if slices.Contains(theirs, name) {
			return name
		}
	}
	return ""
}

// live protects the backend that has the traffic: its revision, its place in the document, and its having endpoints. The candidate needs no such rule: a
// document can only leave it out together with the wish for it, and that is a rollback, through which the release keeps its own definition.
func (c *check) live(s Service, live Arm) {
	// The definition in the document is compared, not the one in force: the document is what will be in force.
	path := under("backends", live.Backend)
	next, there := s.Backends[live.Backend]
	switch {
	case !there:
		c.bad(path, "%s is live and cannot be left out; let another backend serve first", live.Ref)
	case next.Revision != live.Revision:
		c.bad(path+".revision", "%s is live; a new revision cannot take its place: deploy %s to another backend", live.Ref, revisionWords(next.Revision))
	case next.empty() && !live.Definition.empty():
		c.bad(path, "%s is live and would have no endpoints", live.Ref)
	}
}

// revisionWords names a revision in a sentence.
func revisionWords(revision string) string {
	if revision == "" {
		return "it"
	}
	return clip(revision)
}

// empty reports whether nothing stands behind a backend.
func (b Backend) empty() bool { return len(b.Endpoints) == 0 && b.DNS == "" }

// AcceptGateway checks a gateway against the others that exist. Each gateway is a fleet of its own, so that only its own listeners can be in each other's way.
func AcceptGateway(g Gateway, _ map[string]Gateway) Problems {
	c := &check{}
	repeated(c, "listeners", g.Listeners, Listener.canonical)
	return c.problems
}

// Warnings tells what is legal in a service and probably not meant.
func Warnings(s Service) []string {
	full := s.WithDefaults()
	c := &check{}
	c.catchAll(full.Routes)
	for i, route := range full.Routes {
		if !route.Idempotent && *route.TryTimeout != halfOf(*route.Timeout) {
			c.bad(item("routes", i)+".tryTimeout", "has no effect: the route is not idempotent")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(full.Backends)) {
		if !full.Backends[name].empty() {
			continue
		}
		effect := "a release to it waits until it has some"
		if name == full.Serve {
			effect = "it cannot serve until it has some"
		}
		c.bad(under("backends", name), "neither endpoints nor dns: %s", effect)
	}
	// A step of 100 % means all but the holdback, and is no mistake.
	top := Full - *full.Plan.Holdback
	for i, step := range full.Plan.Steps {
		if step > top && step < Full {
			c.bad(item("plan.steps", i), "%s is left out: the holdback keeps the release at %s", shown(step), shown(top))
		}
	}
	c.unused(full)
	var words []string
	for _, p := range c.problems {
		words = append(words, p.Error())
	}
	return words
}

// unused looks for what was given and changes nothing.
func (c *check) unused(full Service) {
	if full.Plan.Evidence != nil && full.Plan.Soak != nil {
		c.bad("plan.soak", "has no effect: the plan climbs by evidence, which takes as long as it takes")
	}
	for i, status := range full.Analysis.Errors.GRPC {
		if countedAnyway(status) {
			c.bad(item("analysis.errors.grpc", i), "%s counts anyway", status)
		}
	}
	grpc := slices.ContainsFunc(slices.Collect(maps.Values(full.Backends)), func(b Backend) bool { return b.Protocol == GRPC })
	if len(full.Analysis.Errors.GRPC) > 0 && !grpc {
		c.bad("analysis.errors.grpc", "has no effect: no backend has protocol: grpc")
	}
}

// catchAll looks for requests that no route takes, and for routes that take none.
func (c *check) catchAll(routes []Route) {
	// Two routes that together take everything are not looked for: it is only a warning.
	all := slices.IndexFunc(routes, func(r Route) bool {
		return r.Match.Prefix == "/" && len(r.Match.Methods) == 0 && len(r.Match.Headers) == 0
	})
	if all < 0 {
		c.bad("routes", "no route takes everything: other requests are answered 404")
	}
	for i := range routes {
		if all >= 0 && i > all {
			c.bad(item("routes", i), "is never reached: %s takes everything", item("routes", all))
		}
	}
}
