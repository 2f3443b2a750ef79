package policy_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
)

// DESIGN §9: every default is shown by `get --defaults`, here of the smallest document; tryTimeout defaults to half of timeout.
func TestEveryDefaultIsShown(t *testing.T) {
	const want = `service: shop
gateways: [default]
hosts: [shop.example.com]
routes:
  - match:
      prefix: /
    timeout: 15s
    tryTimeout: 7.5s
backends:
  blue:
    revision: v1
    endpoints: ['10.0.0.1:8080']
    protocol: http1
serve: blue
plan:
  evidence:
    from: 1%
  warmup: 30s
  bake: 5s
  holdback: 5%
  patience:
    for: 30m
    then: pause
  quorum: 100%
  keep: 1h
analysis:
  errors:
    ratio: 1.1
    points: 0.01%
  latency:
    ratio: 1.1
  falseRollback: 1%
`
	if got := string(parsed(t, shop).WithDefaults().YAML()); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// DESIGN §9: a plan's default times depend on its shape; a climb by evidence has no use for a soak, and keeps one that was given.
func TestTheTimesOfAPlanDependOnItsShape(t *testing.T) {
	tests := map[string]string{
		"{steps: [1%, 100%]}":                          "steps: [1%, 100%] warmup: 30s soak: 30s bake: 5m",
		"{linear: {over: 10m}}":                        "linear: over: 10m warmup: 30s soak: 30s bake: 5m",
		"{exponential: {}}":                            "exponential: from: 1% factor: 2 every: 30s warmup: 30s soak: 30s bake: 5m",
		"{cutover: {}}":                                "cutover: {} warmup: 30s soak: 30s bake: 5m",
		"{evidence: {}}":                               "evidence: from: 1% warmup: 30s bake: 5s",
		"{evidence: {}, soak: 1m}":                     "evidence: from: 1% warmup: 30s soak: 1m bake: 5s",
		"{evidence: {from: 5%}, bake: 1m, warmup: 0s}": "evidence: from: 5% warmup: 0s bake: 1m",
	}
	for plan, want := range tests {
		_, text, _ := strings.Cut(string(parsed(t, shop+"plan: "+plan).WithDefaults().YAML()), "plan:\n")
		text, _, _ = strings.Cut(text, "  holdback: 5%\n")
		if got := strings.Join(strings.Fields(text), " "); got != want {
			t.Errorf("%s: got %s, want %s", plan, got, want)
		}
	}
}

// DESIGN §9: only the default gateway listens by itself, on 127.0.0.1:10000; `listeners: []` is legal.
func TestOnlyTheDefaultGatewayListensByItself(t *testing.T) {
	tests := []struct {
		gateway policy.Gateway
		want    string
	}{
		{policy.Gateway{Name: "default"}, "gateway: default\nlisteners:\n  - address: 127.0.0.1\n    port: 10000\ndeadman: 15s\n"},
		{policy.Gateway{Name: "default", Listeners: []policy.Listener{}}, "gateway: default\nlisteners: []\ndeadman: 15s\n"},
		{policy.Gateway{Name: "edge"}, "gateway: edge\nlisteners: []\ndeadman: 15s\n"},
		{policy.Gateway{Name: "edge", Deadman: new(policy.Deadman)}, "gateway: edge\nlisteners: []\ndeadman: off\n"},
	}
	for _, test := range tests {
		if got := string(test.gateway.WithDefaults().YAML()); got != test.want {
			t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
		}
	}
}

func TestHostsAndHeadersAreLowerCasedByDefaults(t *testing.T) {
	s := parsed(t, `{service: shop, hosts: [Shop.EXAMPLE.com], routes: [{match: {headers: {X-Tier: Gold}}}], backends: {blue: {}}, serve: blue}`).WithDefaults()
	if s.Hosts[0] != "shop.example.com" || s.Routes[0].Match.Headers["x-tier"] != "Gold" {
		t.Errorf("got %+v", s)
	}
}

// DESIGN §9: a timeout of 0s is none, and nothing else is: Envoy would take half of a tiny one for none, too.
func TestHalfATinyTimeoutIsNotNone(t *testing.T) {
	for timeout, want := range map[string]string{"1ms": "1ms", "3ms": "1ms", "0s": "0s", "1s": "500ms"} {
		s := parsed(t, shop+"routes: [{timeout: "+timeout+"}]").WithDefaults()
		if got := s.Routes[0].TryTimeout.String(); got != want {
			t.Errorf("half of %s: got %s, want %s", timeout, got, want)
		}
	}
}

// TestDefaultsShareNoMemoryAndFillOnce holds for every valid service.
func TestDefaultsShareNoMemoryAndFillOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := services().Draw(t, "service")
		before := string(s.YAML())
		full := s.WithDefaults()
		if again := full.WithDefaults(); !reflect.DeepEqual(again, full) {
			t.Fatalf("filling twice changes\n%s\nto\n%s", full.YAML(), again.YAML())
		}
		scribble(reflect.ValueOf(&full).Elem())
		if after := string(s.YAML()); after != before {
			t.Fatalf("a change of the filled copy changed\n%s\nto\n%s", before, after)
		}
	})
}

// scribble overwrites everything that can be reached through pointers, lists and maps.
func scribble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			scribble(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			scribble(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			scribble(v.Field(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			one := reflect.New(v.Type().Elem()).Elem()
			one.Set(v.MapIndex(key))
			scribble(one)
			v.SetMapIndex(key, one)
		}
	case reflect.String:
		v.SetString("scribbled")
	case reflect.Int, reflect.Int64:
		v.SetInt(4242)
	case reflect.Float64:
		v.SetFloat(42.42)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	}
}

// TestServedCopiesReadBack: the same struct is stored as JSON in the served copy.
func TestServedCopiesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		full := services().Draw(t, "service").WithDefaults()
		data, err := json.Marshal(full)
		if err != nil {
			t.Fatal(err)
		}
		var again policy.Service
		if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(again, full) {
			t.Fatalf("%s\nreads back as %+v, %v", data, again, err)
		}
	})
}
