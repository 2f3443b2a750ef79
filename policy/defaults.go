package policy

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// defaultTimeout is how long a whole request may take.
const defaultTimeout = Duration(15 * time.Second)

// WithDefaults returns the service as it is understood: every field that was left out has its default, hosts and header names are in lower case. The result
// shares no memory with s; filling it again changes nothing.
func (s Service) WithDefaults() Service {
	s.Gateways = slices.Clone(s.Gateways)
	if len(s.Gateways) == 0 {
		s.Gateways = []string{DefaultGateway}
	}
	s.Hosts = slices.Clone(s.Hosts)
	for i, host := range s.Hosts {
		s.Hosts[i] = strings.ToLower(host)
	}
	s.Routes = slices.Clone(s.Routes)
	if len(s.Routes) == 0 {
		s.Routes = []Route{{}}
	}
	for i, route := range s.Routes {
		s.Routes[i] = route.withDefaults()
	}
	s.Backends = maps.Clone(s.Backends)
	for name, backend := range s.Backends {
		s.Backends[name] = backend.withDefaults()
	}
	s.Plan = s.Plan.withDefaults()
	s.Analysis = s.Analysis.withDefaults()
	return s
}

// filledPointer returns a new pointer to what p points to, or to the default.
func filledPointer[T any](p *T, otherwise T) *T {
	if p != nil {
		otherwise = *p
	}
	return &otherwise
}

// copied returns a new pointer to what p points to, or nil.
func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// orDefault sets a field of which zero means its default.
func orDefault[T comparable](field *T, otherwise T) {
	if *field == *new(T) {
		*field = otherwise
	}
}

// withDefaults fills the try's time also where nothing is tried again: the route may become idempotent.
func (r Route) withDefaults() Route {
	r.Match.Methods = slices.Clone(r.Match.Methods)
	if r.Match.Path == "" {
		orDefault(&r.Match.Prefix, "/")
	}
	if r.Match.Headers != nil {
		// Envoy compares header names in lower case.
		lower := make(map[string]string, len(r.Match.Headers))
		for name, value := range r.Match.Headers {
			lower[strings.ToLower(name)] = value
		}
		r.Match.Headers = lower
	}
	r.Timeout = filledPointer(r.Timeout, defaultTimeout)
	r.TryTimeout = filledPointer(r.TryTimeout, halfOf(*r.Timeout))
	return r
}

// halfOf halves a timeout without ending at less than a millisecond, which Envoy would take for none.
func halfOf(timeout Duration) Duration {
	if timeout == 0 {
		return 0
	}
	return max(shortestTime, Duration((timeout / 2).Std().Truncate(time.Millisecond)))
}

// withDefaults fills a backend. Its endpoints have no default: it may have none yet.
func (b Backend) withDefaults() Backend {
	b.Endpoints = slices.Clone(b.Endpoints)
	orDefault(&b.Protocol, HTTP1)
	b.Health = copied(b.Health)
	return b
}

// withDefaults fills a plan.
func (p Plan) withDefaults() Plan {
	p = p.withShape().withTimes()
	p.Holdback = filledPointer(p.Holdback, 5*Full/100)
	p.Patience = filledPointer(p.Patience, Patience{})
	orDefault(&p.Patience.For, Duration(30*time.Minute))
	orDefault(&p.Patience.Then, ThenPause)
	p.Quorum = filledPointer(p.Quorum, Full)
	p.Keep = filledPointer(p.Keep, Duration(time.Hour))
	return p
}

// withShape fills the plan's shape, which is the evidence's unless one was given.
func (p Plan) withShape() Plan {
	p.Steps = slices.Clone(p.Steps)
	p.Linear, p.Exponential, p.Evidence, p.Cutover = copied(p.Linear), copied(p.Exponential), copied(p.Evidence), copied(p.Cutover)
	if len(p.Steps) == 0 && p.Linear == nil && p.Exponential == nil && p.Evidence == nil && p.Cutover == nil {
		p.Evidence = &Climb{}
	}
	if e := p.Exponential; e != nil {
		orDefault(&e.From, Full/100)
		orDefault(&e.Factor, 2)
		orDefault(&e.Every, Duration(30*time.Second))
	}
	if e := p.Evidence; e != nil {
		orDefault(&e.From, Full/100)
	}
	return p
}

// withTimes fills the plan's times, which depend on its shape: a climb by evidence soaks as long as the evidence takes, and at its last step little is left to find out.
func (p Plan) withTimes() Plan {
	soak, bake := new(Duration(30*time.Second)), Duration(5*time.Minute)
	if p.Evidence != nil {
		soak, bake = nil, Duration(ClimbBake)
	}
	if p.Soak != nil {
		soak = p.Soak
	}
	p.Warmup = filledPointer(p.Warmup, Duration(30*time.Second))
	p.Soak = copied(soak)
	p.Bake = filledPointer(p.Bake, bake)
	return p
}

// withDefaults fills an analysis with the judge's recommended margins (judge.md 2a, 2b). Limits have no default.
func (a Analysis) withDefaults() Analysis {
	a.Errors = filledPointer(a.Errors, Margin{})
	a.Errors.GRPC = slices.Clone(a.Errors.GRPC)
	orDefault(&a.Errors.Ratio, 1.1)
	orDefault(&a.Errors.Points, 0.0001)
	a.Latency = filledPointer(a.Latency, Latency{})
	if !a.Latency.Off {
		orDefault(&a.Latency.Ratio, 1.1)
	}
	a.Limits.Errors, a.Limits.P99 = copied(a.Limits.Errors), copied(a.Limits.P99)
	a.FalseRollback = filledPointer(a.FalseRollback, 0.01)
	a.Blip = copied(a.Blip)
	a.Quality = slices.Clone(a.Quality)
	a.Queries = slices.Clone(a.Queries)
	for i := range a.Queries {
		orDefault(&a.Queries[i].Every, Duration(10*time.Second))
	}
	return a
}

// WithDefaults returns the gateway as it is understood. Only the default gateway has a listener by default, on loopback; an empty list stays empty.
func (g Gateway) WithDefaults() Gateway {
	switch {
	case g.Listeners != nil:
		g.Listeners = append([]Listener{}, g.Listeners...)
	case g.Name == DefaultGateway:
		g.Listeners = []Listener{{Address: "127.0.0.1", Port: 10000}}
	default:
		g.Listeners = []Listener{}
	}
	g.Deadman = filledPointer(g.Deadman, Deadman(15*time.Second))
	return g
}
