package envoy_test

import (
	"strings"
	"testing"

	"github.com/rampart-proxy/rampart/envoy"
)

func TestAnOldEnvoyIsToldWhatItLacks(t *testing.T) {
	for version, want := range map[string]string{
		"Envoy 1.40.0": "", "Envoy 1.39.1": "", "Envoy 1.38.2": "refused connections", "Envoy 1.36.0": "errors alone", "Envoy 1.9.0": "oldest Envoy",
		"Envoy 2.0.0": "", "gRPC Go 1.85.0": "", "": "",
	} {
		if got := envoy.Dated(version); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}
