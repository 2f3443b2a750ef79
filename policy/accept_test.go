package policy_test

import (
	"strings"
	"testing"

	"github.com/rampart-proxy/rampart/policy"
)

// served is a service as it is served, live on blue.
func served(t *testing.T, text string) *policy.Served {
	t.Helper()
	s := parsed(t, text).WithDefaults()
	wish := s.Wish()
	return &policy.Served{Service: s, Accepted: 1, Live: policy.Arm{Ref: wish, Definition: s.Backends[wish.Backend]}}
}

func parsed(t *testing.T, text string) policy.Service {
	t.Helper()
	s, err := policy.ParseService("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// around has the default gateway and edge, and nothing served.
func around() policy.Around {
	gateways := map[string]policy.Gateway{}
	for _, name := range []string{"default", "edge"} {
		gateways[name] = policy.Gateway{Name: name}.WithDefaults()
	}
	return policy.Around{Others: map[string]*policy.Served{}, Gateways: gateways}
}

func expectProblems(t *testing.T, got policy.Problems, want ...string) {
	t.Helper()
	text := strings.Join(want, "\n")
	if got.Error() != text {
		t.Errorf("got:\n%s\nwant:\n%s", got.Error(), text)
	}
}

func TestADocumentThatFitsIsAccepted(t *testing.T) {
	expectProblems(t, policy.Accept(parsed(t, shop).WithDefaults(), around()))
}

// DESIGN §9: of two equal hosts the first served stays and the second is refused by name; `*` is allowed once per gateway.
func TestOfTwoEqualHostsTheFirstServedStays(t *testing.T) {
	a := around()
	a.Others["cart"] = served(t, `{service: cart, hosts: [Shop.Example.com, "*"], gateways: [edge, default], backends: {blue: {}}, serve: blue}`)
	a.Others["elsewhere"] = served(t, `{service: elsewhere, hosts: [free.example.com], gateways: [edge], backends: {blue: {}}, serve: blue}`)
	a.Others["unserved"] = &policy.Served{Refused: &policy.Refusal{Revision: 3}}
	mine := parsed(t, `{service: shop, hosts: [free.example.com, SHOP.example.COM, "*", "*.example.com"], backends: {blue: {}}, serve: blue}`)
	expectProblems(t, policy.Accept(mine.WithDefaults(), a),
		"hosts[1]: shop.example.com is served already by service cart on gateway default",
		"hosts[2]: * is served already by service cart on gateway default")
	a.Others = map[string]*policy.Served{"shop": served(t, shop)}
	expectProblems(t, policy.Accept(parsed(t, shop).WithDefaults(), a))
}

// TestTheSameHostOnAnotherGatewayIsNoClash: gateways are fleets of their own.
func TestTheSameHostOnAnotherGatewayIsNoClash(t *testing.T) {
	a := around()
	a.Others["cart"] = served(t, strings.Replace(shop, "service: shop", "service: cart\ngateways: [edge]", 1))
	expectProblems(t, policy.Accept(parsed(t, shop).WithDefaults(), a))
}

// TestEveryRefusalReadsTheSameEachTime: refusals are stored, and stored again when they differ.
func TestEveryRefusalReadsTheSameEachTime(t *testing.T) {
	a := around()
	for _, name := range strings.Fields("f e d c b a") {
		a.Others[name] = served(t, strings.Replace(shop, "service: shop", "service: "+name, 1))
	}
	first := policy.Accept(parsed(t, shop).WithDefaults(), a).Error()
	for range 50 {
		if again := policy.Accept(parsed(t, shop).WithDefaults(), a).Error(); again != first {
			t.Fatalf("first:\n%s\nagain:\n%s", first, again)
		}
	}
}

// DESIGN §9: a service that names a missing gateway is refused.
func TestAMissingGatewayIsRefused(t *testing.T) {
	mine := parsed(t, "gateways: [edge, egde]\n"+shop).WithDefaults()
	expectProblems(t, policy.Accept(mine, around()), `gateways[1]: no gateway is named "egde"; there are: default, edge`)
}

// DESIGN §9: a new revision of the live backend is refused: its endpoints would change under the traffic.
func TestANewRevisionOfTheLiveBackendIsRefused(t *testing.T) {
	a := around()
	a.Served = served(t, shop)
	next := parsed(t, strings.Replace(shop, "revision: v1", "revision: v2", 1)).WithDefaults()
	expectProblems(t, policy.Accept(next, a), "backends.blue.revision: blue v1 is live; a new revision cannot take its place: deploy v2 to another backend")
}

func TestTheLiveBackendCannotBeLeftOut(t *testing.T) {
	a := around()
	a.Served = served(t, shop)
	next := parsed(t, strings.ReplaceAll(shop, "blue", "green")).WithDefaults()
	expectProblems(t, policy.Accept(next, a), "backends.blue: blue v1 is live and cannot be left out; let another backend serve first")
}

// DESIGN §4: live keeps its capacity, and a pool never shrinks to empty.
func TestTheLiveBackendKeepsEndpoints(t *testing.T) {
	a := around()
	a.Served = served(t, shop)
	empty := parsed(t, strings.Replace(shop, `, endpoints: ["10.0.0.1:8080"]`, "", 1)).WithDefaults()
	expectProblems(t, policy.Accept(empty, a), "backends.blue: blue v1 is live and would have no endpoints")
	dns := parsed(t, strings.Replace(shop, `endpoints: ["10.0.0.1:8080"]`, "dns: blue:80", 1)).WithDefaults()
	expectProblems(t, policy.Accept(dns, a))
	a.Served = served(t, strings.Replace(shop, `, endpoints: ["10.0.0.1:8080"]`, "", 1))
	expectProblems(t, policy.Accept(empty, a))
}

// DESIGN §9: changing the wish back is a rollback, also by a document without the candidate: taking back the commit that added green must take back green.
func TestADocumentWithoutTheCandidateIsARollback(t *testing.T) {
	a := around()
	a.Served = served(t, shop)
	a.Served.Release = &policy.Release{ID: "green-7", Candidate: policy.Arm{Ref: policy.Ref{Backend: "green", Revision: "v2"}}, Phase: policy.Soaking, Weight: 500}
	expectProblems(t, policy.Accept(parsed(t, shop).WithDefaults(), a))
}

func TestAGatewayMayNotListenTwiceOnOneAddress(t *testing.T) {
	g := policy.Gateway{Name: "edge", Listeners: []policy.Listener{{Address: "::1", Port: 80}, {Address: "127.0.0.1", Port: 80}, {Address: "0:0::1", Port: 80}}}
	expectProblems(t, policy.AcceptGateway(g, nil), "listeners[2]: the same as listeners[0]")
	others := map[string]policy.Gateway{"other": {Name: "other", Listeners: g.Listeners[:1]}}
	g.Listeners = g.Listeners[:2]
	expectProblems(t, policy.AcceptGateway(g, others))
}

// DESIGN §9: a list of routes without a catch-all is allowed, with a warning. There is a row for each warning.
func TestLegalButOddDocumentsAreWarnedOf(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"nothing odd":    {shop, nil},
		"no catch-all":   {shop + "routes: [{match: {path: /}}, {match: {prefix: /, methods: [GET]}}]", []string{"routes: no route takes everything: other requests are answered 404"}},
		"never reached":  {shop + "routes: [{match: {prefix: /a}}, {}, {match: {prefix: /b}}]", []string{"routes[2]: is never reached: routes[1] takes everything"}},
		"not idempotent": {shop + "routes: [{tryTimeout: 1s}]", []string{"routes[0].tryTimeout: has no effect: the route is not idempotent"}},
		"idempotent":     {shop + "routes: [{tryTimeout: 1s, idempotent: true}]", nil},
		"above holdback": {shop + "plan: {steps: [1%, 97%, 100%]}", []string{"plan.steps[1]: 97% is left out: the holdback keeps the release at 95%"}},
		"nothing behind": {strings.Replace(shop, "serve:", "  green: {}\nserve:", 1), []string{"backends.green: neither endpoints nor dns: a release to it waits until it has some"}},
		"statuses that count anyway": {strings.Replace(shop, "endpoints", "protocol: grpc, endpoints", 1) + "analysis: {errors: {grpc: [ABORTED, UNAVAILABLE]}}",
			[]string{"analysis.errors.grpc[1]: UNAVAILABLE counts anyway"}},
		"statuses without gRPC": {shop + "analysis: {errors: {grpc: [ABORTED]}}", []string{"analysis.errors.grpc: has no effect: no backend has protocol: grpc"}},
		"a soak without use":    {shop + "plan: {soak: 10s}", []string{"plan.soak: has no effect: the plan climbs by evidence, which takes as long as it takes"}},
		"nothing to serve":      {"{service: shop, hosts: [a], backends: {blue: {}}, serve: blue}", []string{"backends.blue: neither endpoints nor dns: it cannot serve until it has some"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := parsed(t, test.text)
			for _, given := range []policy.Service{s, s.WithDefaults()} {
				if got := policy.Warnings(given); strings.Join(got, "\n") != strings.Join(test.want, "\n") {
					t.Errorf("got %q, want %q", got, test.want)
				}
			}
		})
	}
}
