package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// script is what a part of the demo asks for in the service's document. Nothing but the plan and the dead-man's time differ from what a user would write for
// production: all else is left to its default.
type script struct {
	serve      string // the wish
	idempotent bool   // the route
	plan       plan
	analysis   string // "{quality: …}"; "" is the default
}

// plan is a release's plan with the times of a demo. The zero value is the default plan.
type plan struct {
	steps string // "1%, 5%"
	soak  time.Duration
	bake  time.Duration
	// evidence asks for the default plan without its warm-up.
	evidence bool
}

// document is the service's document, with whatever is deployed now.
func (f *fleet) document(s script) []byte {
	var text strings.Builder
	fmt.Fprintf(&text, "service: %s\ngateways: [%s]\nhosts: [%s]\n", demoService, demoGateway, demoHost)
	if s.idempotent {
		text.WriteString("routes:\n  - idempotent: true\n")
	}
	text.WriteString("backends:\n")
	for _, name := range slices.Sorted(maps.Keys(f.sides)) {
		fmt.Fprintf(&text, "  %s: {revision: %q, endpoints: [%s]}\n", name, f.sides[name].version, f.sides[name].endpoints())
	}
	fmt.Fprintf(&text, "serve: %s\n", s.serve)
	if s.plan.steps != "" {
		fmt.Fprintf(&text, "plan: {steps: [%s], warmup: 0s, soak: %s, bake: %s}\n", s.plan.steps, s.plan.soak, s.plan.bake)
	}
	if s.plan.evidence {
		text.WriteString("plan: {warmup: 0s}\n")
	}
	if s.analysis != "" {
		fmt.Fprintf(&text, "analysis: %s\n", s.analysis)
	}
	return []byte(text.String())
}

func (s *side) endpoints() string {
	addresses := make([]string, len(s.models))
	for i, m := range s.models {
		addresses[i] = fmt.Sprintf("%q", m.Address())
	}
	return strings.Join(addresses, ", ")
}

// gatewayDocument gives the gateway one port, which its Envoys share.
func (f *fleet) gatewayDocument() []byte {
	return fmt.Appendf(nil, "gateway: %s\nlisteners:\n  - {address: 127.0.0.1, port: %d}\ndeadman: %s\n", demoGateway, f.ports.users, demoDeadman)
}
