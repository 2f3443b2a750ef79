package policy

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document reads a document of either kind, and looks at the finished value as a whole.
func (r *reader) document(s spot, d *Document) {
	// The kind is told by which of the two names is there, wherever it stands. A document with both is a service with an unknown field.
	keys := map[string]bool{}
	for i := 0; i+1 < len(s.node.Content); i += 2 {
		keys[s.node.Content[i].Value] = true
	}
	switch {
	case keys[string(ServiceDocument)]:
		d.Kind, d.Service = ServiceDocument, &Service{}
		r.service(s, d.Service)
		d.Name = d.Service.Name
		r.whole(d.Service.problems())
	case keys[string(GatewayDocument)]:
		d.Kind, d.Gateway = GatewayDocument, &Gateway{}
		r.gateway(s, d.Gateway)
		d.Name = d.Gateway.Name
		r.whole(d.Gateway.problems())
	case s.node.Kind != yaml.MappingNode:
		r.bad(s, "%s; expected a document with `service: <name>` or `gateway: <name>`", kindWords(s.node))
	default:
		r.kindless(s)
	}
}

// kindless says of a document without `service` and `gateway` what may have been meant.
func (r *reader) kindless(s spot) {
	// A document has no more fields than this; comparing takes time.
	for i := 0; i < min(len(s.node.Content), 2*mostProblems); i += 2 {
		key := s.node.Content[i]
		if meant := nearest(key.Value, []string{string(ServiceDocument), string(GatewayDocument)}); meant != "" && !known(key.Value) {
			r.bad(spot{key, under("", key.Value)}, "unknown field; did you mean `%s`?", meant)
			return
		}
	}
	r.bad(s, "neither `service: <name>` nor `gateway: <name>`; one of them says what the document is about")
}

// known reports whether a field of a service or a gateway has this name.
func known(name string) bool {
	return slices.Contains([]string{"gateways", "hosts", "routes", "backends", "serve", "plan", "analysis", "listeners", "deadman"}, name)
}

// whole adds the problems that only the finished value shows.
func (r *reader) whole(problems Problems) {
	for _, p := range problems {
		r.add(p)
	}
}

// The tables below are the documents' fields, in the order in which documents have them.

// service has four required fields; whether they are there is seen on the finished value.
func (r *reader) service(s spot, v *Service) {
	r.mapping(s, "a service", []field{
		{"service", r.text(&v.Name, "shop")},
		{"gateways", filled(r, &v.Gateways, "[default]", r.example("default"))},
		{"hosts", filled(r, &v.Hosts, "[shop.example.com]", r.example("shop.example.com"))},
		{"routes", filled(r, &v.Routes, "[{match: {prefix: /}}]", r.route)},
		{"backends", named(r, &v.Backends, `{blue: {revision: "v1", endpoints: ["10.0.0.1:8080"]}}`, r.backend)},
		{"serve", r.text(&v.Serve, "blue")},
		{"plan", func(s spot) { r.plan(s, &v.Plan) }},
		{"analysis", func(s spot) { r.analysis(s, &v.Analysis) }},
	})
}

// example is text with its example bound, for lists.
func (r *reader) example(example string) func(*string) reading {
	return func(to *string) reading { return r.text(to, example) }
}

// route has no required field: an empty one takes everything.
func (r *reader) route(v *Route) reading {
	return func(s spot) {
		r.mapping(s, "a route such as {match: {prefix: /}, timeout: 15s}", []field{
			{"match", r.match(&v.Match)},
			{"timeout", optional(&v.Timeout, r.duration)},
			{"tryTimeout", optional(&v.TryTimeout, r.duration)},
			{"idempotent", r.boolean(&v.Idempotent)},
		})
	}
}

// match tells a path that was given empty from one that was not given: the first would take everything.
func (r *reader) match(v *Match) reading {
	return func(s spot) {
		r.mapping(s, "a match such as {prefix: /}", []field{
			{"prefix", nonzero(r, &v.Prefix, r.text(&v.Prefix, "/"))},
			{"path", nonzero(r, &v.Path, r.text(&v.Path, "/exact"))},
			{"methods", filled(r, &v.Methods, "[GET]", r.example("GET"))},
			{"headers", named(r, &v.Headers, "{x-tier: gold}", r.example("gold"))},
		})
	}
}

// backend may name what is deployed before anything stands behind it.
func (r *reader) backend(v *Backend) reading {
	return func(s spot) {
		r.mapping(s, `a backend such as {revision: "v1", endpoints: ["10.0.0.1:8080"]}`, []field{
			{"revision", r.text(&v.Revision, `"v1"`)},
			{"endpoints", list(r, &v.Endpoints, `["10.0.0.1:8080"]`, r.example(`"10.0.0.1:8080"`))},
			{"dns", nonzero(r, &v.DNS, r.text(&v.DNS, "green.internal:8080"))},
			{"protocol", nonzero(r, &v.Protocol, r.text((*string)(&v.Protocol), "http1"))},
			{"health", optional(&v.Health, r.health)},
		})
		// An empty list says what no list says: one way to hold it.
		if len(v.Endpoints) == 0 {
			v.Endpoints = nil
		}
	}
}

// health is one field today; a mapping leaves room for intervals.
func (r *reader) health(v *Health) reading {
	return func(s spot) {
		r.mapping(s, "a health check such as {path: /healthz}", []field{{"path", r.text(&v.Path, "/healthz")}})
	}
}

// plan reads all shapes; that only one is given is looked at later, so that the others' problems are told too.
func (r *reader) plan(s spot, v *Plan) {
	r.mapping(s, "a plan such as {evidence: {from: 1%}}", []field{
		{"steps", filled(r, &v.Steps, "[1%, 5%, 25%, 50%, 100%]", r.weight)},
		{"linear", optional(&v.Linear, r.linear)},
		{"exponential", optional(&v.Exponential, r.exponential)},
		{"evidence", optional(&v.Evidence, r.evidence)},
		{"cutover", optional(&v.Cutover, r.cutover)},
		{"warmup", optional(&v.Warmup, r.duration)},
		{"soak", optional(&v.Soak, r.duration)},
		{"bake", optional(&v.Bake, r.duration)},
		{"holdback", optional(&v.Holdback, r.weight)},
		{"patience", optional(&v.Patience, r.patience)},
		{"quorum", optional(&v.Quorum, r.weight)},
		{"keep", optional(&v.Keep, r.duration)},
	})
}

// linear has no default: how long is the operator's to say.
func (r *reader) linear(v *Linear) reading {
	return func(s spot) {
		r.mapping(s, "a shape such as {over: 10m}", []field{{"over", nonzero(r, &v.Over, r.duration(&v.Over))}})
	}
}

// exponential has defaults for each field, so that a written zero is refused.
func (r *reader) exponential(v *Exponential) reading {
	return func(s spot) {
		r.mapping(s, "a shape such as {from: 1%, factor: 2, every: 30s}", []field{
			{"from", nonzero(r, &v.From, r.weight(&v.From))},
			{"factor", nonzero(r, &v.Factor, r.decimal(&v.Factor, "2"))},
			{"every", nonzero(r, &v.Every, r.duration(&v.Every))},
		})
	}
}

// evidence has no clock of its own: the evidence says when.
func (r *reader) evidence(v *Climb) reading {
	return func(s spot) {
		r.mapping(s, "a shape such as {from: 1%}", []field{{"from", nonzero(r, &v.From, r.weight(&v.From))}})
	}
}

// cutover has no field; it is a mapping so that it can get some.
func (r *reader) cutover(*Cutover) reading {
	return func(s spot) { r.mapping(s, "{}", nil) }
}

// patience may be given in part: the rest is default.
func (r *reader) patience(v *Patience) reading {
	return func(s spot) {
		r.mapping(s, "an end such as {for: 30m, then: pause}", []field{
			{"for", nonzero(r, &v.For, r.duration(&v.For))},
			{"then", nonzero(r, &v.Then, r.text((*string)(&v.Then), "pause"))},
		})
	}
}

// gateway may have an empty list of listeners, which differs from none.
func (r *reader) gateway(s spot, v *Gateway) {
	r.mapping(s, "a gateway", []field{
		{"gateway", r.text(&v.Name, "edge")},
		{"listeners", list(r, &v.Listeners, "[{address: 0.0.0.0, port: 8080}]", r.listener)},
		{"deadman", optional(&v.Deadman, r.deadman)},
	})
}

// listener is plain HTTP; tls is not built yet, and so unknown.
func (r *reader) listener(v *Listener) reading {
	return func(s spot) {
		r.mapping(s, "a listener such as {address: 0.0.0.0, port: 8080}", []field{
			{"address", r.text(&v.Address, "0.0.0.0")},
			{"port", r.integer(&v.Port, "8080")},
		})
	}
}

// deadman is a time, or the word off: never zero by accident.
func (r *reader) deadman(v *Deadman) reading { return r.measured(v, "a duration such as 15s, or off") }

// nearest returns the known name that was probably meant by an unknown one, or "". Case, - and _ are not looked at; beyond them, a third of the letters may
// differ.
func nearest(unknown string, names []string) string {
	letters := strings.NewReplacer("-", "", "_", "")
	bare := func(name string) string { return strings.ToLower(letters.Replace(name)) }
	best, least := "", 0
	if len(unknown) > longest {
		return "" // the comparison's time grows with the length
	}
	for _, name := range names {
		if d := distance(bare(unknown), bare(name)); d <= max(1, len(name)/3) && (best == "" || d < least) {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or replace to get from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
