package main

import (
	"strings"

	"github.com/rampart-proxy/rampart/policy"
)

// getGateways always knows the default gateway, which exists without a document.
func (a *app) getGateways(w *world, names []string, f getFlags) error {
	asked := names
	if len(asked) == 0 {
		names = w.gatewayNames()
	}
	found := make([]*gateway, 0, len(names))
	for _, name := range names {
		g := w.gateways[name]
		if g == nil && name == policy.DefaultGateway {
			g = &gateway{name: name}
		}
		if err := w.needGateway(name); err != nil {
			return err
		}
		found = append(found, g)
	}
	switch f.output {
	case asYAML:
		return a.printGatewayDocuments(asked, found, f)
	case asJSON:
		return printViews(a, asked, found, func(g *gateway) any { return gatewayJSON(g, w) })
	}
	a.printTable(gatewayTable(found, w))
	return nil
}

// gatewayTable shows the gateways as they are served, not as they are wished.
func gatewayTable(gateways []*gateway, w *world) table {
	t := table{{"GATEWAY", "LISTENERS", "DEAD-MAN", "SERVICES", "NOTE"}}
	served := w.servedGateways()
	for _, g := range gateways {
		row := []string{g.name, "–", "–", strings.Join(w.usersOf(g.name), ", "), gatewayNote(g)}
		if now, ok := served[g.name]; ok {
			row[1], row[2] = listenersText(now), deadmanText(now)
		}
		t = append(t, row)
	}
	return t
}

// gatewayNote says what keeps a gateway from its document. A refusal of revision 0 is that of a deletion.
func gatewayNote(g *gateway) string {
	switch {
	case g.doc.Mod == 0 && g.served == nil:
		return "exists without a document"
	case g.served == nil:
		return "not accepted yet"
	case g.served.Refused != nil && (g.served.Refused.Revision == g.doc.Mod || g.served.Refused.Revision == 0):
		return "newest document refused: " + firstOf(g.served.Refused.Problems)
	case g.doc.Mod == 0 && g.served.Gone:
		return "deleted; its proxies keep what they were served"
	case g.doc.Mod == 0:
		return "its document is gone; what was served is kept"
	case g.served.Accepted != g.doc.Mod:
		return "newest document not looked at yet"
	}
	return ""
}

// printGatewayDocuments prints documents as operators wrote them, or as they are understood. The default gateway may have none.
func (a *app) printGatewayDocuments(asked []string, gateways []*gateway, f getFlags) error {
	var texts []string
	for _, g := range gateways {
		parsed, err := policy.ParseGateway("gateways/"+g.name, g.doc.Value)
		switch {
		case g.doc.Mod == 0 && f.defaults && g.name == policy.DefaultGateway:
			texts = append(texts, string(policy.Gateway{Name: g.name}.WithDefaults().YAML()))
		case g.doc.Mod == 0 && len(asked) == 0:
			// In a list of all, what has no document is left out.
		case g.doc.Mod == 0:
			return refusal("%s has no document", g.name)
		case !f.defaults:
			texts = append(texts, string(g.doc.Value))
		case err != nil:
			return refusal("its document cannot be read: %w", err)
		default:
			texts = append(texts, string(parsed.WithDefaults().YAML()))
		}
	}
	a.printDocuments(texts)
	return nil
}

// gatewayView is what -o json says of a gateway.
type gatewayView struct {
	Gateway  string                `json:"gateway"`
	Revision int64                 `json:"revision"` // etcd mod revision of the document
	Served   *policy.ServedGateway `json:"served,omitempty"`
	Services []string              `json:"services"`
}

// gatewayJSON shows the default gateway as it is served when nobody has written it down.
func gatewayJSON(g *gateway, w *world) gatewayView {
	view := gatewayView{Gateway: g.name, Revision: g.doc.Mod, Served: g.served, Services: w.usersOf(g.name)}
	if view.Services == nil {
		view.Services = []string{}
	}
	if g.doc.Mod == 0 && g.served == nil {
		view.Served = &policy.ServedGateway{Gateway: policy.Gateway{Name: g.name}.WithDefaults()}
	}
	return view
}
