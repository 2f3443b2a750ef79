package replica_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/testenv"
)

// untilWaitsFor waits until the step is held by one proxy of two, which the replica's report names; says is a part of its own words.
func (r *rig) untilWaitsFor(proxy, says string) {
	r.t.Helper()
	r.untilServed("a wait for "+proxy, func(s *policy.Served) bool {
		return s.Release != nil && strings.HasPrefix(s.Release.Waits, "1 of 2 proxies to accept")
	})
	r.until(proxy+" named", func() (bool, error) {
		fleet := r.report("a").Releases["shop"].Fleet
		named := len(fleet.Waiting) == 1 && fleet.Waiting[0].Proxy == proxy && strings.Contains(fleet.Waiting[0].Says, says)
		return named, fmt.Errorf("it names %+v", fleet.Waiting)
	})
}

// DESIGN §4, confirmed steps: a proxy that is connected and never ACKs holds the step, and is named; one that leaves in mid-step is not waited for.
func TestASilentProxyHoldsTheStepUntilItAnswersOrLeaves(t *testing.T) {
	r := releasing(t)
	silent := r.envoys[1]
	t.Cleanup(func() { _ = silent.Resume() })
	for _, step := range []struct {
		from, to policy.Weight
		weight   string
		then     func() error
	}{
		{1000, 5000, "5000", silent.Resume},
		{5000, 9500, "9500", silent.Kill},
	} {
		if err := silent.Pause(); err != nil {
			t.Fatal(err)
		}
		r.put("orders/shop", "advance")
		r.untilWaitsFor("edge-2", "")
		if served := r.served("shop"); served.Release.Phase != policy.Shifting || served.Release.Weight != step.to {
			t.Errorf("it waits in %s at %s", served.Release.Phase, served.Release.Weight)
		}
		r.until("the other proxy moved", func() (bool, error) { return r.weight(0) == step.weight, fmt.Errorf("weight %s", r.weight(0)) })
		if err := step.then(); err != nil {
			t.Fatal(err)
		}
		r.untilServed("the step confirmed", func(s *policy.Served) bool {
			return s.Release != nil && s.Release.Phase != policy.Shifting && s.Release.Weight == step.to
		})
	}
}

// lacking is an Envoy built without an extension: it refuses what needs it.
func (r *rig) lacking(extension string) string {
	r.t.Helper()
	whole := must[string](r.t)(testenv.FindEnvoy())
	path := filepath.Join(r.folder, "lacking-envoy")
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' --disable-extensions '%s' \"$@\"\n", whole, extension)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// second adds the service cart on the gateway other, with an Envoy of its own; it returns where that listens.
func (r *rig) second() (port int) {
	r.t.Helper()
	port = must[int](r.t)(testenv.FreePort())
	r.put("gateways/other", fmt.Sprintf("gateway: other\nlisteners: [{address: 127.0.0.1, port: %d}]\ndeadman: 6s\n", port))
	r.put("services/cart", r.cart("blue"))
	r.envoy("other", "other-1")
	r.until("answers on the other gateway", func() (bool, error) { return r.askAt(port, "cart.example.com") == "v1", nil })
	return port
}

// cart is the document of shop for another service, host and gateway.
func (r *rig) cart(serve string) string {
	return strings.NewReplacer("service: shop", "service: cart", "shop.example.com", "cart.example.com", "[edge]", "[other]").Replace(slow(r.document(serve)))
}

// climbsElsewhere brings the release of cart one step up, to a weight.
func (r *rig) climbsElsewhere(weight policy.Weight) {
	r.t.Helper()
	r.until("a release of cart", func() (bool, error) { return r.served("cart").Release != nil, nil })
	r.put("orders/cart", "advance")
	r.until("cart at "+weight.String(), func() (bool, error) {
		cart := r.served("cart")
		return cart != nil && cart.Release != nil && cart.Release.Phase == policy.Soaking && cart.Release.Weight == weight, nil
	})
}

// DESIGN §4: a NACK holds the climb of the service it is about, with the proxy's own words, and nothing else.
func TestARejectedClusterHoldsItsOwnReleaseOnly(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.envoyOf(testenv.EnvoyConfig{
		Path: r.lacking("envoy.clusters/envoy.clusters.aggregate"), ID: "edge-2",
		Bootstrap: must[[]byte](t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: "edge-2", Servers: r.servers, AdminPort: 1})),
	})
	r.second()
	r.untilAnswers("v1")
	r.until("all proxies", func() (bool, error) { return len(r.proxies(0)) == 3, nil })
	r.put("services/shop", slow(r.document("green")))
	r.put("services/cart", r.cart("green"))
	r.untilWaitsFor("edge-2", "clusters.aggregate")
	if fleet := r.report("a").Releases["shop"].Fleet; fleet.Rejected != 1 {
		t.Errorf("%d proxies rejected it, want 1", fleet.Rejected)
	}
	r.untilSays("edge-2", "clusters.aggregate")
	r.untilTold()

	r.put("orders/shop", "advance")
	r.climbsElsewhere(1000)
	r.climbsElsewhere(5000)
	if s := r.served("shop"); s.Release == nil || s.Release.Phase != policy.Gated {
		t.Error("the release went past a proxy that refuses it")
	}
	r.onlyAnswers("v1")
	if err := r.envoys[1].Kill(); err != nil {
		t.Fatal(err)
	}
	r.at(1000)
}

// untilTold waits until a replica tells of each resource of edge-2, which refuses aggregates, and of edge-1, which does not.
func (r *rig) untilTold() {
	r.t.Helper()
	r.until("what both have", func() (bool, error) {
		told := r.proxies(0, "edge-1", "edge-2")
		if len(told) != 2 || len(r.proxies(0, "edge-3")) > 0 || len(r.proxies(0)[0].Resources) > 0 {
			return false, fmt.Errorf("of those that were named: %+v", told)
		}
		refused := map[string]int{"edge-2": 2}
		err := errors.Join(wellTold(told[0], refused[told[0].Proxy]), wellTold(told[1], refused[told[1].Proxy]))
		return err == nil, err
	})
}

// wellTold fails if a proxy is not told of as what it is, with so many resources that it refuses.
func wellTold(p replica.ProxyView, refused int) error {
	if p.Gateway != "edge" || !p.Known || p.Protocol != "delta" || p.Deadman != "6s" || p.Version != "Envoy 1.40.0" || p.Connected.IsZero() || p.LastReport.IsZero() || len(p.Rejections) != refused {
		return fmt.Errorf("%+v", p)
	}
	types := map[string]int{}
	for _, one := range p.Resources {
		types[one.Type]++
		switch {
		case one.Rejected != "":
			refused--
			if one.Type != "cluster" || !strings.Contains(one.Name, "|") || !strings.Contains(one.Words, "clusters.aggregate") || one.Version != "" {
				return fmt.Errorf("%s refuses %+v", p.Proxy, one)
			}
		case one.Missing, one.Version != "" && !one.Since.IsZero(): // it is not there, or it has it
		default:
			return fmt.Errorf("%s has %+v", p.Proxy, one)
		}
	}
	if refused != 0 || types["layer"] != envoy.Layers || len(types) != 5 || types["cluster"]*types["endpoints"]*types["listener"]*types["routes"] == 0 {
		return fmt.Errorf("%s has %v, and refuses %d more than told", p.Proxy, types, refused)
	}
	return nil
}

// untilSays waits until /proxies shows a proxy's own words.
func (r *rig) untilSays(proxy, words string) {
	r.t.Helper()
	r.until("its words in /proxies", func() (bool, error) {
		for _, p := range r.proxies(0) {
			if p.Proxy == proxy {
				return strings.Contains(strings.Join(p.Rejections, "\n"), words), fmt.Errorf("it says %q", p.Rejections)
			}
		}
		return false, errors.New("it is not listed")
	})
}

// A listener that an Envoy refuses takes no other down, and no release of another gateway.
func TestARejectedListenerLeavesTheOthersAlone(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", slow(r.document("blue")))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	r.second()
	taken := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer func() { _ = taken.Close() }()
	document := func(ports ...int) string {
		text := "gateway: edge\ndeadman: 6s\nlisteners:\n"
		for _, port := range ports {
			text += fmt.Sprintf("  - {address: 127.0.0.1, port: %d}\n", port)
		}
		return text
	}
	port := taken.Addr().(*net.TCPAddr).Port
	r.put("gateways/edge", document(r.port, port))
	r.untilSays("edge-1", "Address already in use")
	r.onlyAnswers("v1")
	r.put("services/cart", r.cart("green"))
	r.climbsElsewhere(1000)
	r.climbsElsewhere(5000)

	// Its own gateway's releases wait, and say for whom.
	r.put("services/shop", slow(r.document("green")))
	r.until("a release that names the proxy", func() (bool, error) {
		s := r.served("shop")
		if s == nil || s.Release == nil || !strings.Contains(s.Release.Waits, "1 of 1 proxies to accept what the release needs (1 rejected it)") {
			return false, fmt.Errorf("%+v", s)
		}
		waiting := r.report("a").Releases["shop"].Fleet.Waiting
		named := len(waiting) == 1 && waiting[0].Proxy == "edge-1" && strings.Contains(waiting[0].Says, "Address already in use")
		return named, fmt.Errorf("it names %+v", waiting)
	})
	r.put("services/shop", slow(r.document("blue")))
	r.untilServed("the wish taken back", func(s *policy.Served) bool { return s.Release == nil })

	// It is not tried again by itself; a document without it, and then with it, does.
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	r.put("gateways/edge", document(r.port))
	r.until("no rejection left", func() (bool, error) {
		for _, p := range r.proxies(0) {
			if len(p.Rejections) > 0 {
				return false, fmt.Errorf("%s says %q", p.Proxy, p.Rejections)
			}
		}
		return true, nil
	})
	r.put("gateways/edge", document(r.port, port))
	r.until("answers on the second listener", func() (bool, error) { return r.askAt(port, "shop.example.com") == "v1", nil })
}

// DESIGN §3: of several replicas the one decides that has the reports. A leader whose proxies are all elsewhere resigns, and the release goes on.
func TestALeaderWithoutReportsResigns(t *testing.T) {
	r := newRig(t)
	r.until("a leader", func() (bool, error) { return r.beat().Leader == "a", nil })
	r.startReplica("b")
	r.servers = r.servers[1:]
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	r.untilAnswers("v1")
	load := r.load(200)
	r.put("services/shop", r.document("green"))
	r.untilServed("the release", begun)
	release := r.served("shop").Release.ID
	r.put("orders/shop", "advance")
	r.until("the other replica leading", func() (bool, error) { return r.beat().Leader == "b", fmt.Errorf("%+v", r.beat()) })
	r.untilServed("the commit", committed)
	if last := r.served("shop").Last; last.Release != release {
		t.Errorf("release %s became %s", release, last.Release)
	}
	if totals := load.Totals(); totals.Failed > 0 {
		t.Errorf("%d of %d requests failed", totals.Failed, totals.Requests)
	}
}
