package replica

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestMetricsAreListedInTheDocs(t *testing.T) {
	const quoted = `"(rampart_[a-z_]+)"`
	code, docs := append(names(t, "metrics.go", quoted), names(t, "routemetrics.go", quoted)...), names(t, "../docs/metrics.md", "^\\| `(rampart_[a-z_]+)")
	slices.Sort(code)
	if len(code) == 0 || !slices.Equal(code, docs) {
		t.Errorf("the code has %q,\nthe docs list %q", code, docs)
	}
}

func names(t *testing.T, file, pattern string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, match := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(string(data), -1) {
		found = append(found, match[1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestARollbacksCauseHoldsNoNumbersAndNames(t *testing.T) {
	for reason, want := range map[string]string{
		"errors: green 48 % (61 of 127) against blue 0.2 %; evidence 41,000 : 1, limit 100 : 1":                       "errors",
		"errors: green 100 % (12 of 12) in 0.5 s, blue healthy (guard rail)":                                          "guard rail",
		"errors: green 9 % (9 of 100), above its limit of 5 %; evidence 300 : 1":                                      "limit",
		"share seen: edge-2 sends green far less than its 25 % (0 tries where about 21 were due); it cannot reach it": "share seen",
		"too little evidence for 30m: errors: green no requests":                                                      "patience",
		"the wish was changed to canary v4:3":                                                                         "wish",
		"its permit was deleted":                                                                                      "operator",
		"ticket 12: too slow":                                                                                         "operator",
	} {
		if got := cause(reason); got != want {
			t.Errorf("%q is %q, not %q", reason, got, want)
		}
	}
}
