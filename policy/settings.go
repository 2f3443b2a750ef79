package policy

import (
	"encoding/json"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// set has the judges judge by an analysis. Those whose settings change begin their evidence anew, and keep what they know of live; what all of them together had once
// reached counts no more.
func (e *Evidence) set(a Analysis) {
	if print := fingerprint(a); e.Analysis != print {
		e.Analysis, e.Peak = print, 0
	}
	e.shares = sharesOf(a)
	alpha := float64(*a.FalseRollback)
	e.Errors.Judge(errorSettings(a, alpha*e.shares.errors))
	e.Guard.Blip = blipOf(a)
	e.Seen.Judge(judge.SeenSettings{Alpha: alpha * e.shares.seen})
	e.setStatuses(a, alpha)
	e.setLatency(a, alpha)
	quality, queries := make([]Gauge, len(a.Quality)), make([]Gauge, len(a.Queries))
	for i, q := range a.Quality {
		quality[i] = gaugeOf(e.Quality, q.ORCA, e.gaugeSettings(alpha, q.Better, q.Margin))
	}
	for i, q := range a.Queries {
		queries[i] = gaugeOf(e.Queries, q.Name, e.gaugeSettings(alpha, q.Better, q.Margin))
	}
	e.Quality, e.Queries = quality, queries
}

// fingerprint tells analyses apart.
func fingerprint(a Analysis) string {
	h := fnv.New64a()
	// Neither encoding nor hashing what was a document can fail.
	_ = json.NewEncoder(h).Encode(a)
	return strconv.FormatUint(h.Sum64(), 36)
}

func errorSettings(a Analysis, alpha float64) judge.Settings {
	settings := judge.Settings{Alpha: alpha, Ratio: a.Errors.Ratio, Points: float64(a.Errors.Points), Blip: blipOf(a)}
	if a.Limits.Errors != nil {
		settings.Limit = float64(*a.Limits.Errors)
	}
	return settings
}

func blipOf(a Analysis) time.Duration {
	if a.Blip == nil {
		return 0
	}
	return a.Blip.Std()
}

// setStatuses judges the named statuses by the margins of errors, without their limit: that is for all errors together.
func (e *Evidence) setStatuses(a Analysis, alpha float64) {
	if len(a.Errors.GRPC) == 0 {
		e.Statuses = nil
		return
	}
	if e.Statuses == nil {
		e.Statuses = &judge.Errors{}
	}
	settings := errorSettings(a, alpha*e.shares.statuses)
	settings.Limit = 0
	e.Statuses.Judge(settings)
}

func (e *Evidence) setLatency(a Analysis, alpha float64) {
	if !a.judgesLatency() {
		e.Latency = nil
		return
	}
	if e.Latency == nil {
		e.Latency = &judge.Latency{}
	}
	settings := judge.LatencySettings{Alpha: alpha * e.shares.latency, Ratio: a.Latency.Ratio}
	if a.Latency.Off {
		settings.Ratio = math.Inf(1) // beyond which nothing is slow
	}
	if a.Limits.P99 != nil {
		settings.Limit = a.Limits.P99.Std()
	}
	e.Latency.Judge(settings)
}

func (e *Evidence) gaugeSettings(alpha float64, better Direction, margin float64) judge.GaugeSettings {
	return judge.GaugeSettings{Alpha: alpha * e.shares.gauge, HigherIsBetter: better == Higher, Margin: margin}
}

// gaugeOf goes on with the judge of a quantity, or begins one.
func gaugeOf(known []Gauge, name string, settings judge.GaugeSettings) Gauge {
	g := Gauge{Name: name, Judge: &judge.Gauge{}}
	if i := slices.IndexFunc(known, func(g Gauge) bool { return g.Name == name && g.Judge != nil }); i >= 0 {
		g = known[i]
	}
	g.Judge.Judge(settings)
	return g
}
