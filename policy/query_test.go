package policy

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAQueryIsWrittenForEitherArm(t *testing.T) {
	text, err := Query{Prometheus: `avg(q{service="{{.Service}}",backend='{{ .Backend }}',rev="{{- .Revision -}}"})`}.Template()
	if err != nil {
		t.Fatal(err)
	}
	got, err := text.For("shop", Ref{Backend: "green", Revision: `v"1\`})
	if want := `avg(q{service="shop",backend='green',rev="v\x221\\"})`; err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestATemplateIsTextAndNamesOnly(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "missing",
		" ":                                  "missing",
		"avg(q)":                             "the same for both arms",
		`q{s="{{.Service}}"}`:                "the same for both arms",
		`q{s="{{.Color}}"}`:                  "{{.Color}}: expected nothing between braces but",
		`q{s="{{.Backend.Name}}"}`:           "{{.Backend.Name}}: expected nothing",
		`q{s="{{.Backend | printf "%9d"}}"}`: "expected nothing",
		`{{range 1000000000000}}{{end}}{{.Backend}}`:       "expected nothing",
		`{{if .Backend}}a{{end}}{{.Backend}}`:              "expected nothing",
		`{{$a := .Backend}}{{.Backend}}`:                   "expected nothing",
		`{{define "a"}}{{end}}{{.Backend}}`:                "expected nothing",
		`{{define "a"}}{{template "a"}}{{end}}`:            "expected nothing",
		`{{.}}{{.Backend}}`:                                "expected nothing",
		`{{`:                                               "no template",
		`q{{.Backend}`:                                     "no template",
		`{{.Backend}}` + strings.Repeat(" ", longestQuery): "expected at most 8192",
	} {
		if _, err := (Query{Prometheus: text}).Template(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	if _, err := (QueryTemplate{}).For("shop", Ref{}); err == nil {
		t.Error("a template that was not read can be written")
	}
}

// Between double quotes Go and PromQL read the same escapes.
func TestNoValueLeavesItsQuotes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("\"'`\\\n{}x2")))).Draw(t, "value")
		written := inQuotes(value)
		if got, err := strconv.Unquote(`"` + written + `"`); err != nil || got != value {
			t.Fatalf("%q is written %q and read %q, %v", value, written, got, err)
		}
		if strings.ContainsAny(written, "\"'`\n") {
			t.Fatalf("%q is written %q", value, written)
		}
	})
}

func TestAServerIsNamedByAURL(t *testing.T) {
	for server, fine := range map[string]bool{
		"http://prometheus:9090": true, "https://user:word@example.com/prometheus/": true, "http://[::1]:9090": true,
		"": false, "prometheus:9090": false, "http://": false, "http://:9090": false, "ftp://a": false, "http://a?b=c": false, "http://a/#b": false, "http://a b": false, "/a": false, "http://a:b": false,
	} {
		if got := ServerProblem(server); (got == "") != fine {
			t.Errorf("%s: %s", server, got)
		}
	}
}

func FuzzATemplateThatIsAcceptedCanBeWritten(f *testing.F) {
	f.Add(`avg(q{backend="{{.Backend}}"})`)
	f.Add(`{{/* */}}{{.Revision}}`)
	f.Fuzz(func(t *testing.T, text string) {
		template, err := Query{Prometheus: text}.Template()
		if err != nil {
			return
		}
		if _, err := template.For("shop", Ref{Backend: "green", Revision: "v1"}); err != nil || errors.Is(err, errOnlyNames) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
