package replica_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// Every line of bad input: the answer names the place and what was expected, and neither what is served, nor the Envoy's configuration, nor a live answer changes.
func TestBadDocumentsChangeNothing(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	good := r.document("blue")
	steps := "steps: [10%, 50%, 100%]"
	cases := []struct{ name, key, document, wants string }{
		{"unparsable", "shop", "service: [shop", "cannot be read as YAML"},
		{"unknown field", "shop", strings.Replace(good, "plan:", "plam:", 1), "did you mean `plan`"},
		{"unknown field inside", "shop", strings.Replace(good, "soak", "soaq", 1), "did you mean `soak`"},
		{"wrong type", "shop", strings.Replace(good, "hosts: [shop.example.com]", "hosts: 7", 1), "hosts"},
		{"steps that do not rise", "shop", strings.Replace(good, steps, "steps: [10%, 5%, 100%]", 1), "5% is not above the step before it (10%)"},
		{"endpoint that is no address", "shop", strings.Replace(good, r.blue.Address(), "nowhere", 1), "endpoints[0]"},
		{"name that is not the key's", "shop", strings.Replace(good, "service: shop", "service: shopp", 1), "shopp"},
		{"revision that is a number", "shop", strings.Replace(good, `"v2"`, "1.10", 1), "quote it"},
		{"1 MiB", "shop", good + "# " + strings.Repeat("x", 1<<20), "256"},
		{"binary garbage", "shop", "\x00\xff\xfe\x01garbage", ""},
		{"live's new revision", "shop", strings.Replace(good, `"v1"`, `"v9"`, 1), "another backend"},
		{"missing gateway", "shop", strings.Replace(good, "[edge]", "[edgee]", 1), "edgee"},
		{"duplicate host", "cart", strings.Replace(good, "service: shop", "service: cart", 1), "shop"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.unchanged(func() {
				r.put("services/"+c.key, c.document)
				r.until("a refusal", func() (bool, error) {
					said := problems(r.served(c.key))
					return said != "" && strings.Contains(said, c.wants), fmt.Errorf("it says %q", said)
				})
			})
		})
	}
	r.t = t
	r.put("services/shop", good)
	r.untilServed("the good document accepted again", func(s *policy.Served) bool { return s.Refused == nil })
}

// Keys that do not belong there, orders left over, and an Envoy of an unknown gateway are named and otherwise ignored.
func TestStrayKeysAndOldOrdersChangeNothing(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.unchanged(func() {
		r.put("nonsense/key", "x")
		r.untilAlarm("a", "does not belong")
		r.put("orders/shop", "promote")
		r.untilDropped()
		r.envoy("nowhere", "lost-1")
		r.until("the lost proxy flagged", func() (bool, error) {
			for _, p := range r.proxies(0) {
				if p.Proxy == "lost-1" {
					return !p.Known, errors.New("it counts as known")
				}
			}
			return false, errors.New("it is not listed")
		})
	})
	r.begin()
	r.unchanged(func() {
		r.put("orders/shop", "promote green-3")
		r.untilDropped()
	})
}

// untilDropped waits until no order is left.
func (r *rig) untilDropped() {
	r.t.Helper()
	r.until("the order dropped", func() (bool, error) {
		answer, err := r.raw.Get(r.ctx, store.Prefix+"orders/shop")
		return err == nil && len(answer.Kvs) == 0, err
	})
}

// firstDifference shows where two texts part.
func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return fmt.Sprintf("%q became %q", as[i], bs[i])
		}
	}
	return fmt.Sprintf("%d lines became %d", len(as), len(bs))
}
