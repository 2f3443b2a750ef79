package policy

import (
	"strconv"

	"go.yaml.in/yaml/v3"
)

// analysis reads what counts as worse.
func (r *reader) analysis(s spot, v *Analysis) {
	r.mapping(s, "an analysis such as {errors: {ratio: 1.1, points: 0.01%}}", []field{
		{"errors", optional(&v.Errors, r.margin)},
		{"latency", optional(&v.Latency, r.latency)},
		{"limits", func(s spot) { r.limits(s, &v.Limits) }},
		{"falseRollback", optional(&v.FalseRollback, r.share)},
		{"blip", optional(&v.Blip, r.duration)},
		{"quality", filled(r, &v.Quality, "[{orca: named_metrics.accuracy, better: higher}]", r.quality)},
		{"queries", filled(r, &v.Queries, queriesExample, r.query)},
	})
}

const queriesExample = `[{name: gpu, prometheus: 'avg(gpu_queue{backend="{{.Backend}}"})', better: lower}]`

// margin refuses zeros: the judge's boundary needs both numbers (judge.md 2a).
func (r *reader) margin(v *Margin) reading {
	return func(s spot) {
		r.mapping(s, "a margin such as {ratio: 1.1, points: 0.01%}", []field{
			{"ratio", nonzero(r, &v.Ratio, r.decimal(&v.Ratio, "1.1"))},
			{"points", nonzero(r, &v.Points, r.share(&v.Points))},
			{"grpc", filled(r, &v.GRPC, "[RESOURCE_EXHAUSTED]", r.status)},
		})
	}
}

// status reads the name of a gRPC status. People know them by their numbers too, but a document is read by other people.
func (r *reader) status(to *string) reading {
	return func(s spot) {
		number, err := strconv.Atoi(s.node.Value)
		switch {
		case s.node.Kind != yaml.ScalarNode || err != nil:
			r.text(to, "RESOURCE_EXHAUSTED")(s)
		case number >= 0 && number < GRPCStatuses:
			r.bad(s, "%s is a number; write the name: %s", clip(s.node.Value), grpcNames()[number])
		default:
			r.bad(s, "%s", statusProblem(s.node.Value))
		}
	}
}

// latency is a mapping, or the word off: never switched off by a slip.
func (r *reader) latency(v *Latency) reading {
	return func(s spot) {
		const expected = "a margin such as {ratio: 1.1}, or off"
		if s.node.Kind != yaml.ScalarNode {
			r.mapping(s, expected, []field{{"ratio", nonzero(r, &v.Ratio, r.decimal(&v.Ratio, "1.1"))}})
			return
		}
		if !r.expect(s, yaml.ScalarNode, expected) {
			return
		}
		if v.Off = s.node.Value == off; !v.Off {
			r.bad(s, "%s; expected %s", quoted(s.node.Value), expected)
		}
	}
}

// limits has no defaults: what is not given does not bind.
func (r *reader) limits(s spot, v *Limits) {
	r.mapping(s, "limits such as {errors: 5%, p99: 800ms}", []field{
		{"errors", optional(&v.Errors, r.share)},
		{"p99", optional(&v.P99, r.duration)},
	})
}

// quality has two required fields; whether they are there is seen on the finished value.
func (r *reader) quality(v *Quality) reading {
	return func(s spot) {
		r.mapping(s, "a quantity such as {orca: named_metrics.accuracy, better: higher}", []field{
			{"orca", r.text(&v.ORCA, "named_metrics.accuracy")},
			{"better", r.text((*string)(&v.Better), "higher")},
			{"margin", nonzero(r, &v.Margin, r.decimal(&v.Margin, "0.01"))},
		})
	}
}

// query has three required fields; whether they are there is seen on the finished value.
func (r *reader) query(v *Query) reading {
	return func(s spot) {
		r.mapping(s, "a query such as {name: gpu, prometheus: …, better: lower}", []field{
			{"name", r.text(&v.Name, "gpu")},
			{"prometheus", r.text(&v.Prometheus, queryExample)},
			{"server", nonzero(r, &v.Server, r.text(&v.Server, "http://prometheus:9090"))},
			{"better", r.text((*string)(&v.Better), "lower")},
			{"margin", nonzero(r, &v.Margin, r.decimal(&v.Margin, "0.01"))},
			{"every", nonzero(r, &v.Every, r.duration(&v.Every))},
			{"advisory", r.boolean(&v.Advisory)},
		})
	}
}
