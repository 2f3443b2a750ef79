package store

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeysAreWhatTheManualSays(t *testing.T) {
	for key, want := range map[string]place{
		"/rampart/v1/services/shop":           {kind: ServiceDoc, name: "shop"},
		"/rampart/v1/gateways/edge":           {kind: GatewayDoc, name: "edge"},
		"/rampart/v1/served/services/shop":    {kind: ServedService, name: "shop"},
		"/rampart/v1/served/gateways/edge":    {kind: ServedGateway, name: "edge"},
		"/rampart/v1/permits/shop/green-12":   {kind: Permit, name: "shop", release: "green-12"},
		"/rampart/v1/pauses/shop":             {kind: Pause, name: "shop"},
		"/rampart/v1/orders/shop":             {kind: Order, name: "shop"},
		"/rampart/v1/beat":                    {kind: Beat},
		"/rampart/v1/adopt":                   {kind: Adopt},
		"/rampart/v1/replicas/a":              {kind: replicaReport, name: "a"},
		"/rampart/v1/services/Shop_1":         {kind: ServiceDoc, name: "Shop_1"},
		"/rampart/v1/services/":               {kind: Stray, name: "/rampart/v1/services/"},
		"/rampart/v1/services/a/b":            {kind: Stray, name: "/rampart/v1/services/a/b"},
		"/rampart/v1/services/a\x00b":         {kind: Stray, name: "/rampart/v1/services/a\x00b"},
		"/rampart/v1/permits/shop":            {kind: Stray, name: "/rampart/v1/permits/shop"},
		"/rampart/v1/permits/shop/":           {kind: Stray, name: "/rampart/v1/permits/shop/"},
		"/rampart/v1/permits/shop/a/b":        {kind: Stray, name: "/rampart/v1/permits/shop/a/b"},
		"/rampart/v1/served/shop":             {kind: Stray, name: "/rampart/v1/served/shop"},
		"/rampart/v1/service/shop":            {kind: Stray, name: "/rampart/v1/service/shop"},
		"/rampart/v1/beats":                   {kind: Stray, name: "/rampart/v1/beats"},
		"/rampart/v1/":                        {kind: Stray, name: "/rampart/v1/"},
		"/elsewhere":                          {kind: Stray, name: "/elsewhere"},
		"/rampart/v1/history/shop/00":         {kind: aside, name: "history/shop/00"},
		"/rampart/v1/evidence/shop":           {kind: aside, name: "evidence/shop"},
		"/rampart/v1/readings/shop/g-1/0001":  {kind: aside, name: "readings/shop/g-1/0001"},
		"/rampart/v1/rollbacks/shop/green-12": {kind: aside, name: "rollbacks/shop/green-12"},
		"/rampart/v1/leader/1a2b":             {kind: aside, name: "leader/1a2b"},
	} {
		if got := parse(key); got != want {
			t.Errorf("parse(%q) = %+v, want %+v", key, got, want)
		}
		if got := parse(key); got.kind != aside && got.key() != key {
			t.Errorf("%+v.key() = %q, want %q", got, got.key(), key)
		}
	}
	if got, want := historyKey("shop", 12), "/rampart/v1/history/shop/00000000000000000012"; got != want {
		t.Errorf("historyKey = %q, want %q", got, want)
	}
}

func TestAKeyIsEitherWatchedOrAside(t *testing.T) {
	folders := append(asideFolders(), "services/", "served/services/", "permits/", "orders/", "beat", "adopt", "", "zebra", "evidencf", "replicas", "\xff")
	rapid.Check(t, func(t *rapid.T) {
		key := Prefix + rapid.SampledFrom(folders).Draw(t, "folder") + rapid.StringN(0, 12, -1).Draw(t, "rest")
		covering := 0
		for _, s := range watchedSpans() {
			if key >= s.from && key < s.end {
				covering++
			}
		}
		kind := parse(key).kind
		inAside := false
		for _, folder := range asideFolders() {
			inAside = inAside || strings.HasPrefix(key, Prefix+folder)
		}
		if want := map[bool]int{true: 0, false: 1}[inAside]; covering != want {
			t.Fatalf("%q (%s) is in %d spans, want %d", key, kind, covering, want)
		}
		if at := parse(key); at.kind != aside && at.key() != key {
			t.Fatalf("%q comes back as %q", key, at.key())
		}
	})
}

func FuzzParsingAKeyNeverLosesIt(f *testing.F) {
	for _, seed := range []string{"/rampart/v1/services/shop", "/rampart/v1/permits/a/b", "", "/rampart/v1/\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if at := parse(key); at.kind != aside && at.key() != key {
			t.Fatalf("%q comes back as %q", key, at.key())
		}
	})
}
