package replica

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// gatewayRead is what one decision about a gateway depends on.
type gatewayRead struct {
	name     string
	view     gateway
	others   map[string]policy.Gateway
	services []string      // that name the gateway, if its document is gone
	lease    time.Duration // the leader's
}

// gatewayReads copies what decisions about gateways read, but for those whose newest documents are decided about.
func (s *Serving) gatewayReads() []gatewayRead {
	s.mu.Lock()
	defer s.mu.Unlock()
	var reads []gatewayRead
	for _, name := range slices.Sorted(maps.Keys(s.state.gateways)) {
		if s.state.gateways[name].decided() {
			continue
		}
		others := maps.Clone(s.state.servedGateways())
		delete(others, name)
		read := gatewayRead{name: name, view: *s.state.gateways[name], others: others}
		if read.view.docMod == 0 && read.view.docGone {
			read.services = s.state.naming(name)
		}
		reads = append(reads, read)
	}
	return reads
}

// naming lists the services that are served on a gateway, sorted.
func (s *state) naming(gateway string) []string {
	var names []string
	for name, v := range s.services {
		if v.served.Serves() && slices.Contains(v.served.Service.Gateways, gateway) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// decideGateways accepts or refuses the gateways' newest documents. A service that waits for one is looked at when the watch has brought what was decided:
// it may name a gateway that was written with it.
func (d *Deciding) decideGateways(ctx context.Context) {
	var newest int64
	for _, read := range d.serving.gatewayReads() {
		read.lease = d.config.LeaderTTL
		next, event := decideGateway(read)
		if event == "" {
			continue
		}
		save := store.Save{Kind: store.ServedGateway, Name: read.name}
		save.Seen.Served, save.Seen.Wish = read.view.servedMod, read.view.docMod
		if next != nil {
			save.Value = next
		}
		short, cancel := context.WithTimeout(ctx, patience)
		revision, err := d.store.Save(short, d.lead.proof, save)
		cancel()
		if err == nil {
			newest = revision
			d.log.Info("decided about a gateway", "gateway", read.name, "reason", event)
			continue
		}
		d.serving.touchGateways()
		if !d.saved(read.name, err) {
			return
		}
	}
	if newest > 0 {
		d.lead.gateways = newest
		d.serving.touchUnaccepted()
	}
}

// decideGateway is the pure step of a gateway: its next served copy and what happened, or no event when nothing did.
func decideGateway(read gatewayRead) (next *policy.ServedGateway, event string) {
	v := read.view
	if v.docMod == 0 {
		return decideGone(read)
	}
	if v.decided() {
		return nil, ""
	}
	parsed, problems := readGateway(read.name, v.doc)
	if len(problems) == 0 {
		for _, p := range policy.AcceptGateway(parsed, read.others) {
			problems = append(problems, p.Error())
		}
		problems = append(problems, tooShort(parsed, read.lease)...)
	}
	if len(problems) == 0 {
		return &policy.ServedGateway{Gateway: parsed, Accepted: v.docMod}, "accepted"
	}
	next = &policy.ServedGateway{}
	if v.served != nil {
		*next = *v.served
	}
	next.Refused = &policy.Refusal{Revision: v.docMod, Problems: problems}
	return next, "refused: " + strings.Join(problems, "; ")
}

// decided reports whether the newest document is accepted or refused.
func (g *gateway) decided() bool {
	if g.docMod == 0 || g.servedMod == 0 || g.served == nil {
		return false
	}
	return g.served.Accepted == g.docMod || g.served.Refused != nil && g.served.Refused.Revision == g.docMod
}

// tooShort refuses a dead-man's time within which a new leader could not be elected: each change of leader would take running releases back.
func tooShort(g policy.Gateway, lease time.Duration) []string {
	least := lease * 3 / 2
	if g.Deadman == nil || *g.Deadman == 0 || time.Duration(*g.Deadman) >= least {
		return nil
	}
	return []string{fmt.Sprintf("gateways/%s: deadman: %s is below 1.5 times the leader's lease (--leader-ttl %s): expected at least %s, or off",
		g.Name, policy.Duration(*g.Deadman), policy.Duration(lease), policy.Duration(least))}
}

// decideGone stops a gateway whose document was deleted by itself, unless a service still names it; its proxies keep what they were served.
func decideGone(read gatewayRead) (next *policy.ServedGateway, event string) {
	v := read.view
	if v.servedMod == 0 || !v.docGone || v.served == nil || v.served.Gone {
		return nil, ""
	}
	const deleted = "stopped: its document was deleted"
	switch {
	case len(read.services) > 0:
		// refused below
	case read.name == policy.DefaultGateway || !v.served.Serves():
		return nil, deleted
	default:
		gone := *v.served
		gone.Gone, gone.Refused = true, nil
		return &gone, deleted
	}
	problem := fmt.Sprintf("gateways/%s: deleted while services name it (%s): it is kept", read.name, strings.Join(read.services, ", "))
	if v.served.Refused != nil && slices.Equal(v.served.Refused.Problems, []string{problem}) {
		return nil, ""
	}
	kept := *v.served
	kept.Refused = &policy.Refusal{Problems: []string{problem}}
	return &kept, "refused: " + problem
}

func readGateway(name string, value []byte) (policy.Gateway, []string) {
	parsed, err := policy.ParseGateway("gateways/"+name, value)
	if err == nil && parsed.Name != name {
		err = fmt.Errorf("gateways/%s: gateway: %q is not the last part of its key (%q)", name, parsed.Name, name)
	}
	if err != nil {
		return policy.Gateway{}, strings.Split(strings.TrimSpace(err.Error()), "\n")
	}
	return parsed.WithDefaults(), nil
}

// touchGateways makes the deciding half look at the gateways again in its next turn.
func (s *Serving) touchGateways() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirtyGw = true
}

// touchUnaccepted makes the deciding half look again at the services whose documents are not accepted: the gateway they name may be there now.
func (s *Serving) touchUnaccepted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.state.index.unaccepted {
		s.dirty[name] = true
	}
}
