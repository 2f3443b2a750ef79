package policy

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
)

// analysis checks that the judge is asked something sensible (judge.md 2a to 2c). Zeros stand for defaults.
func (c *check) analysis(s Service) {
	a := s.Analysis
	if a.Errors != nil {
		c.margin(*a.Errors)
	}
	// The comparisons with floats are written so that they also refuse what is no number.
	if l := a.Latency; l != nil && l.Ratio != 0 && !(l.Ratio > 1 && l.Ratio <= mostSlower) {
		c.bad("analysis.latency.ratio", "%v; expected more than 1 and at most %d times live's, or latency: off", l.Ratio, mostSlower)
	}
	c.limits(a.Limits)
	// A cheaper promise than 20 % is none, and below 0.01 % real regressions would be seen too late.
	if f := a.FalseRollback; f != nil && (*f < 0.0001 || *f > 0.2) {
		c.bad("analysis.falseRollback", "%s; expected 0.01%% to 20%%", shown(*f))
	}
	if b := a.Blip; b != nil && (*b < shortestBlip || *b > longestBlip || *b%shortestBlip != 0) {
		c.bad("analysis.blip", "%s; expected %s to %s in steps of %s: the judge looks four times a second", *b, shortestBlip, longestBlip, shortestBlip)
	}
	for i, q := range a.Quality {
		path := item("analysis.quality", i)
		c.wants(path+".orca", orcaProblem(q.ORCA))
		c.gauge(path, q.Better, q.Margin)
	}
	repeated(c, "analysis.quality", a.Quality, func(q Quality) string { return q.ORCA })
	for i, q := range a.Queries {
		c.query(item("analysis.queries", i), q, s.Backends)
	}
	repeated(c, "analysis.queries", a.Queries, func(q Query) string { return q.Name })
}

// margin checks what is allowed beyond live's errors, and what else is an error.
func (c *check) margin(m Margin) {
	if m.Ratio != 0 && !(m.Ratio >= 1 && m.Ratio <= mostRatio) {
		c.bad("analysis.errors.ratio", "%v; expected 1 (no worse than live) to %d", m.Ratio, mostRatio)
	}
	if m.Points > 0.5 {
		c.bad("analysis.errors.points", "%s; expected at most 50%%", shown(m.Points))
	}
	for i, name := range m.GRPC {
		c.wants(item("analysis.errors.grpc", i), statusProblem(name))
	}
	repeated(c, "analysis.errors.grpc", m.GRPC, func(name string) string { return name })
}

// statusProblem is the rule for gRPC statuses that are to be errors.
func statusProblem(name string) string {
	const expected = "expected the name of a gRPC status, such as RESOURCE_EXHAUSTED"
	names := grpcNames()
	if number, known := GRPCStatus(name); known && number > 0 {
		return ""
	}
	if name == names[0] {
		return "OK is no error; " + expected
	}
	if meant := nearest(name, names[1:]); meant != "" {
		return fmt.Sprintf("%s is no status of gRPC; did you mean `%s`?", quoted(name), meant)
	}
	return fmt.Sprintf("%s is no status of gRPC; %s", quoted(name), expected)
}

// limits checks what binds whatever live does.
func (c *check) limits(l Limits) {
	if l.Errors != nil && *l.Errors <= 0 {
		c.bad("analysis.limits.errors", "0%%; expected more: every error would be a rollback")
	}
	if l.P99 != nil && (*l.P99 < shortestTime || *l.P99 > longestP99) {
		c.bad("analysis.limits.p99", "%s; expected %s to %s", *l.P99, shortestTime, longestP99)
	}
}

// gauge checks what qualities and queries have in common.
func (c *check) gauge(path string, better Direction, margin float64) {
	const expected = "expected higher or lower: which values are the better ones"
	switch better {
	case Higher, Lower:
	case "":
		c.bad(path+".better", "missing; %s", expected)
	default:
		c.bad(path+".better", "%s; %s", quoted(string(better)), expected)
	}
	if !(margin >= 0) || math.IsInf(margin, 0) {
		c.bad(path+".margin", "%v; expected more than 0, in the quantity's own unit", margin)
	}
}

// orcaProblem is the rule for what requests report of themselves. Proxies count named metrics only where they are present; the other fields count as nothing as soon as
// one report lacks them (envoy-measured.md §14).
func orcaProblem(orca string) string {
	const prefix, expected = "named_metrics.", "expected a named metric such as named_metrics.accuracy"
	name, named := strings.CutPrefix(orca, prefix)
	field, _, _ := strings.Cut(orca, ".")
	fields := []string{"cpu_utilization", "mem_utilization", "application_utilization", "rps_fractional", "eps", "utilization", "request_cost"}
	plain := consists(strings.ToLower(name), lowerLetters+digits+"_-./") && len(name) <= longestWord
	switch {
	case orca == "":
		return "missing; " + expected
	case named && name == "*":
		return fmt.Sprintf("%s is all of them; %s", quoted(orca), expected)
	case named && name != "" && plain:
		return ""
	case !named && slices.Contains(fields, field):
		return fmt.Sprintf("%s is not reported reliably: one answer without it spoils the others'; %s", quoted(orca), expected)
	case !named && plain && field == orca:
		return fmt.Sprintf("%s is no named metric; did you mean `%s%s`?", quoted(orca), prefix, clip(orca))
	}
	return fmt.Sprintf("%s; %s, of letters, digits, _, -, . and /", quoted(orca), expected)
}

// query checks one query. Whether Prometheus understands it, only Prometheus can tell.
func (c *check) query(path string, q Query, backends map[string]Backend) {
	c.wants(path+".name", nameProblem(q.Name, "gpu"))
	c.gauge(path, q.Better, q.Margin)
	c.wants(path+".server", ServerProblem(q.Server))
	if q.Every != 0 && (q.Every < oftenest || q.Every > rarest) {
		c.bad(path+".every", "%s; expected %s to %s", q.Every, oftenest, rarest)
	}
	path += ".prometheus"
	if strings.TrimSpace(q.Prometheus) == "" {
		c.bad(path, "missing; expected PromQL such as %s", queryExample)
		return
	}
	if _, err := q.nodes(); err != nil {
		c.bad(path, "%s", err)
		return
	}
	c.wants(path, q.sameProblem(backends))
}

// sameProblem says why a query would ask both arms the same, and so compare nothing.
func (q Query) sameProblem(backends map[string]Backend) string {
	switch {
	case q.names("Backend"):
		return ""
	case !q.names("Revision"):
		return "asks the same of both backends; name {{.Backend}} or {{.Revision}} in it, such as " + queryExample
	}
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(backends)) {
		revision := backends[name].Revision
		if earlier, again := first[revision]; again {
			return fmt.Sprintf("asks the same of %s and %s, whose revision is %s; name {{.Backend}} in it, too", clip(earlier), clip(name), quoted(revision))
		}
		first[revision] = name
	}
	return ""
}

// ServerProblem is the rule for the address of a Prometheus: what is wrong with it and what was expected; "" is nothing, and so is no address. What comes after the path
// is ours to write.
func ServerProblem(server string) string {
	const expected = "expected a URL such as http://prometheus:9090"
	if server == "" {
		return ""
	}
	address, err := url.Parse(server)
	switch {
	case err != nil || (address.Scheme != "http" && address.Scheme != "https") || address.Hostname() == "":
		return fmt.Sprintf("%s; %s", quoted(server), expected)
	case address.User != nil:
		return "a URL with a password in it; documents can be read by many: " + expected
	case address.RawQuery != "" || address.ForceQuery || address.Fragment != "":
		return fmt.Sprintf("%s; %s, without ? and #", quoted(server), expected)
	}
	return ""
}
