package policy

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

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
