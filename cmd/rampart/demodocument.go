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
}

// plan is a release's plan with the times of a demo. The zero value is the default plan.
type plan struct {
	steps string // "1%, 5%"
	soak  time.Duration
	bake  time.Duration
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
