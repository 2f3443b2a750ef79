package policy_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
)

// addTranscripts gives a fuzz target the documents of the transcripts to begin with.
func addTranscripts(f *testing.F) {
	files, err := filepath.Glob("testdata/documents/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no transcripts: %v", err)
	}
	f.Add([]byte(shop))
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i := 0; i < len(archive.Files); i += 2 {
			f.Add(archive.Files[i].Data)
		}
	}
}

// TestDifferencesAreInTheOperatorsWords edits one document and reads what apply would show.
func TestDifferencesAreInTheOperatorsWords(t *testing.T) {
	const base = `service: shop
hosts: [shop.example.com, b.example.com]
routes:
  - match: {prefix: /a, methods: [GET, PUT], headers: {x-tier: gold}}
  - timeout: 20s
backends:
  blue: {revision: v41, endpoints: ["10.0.0.1:8080", "10.0.0.2:8080"]}
  green: {revision: v42, dns: "green:80"}
serve: blue
plan: {steps: [1%, 5%, 100%]}
`
	tests := []struct{ name, old, new, want string }{
		{"nothing", "", "", ""},
		{"wish", "serve: blue", "serve: green", "serve blue → green"},
		{"revision", "v42", "v43", "backends.green.revision v42 → v43"},
		{"host added", "b.example.com", "b.example.com, c.example.com", "hosts + c.example.com"},
		{"host left out", ", b.example.com", "", "hosts − b.example.com"},
		{"hosts in another order", "shop.example.com, b.example.com", "b.example.com, SHOP.example.com", ""},
		{"endpoint changed", "10.0.0.2:8080", "10.0.0.3:8080", "backends.blue.endpoints + 10.0.0.3:8080; backends.blue.endpoints − 10.0.0.2:8080"},
		{"dns to endpoints", `dns: "green:80"`, `endpoints: ["10.0.0.9:80"]`, `backends.green.endpoints + ['10.0.0.9:80']; backends.green.dns − green:80`},
		{"backend added", "serve:", "  canary: {revision: v43}\nserve:", "backends + canary v43"},
		{"backend left out", `  green: {revision: v42, dns: "green:80"}` + "\n", "", "backends − green v42"},
		{"gateway", "hosts:", "gateways: [edge]\nhosts:", "gateways + edge; gateways − default"},
		{"method", "GET, PUT", "GET", "routes[0].match.methods − PUT"},
		{"header", "x-tier: gold", "x-tier: silver", "routes[0].match.headers.x-tier gold → silver"},
		{"route added", "timeout: 20s", "timeout: 20s\n  - match: {path: /x}\n    timeout: 0s", `routes[2] + {match: {path: /x}, timeout: 0s, tryTimeout: 0s}`},
		{"timeout", "timeout: 20s", "timeout: 30s", "routes[1].timeout 20s → 30s; routes[1].tryTimeout 10s → 15s"},
		{"steps", "5%, 100%", "10%, 100%", "plan.steps [1%, 5%, 100%] → [1%, 10%, 100%]"},
		{"shape", "{steps: [1%, 5%, 100%]}", "{linear: {over: 10m}}", "plan.linear + {over: 10m}; plan.steps − [1%, 5%, 100%]"},
		{"cutover", "{steps: [1%, 5%, 100%]}", "{cutover: {}}", "plan.cutover + {}; plan.steps − [1%, 5%, 100%]"},
		{"a default written out", "100%]", "100%], holdback: 5%", ""},
		{"holdback", "100%]", "100%], holdback: 10%", "plan.holdback 5% → 10%"},
		{"patience", "100%]", "100%], patience: {then: rollback}", "plan.patience.then pause → rollback"},
		{"limit", "plan:", "analysis: {limits: {errors: 5%}}\nplan:", "analysis.limits + {errors: 5%}"},
		{"latency off", "plan:", "analysis: {latency: off}\nplan:", "analysis.latency {ratio: 1.1} → off"},
		{"latency's ratio", "plan:", "analysis: {latency: {ratio: 1.5}}\nplan:", "analysis.latency.ratio 1.1 → 1.5"},
		{"p99 and blip", "plan:", "analysis: {limits: {p99: 800ms}, blip: 500ms}\nplan:", "analysis.limits + {p99: 800ms}; analysis.blip + 500ms"},
		{"grpc", "plan:", "analysis: {errors: {grpc: [ABORTED]}}\nplan:", "analysis.errors.grpc + [ABORTED]"},
		{"a quality", "plan:", "analysis: {quality: [{orca: named_metrics.a, better: lower}]}\nplan:", "analysis.quality + [{orca: named_metrics.a, better: lower}]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(base, test.old) {
				t.Fatalf("the document does not contain %q", test.old)
			}
			edited := parsed(t, strings.Replace(base, test.old, test.new, 1)).WithDefaults()
			got := strings.Join(policy.Differences(parsed(t, base).WithDefaults(), edited), "; ")
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestDifferencesOfAnAnalysisNameTheirPlace: lists of quantities are compared one place after the other, and no list is cut before it is compared.
func TestDifferencesOfAnAnalysisNameTheirPlace(t *testing.T) {
	const base = shop + `plan: {steps: [1%, 2%, 3%, 4%, 5%, 6%, 7%, 8%, 9%, 10%, 11%, 12%, 13%, 14%, 15%, 16%, 17%, 18%, 19%]}
analysis:
  errors: {grpc: [ABORTED, NOT_FOUND]}
  latency: off
  quality: [{orca: named_metrics.accuracy, better: higher, margin: 0.01}]
  queries: [{name: gpu, prometheus: 'avg(x{b="{{.Backend}}"})', better: lower}]
`
	tests := []struct{ name, old, new, want string }{
		{"latency on", "  latency: off\n", "", "analysis.latency off → {ratio: 1.1}"},
		{"a quality before it", "quality: [", "quality: [{orca: named_metrics.speed, better: higher}, ",
			"analysis.quality[0].orca named_metrics.accuracy → named_metrics.speed; analysis.quality[0].margin − 0.01; " +
				"analysis.quality[1] + {orca: named_metrics.accuracy, better: higher, margin: 0.01}"},
		{"a query's margin", "better: lower", "better: lower, margin: 2, advisory: true", "analysis.queries[0].margin + 2; analysis.queries[0].advisory + true"},
		{"a query's every", "better: lower", "better: lower, every: 1m", "analysis.queries[0].every 10s → 1m"},
		{"grpc in another order", "[ABORTED, NOT_FOUND]", "[NOT_FOUND, ABORTED]", ""},
		{"grpc", "[ABORTED, NOT_FOUND]", "[ABORTED, CANCELLED]", "analysis.errors.grpc + CANCELLED; analysis.errors.grpc − NOT_FOUND"},
		{"the end of a long list", "19%]", "20%]", "plan.steps changes behind [1%, 2%, 3%, 4%, 5%, 6%, 7%, 8%, 9%, 10%, 11%, 12%, 13%, 14%, 15%, 16%, 17%, 18%…"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			edited := parsed(t, strings.Replace(base, test.old, test.new, 1)).WithDefaults()
			if got := strings.Join(policy.Differences(parsed(t, base).WithDefaults(), edited), "; "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestNoDifferenceIsMissed: two services without differences are written alike, but for the order of what has none.
func TestNoDifferenceIsMissed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := services().Draw(t, "a").WithDefaults(), services().Draw(t, "b").WithDefaults()
		b.Name = a.Name
		// Half of the fields are made equal, so that single differences come up.
		for i, equalise := range []func(){
			func() { b.Backends, b.Serve = a.Backends, a.Serve }, func() { b.Hosts = a.Hosts }, func() { b.Gateways = a.Gateways },
			func() { b.Routes = a.Routes }, func() { b.Plan = a.Plan }, func() { b.Analysis = a.Analysis },
		} {
			if rapid.IntRange(0, 3).Draw(t, "equal") > 0 || i == 0 {
				equalise()
			}
		}
		forth, back := policy.Differences(a, b), policy.Differences(b, a)
		if (len(forth) == 0) != (len(back) == 0) {
			t.Fatalf("forth %q, back %q", forth, back)
		}
		if len(forth) == 0 && sortedLines(a) != sortedLines(b) {
			t.Fatalf("no difference between\n%s\nand\n%s", a.YAML(), b.YAML())
		}
	})
}

// sortedLines is a service's text without the order of its letters: equal for services that differ in order only.
func sortedLines(s policy.Service) string {
	letters := map[rune]int{}
	for _, letter := range string(s.YAML()) {
		letters[letter]++
	}
	var out strings.Builder
	for letter := range rune(128) {
		for range letters[letter] {
			out.WriteRune(letter)
		}
	}
	return out.String()
}
