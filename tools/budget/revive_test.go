package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The linter's settings are a promise, too: each rule that stands for a budget must fire on what just breaks it, and only there.
func TestRevivesBudgetsCanBeBrokenAndKept(t *testing.T) {
	ifs := func(n int) string {
		return "func f(a int) {\n" + strings.Repeat("\tif a > 1 {\n\t\tprintln()\n\t}\n", n) + "}\n"
	}
	nest := func(n int) string {
		return "func f(a bool) {\n" + strings.Repeat("if a {\n", n) + "println()\n" + strings.Repeat("}\n", n) + "}\n"
	}
	// Three lines come before the text: see revive below.
	lines := func(n int) string { return strings.Repeat("// A line.\n", n-3) }
	cases := []struct{ rule, bad, good string }{
		{"cyclomatic", ifs(15), ifs(14)},
		{"max-control-nesting", nest(4), nest(3)},
		{"argument-limit", "func f(a, b, c, d, e int) { println(a, b, c, d, e) }\n", "func f(a, b, c, d int) { println(a, b, c, d) }\n"},
		{"file-length-limit", lines(401), lines(400)},
		{"receiver-naming", "type shop int\n\nfunc (sh shop) f() { println(sh) }\n", "type shop int\n\nfunc (s shop) f() { println(s) }\n"},
		{"exported", "type Shop int\n", "// Shop sells.\ntype Shop int\n"},
		{"exported", "// Sells.\ntype Shop int\n", "// Shop sells.\ntype Shop int\n"},
	}
	binary := filepath.Join(t.TempDir(), "revive")
	build := exec.Command("go", "build", "-o", binary, "github.com/mgechev/revive")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build revive: %v\n%s", err, said)
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			if said, failed := revive(t, binary, c.bad); !failed || !strings.Contains(said, "#"+c.rule+"\n") {
				t.Errorf("the rule does not fire: %s", said)
			}
			if said, failed := revive(t, binary, c.good); failed {
				t.Errorf("its twin is refused: %s", said)
			}
		})
	}
}

// revive lints a package of one file and tells what it said and whether it failed.
func revive(t *testing.T, binary, text string) (said string, failed bool) {
	t.Helper()
	// It is read here, and not by revive alone, so that the test's cached outcome ends with a change of it.
	settings, err := os.ReadFile("../revive.toml")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, content := range map[string]string{
		"revive.toml": string(settings), "go.mod": "module snippet\n\ngo 1.26\n", "a.go": "// Package snippet is linted.\npackage snippet\n\n" + text,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, "-config", "revive.toml", "-formatter", "plain", "-set_exit_status", "./...")
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	return string(out), err != nil
}
