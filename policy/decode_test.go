package policy_test

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
)

// services generates valid services, with and without each optional field.
func services() *rapid.Generator[policy.Service] {
	return rapid.Custom(func(t *rapid.T) policy.Service {
		names := rapid.SliceOfNDistinct(labels(), 1, 4, rapid.ID[string]).Draw(t, "backends")
		s := policy.Service{
			Name:     labels().Draw(t, "name"),
			Gateways: rapid.SliceOfNDistinct(labels(), 0, 3, rapid.ID[string]).Draw(t, "gateways"),
			Hosts:    rapid.SliceOfNDistinct(rapid.StringMatching(`\*|(\*\.)?[a-z0-9]{1,9}(\.[a-z_0-9]{1,9}){0,3}`), 1, 4, rapid.ID[string]).Draw(t, "hosts"),
			Routes:   rapid.SliceOfN(routes(), 0, 3).Draw(t, "routes"),
			Backends: map[string]policy.Backend{},
			Serve:    names[0],
			Plan:     plans().Draw(t, "plan"),
			Analysis: analyses().Draw(t, "analysis"),
		}
		for _, name := range names {
			s.Backends[name] = backends().Draw(t, name)
		}
		// A document holds an empty list as no list.
		if len(s.Gateways) == 0 {
			s.Gateways = nil
		}
		if len(s.Routes) == 0 {
			s.Routes = nil
		}
		return s
	})
}

func labels() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?`).Filter(func(name string) bool { return name != "none" })
}

// maybe draws a value or nothing.
func maybe[T any](t *rapid.T, label string, generator *rapid.Generator[T]) *T {
	if !rapid.Bool().Draw(t, label+"?") {
		return nil
	}
	value := generator.Draw(t, label)
	return &value
}

func durations() *rapid.Generator[policy.Duration] {
	return rapid.Map(rapid.Int64Range(1, int64(365*24*time.Hour/time.Millisecond)), func(ms int64) policy.Duration {
		return policy.Duration(ms) * policy.Duration(time.Millisecond)
	})
}

func weights(least, most int) *rapid.Generator[policy.Weight] {
	return rapid.Map(rapid.IntRange(least, most), func(w int) policy.Weight { return policy.Weight(w) })
}

func shares(least, most int) *rapid.Generator[policy.Share] {
	return rapid.Map(rapid.IntRange(least, most), func(millionths int) policy.Share { return policy.Share(float64(millionths) / 1e6) })
}

func routes() *rapid.Generator[policy.Route] {
	return rapid.Custom(func(t *rapid.T) policy.Route {
		r := policy.Route{Idempotent: rapid.Bool().Draw(t, "idempotent"), TryTimeout: maybe(t, "tryTimeout", durations())}
		if r.TryTimeout != nil {
			r.Timeout = new(policy.Duration(0))
		} else {
			r.Timeout = maybe(t, "timeout", durations())
		}
		path := rapid.StringMatching(`/[!-"$->@-~]{0,12}`)
		switch rapid.IntRange(0, 2).Draw(t, "match") {
		case 1:
			r.Match.Path = path.Draw(t, "path")
		case 2:
			r.Match.Prefix = path.Draw(t, "prefix")
		}
		if rapid.Bool().Draw(t, "more") {
			r.Match.Methods = rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Z][A-Z!#$%&'*+.^_|~-]{0,6}`), 1, 3, rapid.ID[string]).Draw(t, "methods")
			r.Match.Headers = map[string]string{rapid.StringMatching(`x-[a-z!#$%&'*+.^_|~-]{0,6}`).Draw(t, "header"): rapid.StringMatching(`[!-~]([ -~]{0,8}[!-~])?`).Draw(t, "value")}
		}
		return r
	})
}

func backends() *rapid.Generator[policy.Backend] {
	return rapid.Custom(func(t *rapid.T) policy.Backend {
		b := policy.Backend{
			Revision: rapid.OneOf(rapid.SampledFrom([]string{"", "1.10", "true", "null", "~", "off", "2024-01-01", "0x1f", "012", "- a", "a: b", "# c", "'", "<<"}),
				rapid.StringMatching(`[!-~äß漢😀]([ -~äß漢😀]{0,9}[!-~äß漢😀])?`).Filter(func(s string) bool { return s != "`" && !containsBackquote(s) })).Draw(t, "revision"),
			Protocol: rapid.SampledFrom([]policy.Protocol{"", policy.HTTP1, policy.HTTP2, policy.GRPC}).Draw(t, "protocol"),
		}
		switch rapid.IntRange(0, 2).Draw(t, "where") {
		case 1:
			b.DNS = rapid.StringMatching(`[a-z][a-z0-9]{0,5}(\.[a-z][a-z0-9]{0,5})?:[1-9][0-9]{0,3}`).Draw(t, "dns")
		case 2:
			b.Endpoints = rapid.SliceOfNDistinct(rapid.StringMatching(`(10\.[0-9]\.[0-9]\.1[0-9]|\[fd00::[1-9a-f]\]):[1-9][0-9]{0,3}`), 1, 5, rapid.ID[string]).Draw(t, "endpoints")
		}
		if rapid.Bool().Draw(t, "health") {
			b.Health = &policy.Health{Path: rapid.StringMatching(`/[!-~]{0,9}`).Draw(t, "path")}
		}
		return b
	})
}

func containsBackquote(s string) bool {
	for _, letter := range s {
		if letter == '`' {
			return true
		}
	}
	return false
}

func plans() *rapid.Generator[policy.Plan] {
	return rapid.Custom(func(t *rapid.T) policy.Plan {
		p := policy.Plan{
			Warmup: maybe(t, "warmup", durations()), Soak: maybe(t, "soak", durations()), Bake: maybe(t, "bake", durations()), Keep: maybe(t, "keep", durations()),
			Holdback: maybe(t, "holdback", weights(0, 5000)), Quorum: maybe(t, "quorum", weights(100, 10000)),
		}
		if rapid.Bool().Draw(t, "patience") {
			p.Patience = &policy.Patience{Then: rapid.SampledFrom([]policy.PatienceEnd{"", policy.ThenPause, policy.ThenRollback}).Draw(t, "then")}
			p.Patience.For = orZero(maybe(t, "for", durations()))
		}
		switch rapid.IntRange(0, 5).Draw(t, "shape") {
		case 1:
			last := policy.Weight(0)
			for range rapid.IntRange(1, 5).Draw(t, "steps") {
				last += weights(1, 2000).Draw(t, "step")
				p.Steps = append(p.Steps, last)
			}
		case 2:
			p.Linear = &policy.Linear{Over: durations().Draw(t, "over")}
		case 3:
			p.Exponential = &policy.Exponential{From: orZero(maybe(t, "from", weights(1, 9999))), Every: orZero(maybe(t, "every", durations())),
				Factor: orZero(maybe(t, "factor", rapid.Float64Range(1.01, 10000)))}
		case 4:
			p.Evidence = &policy.Climb{From: orZero(maybe(t, "from", weights(1, 5000)))}
		case 5:
			p.Cutover = &policy.Cutover{}
		}
		return p
	})
}

func orZero[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

func analyses() *rapid.Generator[policy.Analysis] {
	return rapid.Custom(func(t *rapid.T) policy.Analysis {
		a := policy.Analysis{
			FalseRollback: maybe(t, "falseRollback", shares(100, 200_000)),
			Limits:        policy.Limits{Errors: maybe(t, "limit", shares(1, 1_000_000)), P99: maybe(t, "p99", milliseconds(1, 120_000))},
			Blip:          maybe(t, "blip", rapid.Map(rapid.IntRange(1, 20), func(n int) policy.Duration { return policy.Duration(n) * policy.Duration(250*time.Millisecond) })),
		}
		if rapid.Bool().Draw(t, "errors") {
			a.Errors = &policy.Margin{Ratio: orZero(maybe(t, "ratio", rapid.Float64Range(1, 1000))), Points: orZero(maybe(t, "points", shares(1, 500_000)))}
			a.Errors.GRPC = someOf(t, "grpc", rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"CANCELLED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}), 1, 3, rapid.ID[string]))
		}
		a.Latency = maybe(t, "latency", rapid.Custom(func(t *rapid.T) policy.Latency {
			off := rapid.Bool().Draw(t, "off")
			if off {
				return policy.Latency{Off: true}
			}
			return policy.Latency{Ratio: orZero(maybe(t, "slower", rapid.Float64Range(1.001, 100)))}
		}))
		a.Quality = someOf(t, "quality", rapid.SliceOfNDistinct(qualities(), 1, 3, func(q policy.Quality) string { return q.ORCA }))
		a.Queries = someOf(t, "queries", rapid.SliceOfNDistinct(queries(), 1, 3, func(q policy.Query) string { return q.Name }))
		return a
	})
}

func milliseconds(least, most int) *rapid.Generator[policy.Duration] {
	return rapid.Map(rapid.IntRange(least, most), func(ms int) policy.Duration { return policy.Duration(ms) * policy.Duration(time.Millisecond) })
}

// someOf draws a list or none at all: no document holds an empty one.
func someOf[T any](t *rapid.T, label string, generator *rapid.Generator[[]T]) []T {
	return orZero(maybe(t, label, generator))
}

func directions() *rapid.Generator[policy.Direction] {
	return rapid.SampledFrom([]policy.Direction{policy.Higher, policy.Lower})
}

// margins are in whatever unit the quantity has.
func margins() *rapid.Generator[float64] {
	return rapid.OneOf(rapid.SampledFrom([]float64{0, 0.01, 5e-324, 1e-7, 1e21, 1e300}), rapid.Float64Range(0, 1000))
}

func qualities() *rapid.Generator[policy.Quality] {
	return rapid.Custom(func(t *rapid.T) policy.Quality {
		return policy.Quality{
			ORCA: "named_metrics." + rapid.StringMatching(`[a-zA-Z0-9_./-]{1,9}`).Draw(t, "orca"), Better: directions().Draw(t, "better"), Margin: margins().Draw(t, "margin"),
		}
	})
}

func queries() *rapid.Generator[policy.Query] {
	return rapid.Custom(func(t *rapid.T) policy.Query {
		text := rapid.StringMatching(`[ -z|~ß漢😀]{0,9}`)
		return policy.Query{
			Name: labels().Draw(t, "name"), Prometheus: "x" + text.Draw(t, "head") + rapid.SampledFrom([]string{"{{.Backend}}", "{{ .Backend }}{{.Service}}\n"}).Draw(t, "field") + text.Draw(t, "tail"),
			Server: rapid.SampledFrom([]string{"", "http://prometheus:9090", "https://[::1]/prefix/"}).Draw(t, "server"), Better: directions().Draw(t, "better"),
			Margin: margins().Draw(t, "margin"), Every: orZero(maybe(t, "every", milliseconds(1000, 300_000))), Advisory: rapid.Bool().Draw(t, "advisory"),
		}
	})
}

// TestWhatIsWrittenReadsBack holds for every valid service, with and without its defaults.
func TestWhatIsWrittenReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := services().Draw(t, "service")
		readsBack(t, s)
		readsBack(t, s.WithDefaults())
	})
}

// fataler is what a test, a fuzz target and a property have in common.
type fataler interface{ Fatalf(string, ...any) }

func readsBack(t fataler, s policy.Service) {
	again, err := policy.ParseService("again", s.YAML())
	if err != nil {
		t.Fatalf("%s\ndoes not read back: %v", s.YAML(), err)
	}
	if !reflect.DeepEqual(again, s) {
		t.Fatalf("%s\nreads back as\n%s\n%#v\n%#v", s.YAML(), again.YAML(), s, again)
	}
	if words := policy.Differences(s, again); len(words) > 0 {
		t.Fatalf("%s\ndiffers from itself: %q", s.YAML(), words)
	}
}

func gatewayReadsBack(t fataler, g policy.Gateway) {
	again, err := policy.ParseGateway("again", g.YAML())
	if err != nil || !reflect.DeepEqual(again, g) {
		t.Fatalf("%s\nreads back as\n%#v\n%#v, %v", g.YAML(), again, g, err)
	}
}

// FuzzParseService looks for panics, and for documents that are read and not read back.
func FuzzParseService(f *testing.F) {
	addTranscripts(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := policy.ParseService("fuzz", data)
		if err != nil {
			bounded(t, err)
			return
		}
		readsBack(t, s)
		readsBack(t, s.WithDefaults())
		policy.Warnings(s)
		policy.Accept(s.WithDefaults(), policy.Around{})
	})
}

// FuzzParseDocuments looks for panics, and for texts that are stored and not read as they were.
func FuzzParseDocuments(f *testing.F) {
	addTranscripts(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		documents, err := policy.ParseDocuments("fuzz", data)
		if err != nil {
			bounded(t, err)
			return
		}
		for _, d := range documents {
			if d.Service != nil {
				again, err := policy.ParseService("again", d.Text)
				if err != nil || !reflect.DeepEqual(again, *d.Service) {
					t.Fatalf("%s\nreads back as %#v, %v", d.Text, again, err)
				}
				readsBack(t, *d.Service)
				continue
			}
			again, err := policy.ParseGateway("again", d.Text)
			if err != nil || !reflect.DeepEqual(again, *d.Gateway) {
				t.Fatalf("%s\nreads back as %#v, %v", d.Text, again, err)
			}
			gatewayReadsBack(t, *d.Gateway)
			gatewayReadsBack(t, d.Gateway.WithDefaults())
		}
	})
}

// bounded fails for an error that is none of Problems, or that is longer per document than a refusal may be.
func bounded(t *testing.T, err error) {
	problems, ok := err.(policy.Problems)
	if !ok || len(problems) == 0 {
		t.Fatalf("%T %v is not Problems", err, err)
	}
	for _, p := range problems {
		if len(p.Error()) > 1000 {
			t.Fatalf("a problem of %d bytes: %s", len(p.Error()), p.Error())
		}
	}
}
