package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// long is a function of so many lines.
func long(lines int) string { return "func f() {\n" + strings.Repeat("\tprintln()\n", lines) + "}\n" }

// short is a number of functions that keep the mean low.
const short = "func g() { println() }\nfunc h() { println() }\nfunc i() { println() }\nfunc j() { println() }\n"

// Each snippet breaks one rule, and beside it lies its twin that just keeps it.
func TestEachRuleCanBeBrokenAndKept(t *testing.T) {
	cases := []struct{ name, file, bad, good, want string }{
		{"length", "xds/a.go", short + long(61), short + long(60), "f has 61 lines"},
		{"mean", "xds/a.go", long(16), long(15), "16.0 lines on average"},
		{"interface", "xds/a.go", "type i interface{ A(); B(); C(); D() }", "type i interface{ A(); B(); C() }", "interface i has 4 methods"},
		{"init", "xds/a.go", "func init() {}", "type t int\nfunc (t) init() {}", "init: "},
		{"get", "xds/a.go", "func GetShop() {}", "func Get() {}\nfunc Getaway() {}", "without Get"},
		{"noun", "xds/a.go", "type PushManager int", "type Manage int", "Manager says nothing"},
		{"noun of a function", "xds/a.go", "func retryHelper() {}", "func help() {}", "Helper says nothing"},
		{"variable", "xds/a.go", "var cache = map[string]int{}", "const cache = 1", "package variable cache"},
		{"pattern", "xds/a.go", `import "regexp"` + "\nvar re = regexp.MustCompile(`a`)", `import "errors"` + "\nvar errGone = errors.New(`gone`)", "package variable re"},
		{"wrapped", "xds/a.go", "var worst int", `import "fmt"` + "\nvar errGone = fmt.Errorf(`gone`)", "package variable worst"},
		{"embedded", "xds/a.go", "var page []byte", "import _ `embed`\n//go:embed page.html\nvar page []byte", "package variable page"},
		{"version", "cmd/rampart/a.go", "var version = `1`", "var version string", "package variable version"},
		{"assertion", "xds/a.go", "var x error = nil\nvar y int", "var _ error = nil", "package variable y"},
		{"now", "store/a.go", `import "time"` + "\nvar _ = time.Now", "func f(now int) {}", "time.Now: "},
		{"since", "policy/a.go", `import "time"` + "\nfunc f(t time.Time) { _ = time.Since(t) }", "func f() {}", "time.Since: "},
		{"now elsewhere", "xds/a.go", `import "time"` + "\nvar _ = time.Now()", "", "time.Now: "},
		{"sleep", "replica/a.go", `import "time"` + "\nfunc f() { time.Sleep(1) }", "", "time.Sleep: "},
		{"sleep in a test", "replica/a_test.go", `import "time"` + "\nfunc f() { time.Sleep(1) }", `import ("time"; _ "testing/synctest")` + "\nfunc f() { time.Sleep(1) }", "time.Sleep: "},
		{"sleep before a fake clock", "replica/a.go", `import ("time"; _ "testing/synctest")` + "\nfunc f() { time.Sleep(1) }", "", "time.Sleep: "},
		{"skip", "xds/a_test.go", `import "testing"` + "\nfunc TestA(t *testing.T) { t.Skip() }", `import "testing"` + "\nfunc TestA(t *testing.T) { s.Skip() }", "t.Skip: "},
		{"edge", "xds/a.go", `import _ "github.com/rampart-proxy/rampart/policy"`, `import _ "google.golang.org/grpc"`, "package xds may not import policy"},
		{"edge below", "policy/judge/a.go", `import _ "github.com/rampart-proxy/rampart/policy"`, "", "package policy/judge may not import policy"},
		{"edge of the judge", "store/a.go", `import _ "github.com/rampart-proxy/rampart/policy/judge"`, `import _ "github.com/rampart-proxy/rampart/policy"`, "package store may not import policy/judge"},
		{"edge of the queries", "queries/a.go", `import _ "github.com/rampart-proxy/rampart/store"`, `import _ "github.com/rampart-proxy/rampart/policy"`, "package queries may not import store"},
		{"edge to the queries", "envoy/a.go", `import _ "github.com/rampart-proxy/rampart/queries"`, "", "package envoy may not import queries"},
		{"edge to cmd", "testenv/a.go", `import _ "github.com/rampart-proxy/rampart/cmd/rampart"`, `import _ "github.com/rampart-proxy/rampart/store"`, "package testenv may not import cmd/rampart"},
		{"stranger", "cache/a.go", `import _ "github.com/rampart-proxy/rampart/policy"`, `import _ "fmt"`, "not in the table"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := problems(t, c.file, c.bad); len(got) != 1 || !strings.Contains(got[0], c.want) {
				t.Errorf("want one problem with %q, got %q", c.want, got)
			}
			if got := problems(t, c.file, c.good); len(got) != 0 {
				t.Errorf("its twin is refused: %q", got)
			}
		})
	}
}

func problems(t *testing.T, name, text string) []string {
	t.Helper()
	s, err := parse(name, []byte("package "+packageOf(name)+"\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	found, _ := inspect([]source{s})
	return found
}

func packageOf(name string) string {
	if strings.HasPrefix(name, "cmd/") {
		return "main"
	}
	return filepath.Base(filepath.Dir(name))
}

func TestClocksAreFreeWhereTheWorldIsReal(t *testing.T) {
	const text = `import "time"` + "\nvar _ = time.Now()"
	for _, file := range []string{"cmd/rampart/a.go", "replica/a.go", "testenv/a.go", "testenv/below/a.go", "policy/a_test.go"} {
		if got := problems(t, file, text); len(got) != 0 {
			t.Errorf("%s: %q", file, got)
		}
	}
	if got := problems(t, "replicas/a.go", text); len(got) != 1 {
		t.Errorf("a folder whose name only begins alike is free, too: %q", got)
	}
}

func TestTestsAreMeasuredForSleepsAndSkipsOnly(t *testing.T) {
	text := long(200) + "func init() {}\nvar cache int\ntype DataManager interface{ A(); B(); C(); D() }\n"
	if got := problems(t, "xds/a_test.go", text); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func TestTheWholeProgramSaysWhereAndFails(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"store/a.go":          "package store\n\nfunc init() {}\n",
		"store/testdata/a.go": "no Go at all",
		".build/a.go":         "no Go at all",
		"tools/go.mod":        "module other\n",
		"tools/a.go":          "package tools\nfunc init() {}\n",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, bad bytes.Buffer
	if status := run(folder, &out, &bad); status != 1 || bad.String() != "store/a.go:3: init: what happens at start is called by main\n" {
		t.Errorf("status %d, problems %q", status, bad.String())
	}
	if err := os.WriteFile(filepath.Join(folder, "store", "a.go"), []byte("package store\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status := run(folder, &out, &bad); status != 0 {
		t.Errorf("status %d of a tree without problems", status)
	}
	if status := run(filepath.Join(folder, "nowhere"), &out, &bad); status != 2 {
		t.Errorf("status %d of a tree that is not there", status)
	}
}
