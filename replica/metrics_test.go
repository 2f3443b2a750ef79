package replica

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestMetricsAreListedInTheDocs(t *testing.T) {
	code, docs := names(t, "metrics.go", `Name: "(rampart_[a-z_]+)"`), names(t, "../docs/metrics.md", "^\\| `(rampart_[a-z_]+)")
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
