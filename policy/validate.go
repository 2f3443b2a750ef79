package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The bounds of what documents may ask for.
const (
	longestTime  = Duration(365 * 24 * time.Hour) // sums of a plan's times stay far from overflow
	shortestTime = Duration(time.Millisecond)     // Envoy counts in milliseconds, and takes 0 for none
	leastFactor  = 1.01                           // a factor closer to 1 would give a plan thousands of rungs
	mostFactor   = 10000
	mostRatio    = 1000
	mostSlower   = 100                              // live's times
	longestP99   = Duration(2 * time.Minute)        // beyond the last bound of the judge's histograms nothing is told apart
	shortestBlip = Duration(250 * time.Millisecond) // a turn of the judge
	longestBlip  = Duration(5 * time.Second)        // what lasts longer is no blip
	oftenest     = Duration(time.Second)            // Prometheus is not ours to load
	rarest       = Duration(5 * time.Minute)        // answers that are older say nothing of a release
	longestWord  = 253
)

// check collects the problems of a finished value. Their places are not known here.
type check struct{ problems Problems }

// bad notes a problem at a path.
func (c *check) bad(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// wants notes a problem if a rule found one.
func (c *check) wants(path, problem string) {
	if problem != "" {
		c.bad(path, "%s", problem)
	}
}

// problems checks a service as it was written, without defaults, by itself. What it must fit in with is for Accept.
func (s Service) problems() Problems {
	c := &check{}
	c.wants("service", nameProblem(s.Name, "service: shop"))
	for i, name := range s.Gateways {
		c.wants(item("gateways", i), nameProblem(name, "default"))
	}
	repeated(c, "gateways", s.Gateways, func(name string) string { return name })
	if len(s.Hosts) == 0 {
		c.bad("hosts", "missing; expected a list such as [shop.example.com]")
	}
	for i, host := range s.Hosts {
		c.wants(item("hosts", i), hostProblem(host))
	}
	repeated(c, "hosts", s.Hosts, strings.ToLower)
	for i, route := range s.Routes {
		c.route(item("routes", i), route)
	}
	c.backends(s)
	c.plan(s.Plan)
	c.analysis(s)
	return c.problems
}

// repeated notes items that were given before, compared by what same makes of them. A zero is an item that could not be read.
func repeated[T any, K comparable](c *check, path string, items []T, same func(T) K) {
	first := map[K]int{}
	for i, one := range items {
		key := same(one)
		earlier, again := first[key]
		switch {
		case key == *new(K):
		case again:
			c.bad(item(path, i), "the same as %s", item(path, earlier))
		default:
			first[key] = i
		}
	}
}

// route checks one route. Envoy takes the path as it came over the wire, so that what could never match is refused.
func (c *check) route(path string, route Route) {
	match := path + ".match"
	if route.Match.Path != "" && route.Match.Prefix != "" {
		c.bad(match, "both `path` and `prefix`; expected one of them")
	}
	c.wants(match+".path", pathProblem(route.Match.Path))
	c.wants(match+".prefix", pathProblem(route.Match.Prefix))
	for i, method := range route.Match.Methods {
		c.wants(item(match+".methods", i), methodProblem(method))
	}
	repeated(c, match+".methods", route.Match.Methods, func(method string) string { return method })
	c.headers(match+".headers", route.Match.Headers)
	c.time(path+".timeout", route.Timeout)
	c.time(path+".tryTimeout", route.TryTimeout)
	// The try's time is compared with what will be in force, which may be the default.
	whole := defaultTimeout
	if route.Timeout != nil {
		whole = *route.Timeout
	}
	if route.TryTimeout != nil && whole != 0 && *route.TryTimeout > whole {
		c.bad(path+".tryTimeout", "%s is longer than the timeout of the whole request (%s)", *route.TryTimeout, whole)
	}
}

// headers checks the names in a fixed order, so that the same document always gets the same answer.
func (c *check) headers(path string, headers map[string]string) {
	names := slices.Sorted(maps.Keys(headers))
	first := map[string]string{}
	for _, name := range names {
		at, lower := under(path, name), strings.ToLower(name)
		c.wants(at, headerProblem(name, headers[name]))
		if earlier, again := first[lower]; again {
			c.bad(at, "the same header as %s; case makes no difference", earlier)
		}
		first[lower] = name
	}
}

// time checks a duration: none, or from a millisecond to a year.
func (c *check) time(path string, d *Duration) {
	switch {
	case d == nil || *d == 0:
	case *d < shortestTime:
		c.bad(path, "%s is shorter than a millisecond", *d)
	case *d > longestTime:
		c.bad(path, "%s is longer than a year (%s)", *d, longestTime)
	}
}

// backends checks each backend, and that the wish names one of them.
func (c *check) backends(s Service) {
	if len(s.Backends) == 0 {
		c.bad("backends", `missing; expected a mapping such as {blue: {revision: "v1", endpoints: ["10.0.0.1:8080"]}}`)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Backends)) {
		path := under("backends", name)
		c.wants(path, nameProblem(name, "blue"))
		c.backend(path, s.Backends[name])
	}
	// Without any backend the wish cannot be right, and saying so helps nobody.
	_, there := s.Backends[s.Serve]
	switch {
	case s.Serve == "":
		c.bad("serve", "missing; expected the name of a backend, such as serve: blue")
	case !there && len(s.Backends) > 0:
		text := fmt.Sprintf("no backend is named %s", quoted(s.Serve))
		if meant := nearest(s.Serve, slices.Sorted(maps.Keys(s.Backends))); meant != "" {
			text += fmt.Sprintf("; did you mean `%s`?", clip(meant))
		}
		c.bad("serve", "%s", text)
	}
}

// backend checks one backend. One with neither endpoints nor dns is legal: a release to it stays gated until it has some.
func (c *check) backend(path string, b Backend) {
	c.wants(path+".revision", wordProblem(b.Revision))
	if len(b.Endpoints) > 0 && b.DNS != "" {
		c.bad(path, "both `endpoints` and `dns`; expected one of them")
	}
	for i, endpoint := range b.Endpoints {
		c.wants(item(path+".endpoints", i), endpointProblem(endpoint))
	}
	repeated(c, path+".endpoints", b.Endpoints, canonicalAddress)
	if b.DNS != "" {
		c.wants(path+".dns", dnsProblem(b.DNS))
	}
	if protocols := []Protocol{"", HTTP1, HTTP2, GRPC}; !slices.Contains(protocols, b.Protocol) {
		c.bad(path+".protocol", "%s; expected http1, http2 or grpc", quoted(string(b.Protocol)))
	}
	if b.Health == nil {
		return
	}
	if b.Health.Path == "" {
		c.bad(path+".health.path", "missing; expected a path such as /healthz")
	}
	c.wants(path+".health.path", requestPathProblem(b.Health.Path))
}

// plan checks a plan without its defaults: what was not given is right.
func (c *check) plan(p Plan) {
	c.shape(p)
	c.steps(p.Steps)
	if p.Linear != nil {
		if p.Linear.Over == 0 {
			c.bad("plan.linear.over", "missing; expected a duration such as 10m")
		}
		c.time("plan.linear.over", &p.Linear.Over)
	}
	if p.Exponential != nil {
		c.exponential(*p.Exponential)
	}
	if p.Evidence != nil && p.Evidence.From > climbTop {
		c.bad("plan.evidence.from", "%s; expected at most %s: so far the evidence leads", shown(p.Evidence.From), shown(climbTop))
	}
	c.time("plan.warmup", p.Warmup)
	c.time("plan.soak", p.Soak)
	c.time("plan.bake", p.Bake)
	c.time("plan.keep", p.Keep)
	// With more than half held back, the bake would compare the wrong way round.
	if p.Holdback != nil && *p.Holdback > Full/2 {
		c.bad("plan.holdback", "%s; expected at most 50%%", shown(*p.Holdback))
	}
	// A quorum of nothing would confirm steps that no proxy has seen.
	if p.Quorum != nil && *p.Quorum < Full/100 {
		c.bad("plan.quorum", "%s; expected 1%% to 100%%", shown(*p.Quorum))
	}
	if p.Patience == nil {
		return
	}
	c.time("plan.patience.for", &p.Patience.For)
	if ends := []PatienceEnd{"", ThenPause, ThenRollback}; !slices.Contains(ends, p.Patience.Then) {
		c.bad("plan.patience.then", "%s; expected pause or rollback", quoted(string(p.Patience.Then)))
	}
}

// shown prints a weight or a share as documents hold it.
func shown(percentage fmt.Stringer) string { return strings.ReplaceAll(percentage.String(), " ", "") }

// shape notes every shape of a plan after its first.
func (c *check) shape(p Plan) {
	first := ""
	shapes := []shape{
		{"steps", len(p.Steps) > 0}, {"linear", p.Linear != nil}, {"exponential", p.Exponential != nil}, {"evidence", p.Evidence != nil},
		{"cutover", p.Cutover != nil},
	}
	for _, s := range shapes {
		switch {
		case !s.given:
		case first == "":
			first = s.name
		default:
			c.bad("plan."+s.name, "the plan has `%s` already; expected one of steps, linear, exponential, evidence and cutover", first)
		}
	}
}

// shape is the name of a plan's shape and whether it is given.
type shape struct {
	name  string
	given bool
}

// steps must rise: a step down would be a rollback, and an equal one a longer soak.
func (c *check) steps(steps []Weight) {
	for i, step := range steps {
		switch {
		case step == 0:
			c.bad(item("plan.steps", i), "0%%; expected more: live has everything before the first step")
		case i > 0 && step <= steps[i-1]:
			c.bad(item("plan.steps", i), "%s is not above the step before it (%s)", shown(step), shown(steps[i-1]))
		}
	}
}

// exponential checks what was given; zeros stand for defaults.
func (c *check) exponential(e Exponential) {
	if e.From >= Full {
		c.bad("plan.exponential.from", "%s; expected less than 100%%, or plan: {cutover: {}}", shown(e.From))
	}
	// The comparison is written so that it also refuses what is no number.
	if e.Factor != 0 && !(e.Factor >= leastFactor && e.Factor <= mostFactor) {
		c.bad("plan.exponential.factor", "%v; expected %v to %d", e.Factor, leastFactor, mostFactor)
	}
	c.time("plan.exponential.every", &e.Every)
}

// problems checks a gateway as it was written, without defaults, by itself.
func (g Gateway) problems() Problems {
	c := &check{}
	c.wants("gateway", nameProblem(g.Name, "gateway: edge"))
	if g.Listeners == nil && g.Name != DefaultGateway {
		c.bad("listeners", "missing; expected a list such as [{address: 0.0.0.0, port: 8080}], or [] for listeners of your own")
	}
	for i, l := range g.Listeners {
		path := item("listeners", i)
		c.wants(path+".address", listenProblem(l.Address))
		if l.Port < 1 || l.Port > 65535 {
			c.bad(path+".port", "%d; expected 1 to 65535", l.Port)
		}
	}
	// Envoy would reject the second listener, and then serve the first alone.
	repeated(c, "listeners", g.Listeners, Listener.canonical)
	if g.Deadman == nil {
		return c.problems
	}
	if d := Duration(*g.Deadman); d != 0 && d < Duration(time.Second) {
		c.bad("deadman", "%s; expected at least 1s, or off", d)
	}
	c.time("deadman", (*Duration)(g.Deadman))
	return c.problems
}
