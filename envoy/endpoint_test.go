package envoy

import (
	"bytes"
	"fmt"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"pgregory.net/rapid"
)

// Equal content must have equal bytes, also in a replica of another version: what differs is sent to every proxy.
func TestAnAssignmentIsEncodedAsTheLibraryDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.Custom(func(t *rapid.T) string {
			host := rapid.SampledFrom([]string{"10.0.0.1", "[::1]", "[fd00::a:1]", "", "a b", "::1"}).Draw(t, "host")
			return fmt.Sprintf("%s:%s", host, rapid.SampledFrom([]string{"0", "80", "8080", "65535", "65536", "-1", "x", ""}).Draw(t, "port"))
		})
		addresses := rapid.SliceOfN(rapid.OneOf(address, rapid.String()), 0, 300).Draw(t, "addresses")
		var mark *corev3.Metadata
		if rapid.Bool().Draw(t, "canary") {
			mark = canary()
		}
		if got, want := encodeAssignment("shop/blue", addresses, mark), encode(assignment("shop/blue", addresses, mark)); !bytes.Equal(got, want) {
			t.Fatalf("%q:\n got %x\nwant %x", addresses, got, want)
		}
	})
}
