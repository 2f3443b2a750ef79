package policy_test

import (
	"strings"
	"testing"
	"text/template"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
)

func TestAQueryAsksForOneArm(t *testing.T) {
	tests := map[string]string{
		`avg(x{b="{{.Backend}}"})`:                                    `avg(x{b="green"})`,
		`x{s="{{.Service}}", v="{{ .Revision }}"} {{- /* why */ -}} `: `x{s="shop", v="v\x224\\2"}`,
		"sum(\n  x{b=~'{{.Backend}}|{{.Backend}}'}\n)":                "sum(\n  x{b=~'green|green'}\n)",
	}
	for text, want := range tests {
		got, err := policy.Query{Prometheus: text}.Ask("shop", policy.Ref{Backend: "green", Revision: `v"4\2`})
		if err != nil || got != want {
			t.Errorf("%s\ngot  %s, %v\nwant %s", text, got, err, want)
		}
	}
}

func TestAQueryThatDoesMoreThanNamingFieldsAsksNothing(t *testing.T) {
	for _, text := range []string{
		`{{printf "%1000000000d" 1}}`, `{{range .Backend}}x{{end}}`, `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, `{{.Backend.X}}`, `{{.}}`, `{{$x := .Backend}}`, `{{.Backend`,
		`{{.Backend | html}}`, `{{with .Backend}}{{end}}`, `{{block "b" .}}{{end}}`, `{{"x"}}`, `{{nil}}`,
	} {
		if got, err := (policy.Query{Name: "gpu", Prometheus: text}).Ask("shop", policy.Ref{Backend: "green"}); err == nil || !strings.HasPrefix(err.Error(), "query gpu: ") {
			t.Errorf("%s asks %q, %v", text, got, err)
		}
	}
}

// TestAskingIsWhatTextTemplateWouldDo holds for every template that a document may have.
func TestAskingIsWhatTextTemplateWouldDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := queries().Draw(t, "query")
		var want strings.Builder
		err := template.Must(template.New("").Parse(q.Prometheus)).Execute(&want, map[string]string{"Service": "shop", "Backend": "green", "Revision": "v42"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := q.Ask("shop", policy.Ref{Backend: "green", Revision: "v42"}); err != nil || got != want.String() {
			t.Fatalf("got %q, %v, want %q", got, err, want.String())
		}
	})
}

func TestEveryGRPCStatusHasItsNumber(t *testing.T) {
	for name, want := range map[string]int{"OK": 0, "CANCELLED": 1, "DEADLINE_EXCEEDED": 4, "RESOURCE_EXHAUSTED": 8, "UNAVAILABLE": 14, "UNAUTHENTICATED": policy.GRPCStatuses - 1} {
		if number, known := policy.GRPCStatus(name); number != want || !known {
			t.Errorf("%s: %d, %v", name, number, known)
		}
	}
	if _, known := policy.GRPCStatus("8"); known {
		t.Error("a number is no name")
	}
}
