package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// state is what etcd holds, as far as the watch has told. It is a plain model without lock: Replica.mu guards it.
type state struct {
	revision int64
	services map[string]*service
	gateways map[string]*gateway
	beat     beat
	adopted  int64 // mod revision of the newest `adopt`
	strays   map[string]string
	exist    map[string]policy.Gateway // nil: to be found anew
	index    index                     // beside services: every change of one of them ends with index.take
}

// service is everything under one service's keys.
type service struct {
	doc       []byte
	docMod    int64 // 0: there is no document
	docGone   bool  // the document was deleted by itself while we watched, or its absence was adopted: the wish to stop serving
	served    *policy.Served
	servedMod int64 // 0: there is no served key, though served may be kept
	permits   map[string]int64
	paused    bool
	pauseMod  int64
	order     *policy.Order
	orderMod  int64
	alarm     string // why what is served is kept although its keys are gone
	restore   bool   // that was adopted, and its document is there: what is served is to be written again
}

// gateway is a gateway's document and its served copy.
type gateway struct {
	doc       []byte
	docMod    int64
	docGone   bool
	served    *policy.ServedGateway
	servedMod int64
}

// beat is the newest proof of a living leader.
type beat struct {
	store.BeatRecord
	mod int64
}

// touched is what one batch changed.
type touched struct {
	services map[string]bool
	gateways map[string]bool
	beaten   bool
	adopted  bool
}

func newTouched() touched {
	return touched{services: map[string]bool{}, gateways: map[string]bool{}}
}

// add puts what a later batch changed to it.
func (t *touched) add(next touched) {
	maps.Copy(t.services, next.services)
	maps.Copy(t.gateways, next.gateways)
	t.beaten, t.adopted = t.beaten || next.beaten, t.adopted || next.adopted
}

// hasty reports whether a batch waits for nothing: it may take a release back, as its permit or its document does, or it is a sign of life.
func (s *state) hasty(b store.Batch) bool {
	return b.Relisted || slices.ContainsFunc(b.Changes, func(c store.Change) bool {
		switch c.Kind {
		case store.Permit, store.Beat, store.Adopt:
			return true
		case store.ServiceDoc:
			found := s.services[c.Name]
			return found != nil && found.releasing()
		}
		return false
	})
}

func newState() *state {
	return &state{services: map[string]*service{}, gateways: map[string]*gateway{}, strays: map[string]string{}, index: newIndex()}
}

func (s *state) service(name string) *service {
	found := s.services[name]
	if found == nil {
		found = &service{permits: map[string]int64{}}
		s.services[name] = found
	}
	return found
}

func (s *state) gateway(name string) *gateway {
	found := s.gateways[name]
	if found == nil {
		found = &gateway{}
		s.gateways[name] = found
	}
	return found
}

// apply takes one batch of the watch and says what it touched.
func (s *state) apply(b store.Batch) touched {
	t := newTouched()
	first := s.revision == 0
	s.revision = b.Revision
	alone := deliberate(b)
	for _, c := range b.Changes {
		switch c.Kind {
		case store.ServiceDoc, store.ServedService, store.Permit, store.Pause, store.Order:
			t.services[c.Name] = true
			s.service(c.Name).apply(c, alone)
			s.index.take(c.Name, s.services[c.Name])
		case store.GatewayDoc, store.ServedGateway:
			t.gateways[c.Name] = true
			s.exist = nil
			s.gateway(c.Name).apply(c, alone)
		case store.Beat:
			// What a listing finds may be as old as the key: it proves nothing.
			t.beaten = s.takeBeat(c) && !b.Relisted || t.beaten
		case store.Adopt:
			// One that the first listing finds was for those who were there, or for the ledger to tell.
			t.adopted = !c.Deleted && !first && c.Mod > s.adopted
			s.adopted = c.Mod
		case store.Stray:
			s.takeStray(c)
		}
	}
	return t
}

// deliberate reports whether a deletion in this batch is one operator's deliberate act: one document, and nothing served, in a revision that was seen live.
// Several at once, or keys that are merely missing after a relist, look like an accident.
func deliberate(b store.Batch) bool {
	documents, served := 0, 0
	for _, c := range b.Changes {
		switch {
		case !c.Deleted:
		case c.Kind == store.ServiceDoc || c.Kind == store.GatewayDoc:
			documents++
		case c.Kind == store.ServedService || c.Kind == store.ServedGateway:
			served++
		}
	}
	return !b.Relisted && documents == 1 && served == 0
}

func (s *state) takeBeat(c store.Change) bool {
	var record store.BeatRecord
	if c.Deleted || json.Unmarshal(c.Value, &record) != nil {
		return false
	}
	s.beat = beat{BeatRecord: record, mod: c.Mod}
	return true
}

func (s *state) takeStray(c store.Change) {
	if c.Deleted {
		delete(s.strays, c.Name)
		return
	}
	s.strays[c.Name] = fmt.Sprintf("key %q does not belong under rampart's prefix; it is ignored", c.Name)
}

func (v *service) apply(c store.Change, alone bool) {
	switch c.Kind {
	case store.ServiceDoc:
		v.applyDoc(c, alone)
	case store.ServedService:
		v.applyServed(c)
	case store.Permit:
		if c.Deleted {
			delete(v.permits, c.Release)
		} else {
			v.permits[c.Release] = c.Mod
		}
	case store.Pause:
		v.paused, v.pauseMod = !c.Deleted, c.Mod
		if c.Deleted {
			v.pauseMod = 0
		}
	case store.Order:
		v.order, v.orderMod = readOrder(c), c.Mod
		if c.Deleted {
			v.order, v.orderMod = nil, 0
		}
	}
}

func (v *service) applyDoc(c store.Change, alone bool) {
	if c.Deleted {
		// In mid-release it is refused for good: it must not stop the service by itself when the release has ended.
		alone = alone && !v.releasing()
		v.doc, v.docMod, v.docGone = nil, 0, alone
		return
	}
	v.doc, v.docMod, v.docGone = c.Value, c.Mod, false
}

// wish is the newest document as a decision sees it. Only who decides reads it, and only until it is accepted: to parse a document costs more than all else here.
func (v *service) wish(name string) policy.Wish {
	switch {
	case v.docMod == 0:
		return policy.Wish{Gone: v.docGone}
	case v.accepted():
		return policy.Wish{Mod: v.docMod}
	}
	return readWish(name, v.doc, v.docMod)
}

// accepted reports whether what is served is copied from the newest document.
func (v *service) accepted() bool { return v.served.Serves() && v.served.Accepted == v.docMod }

// readWish parses a document as it stands in etcd.
func readWish(name string, value []byte, mod int64) policy.Wish {
	wish := policy.Wish{Mod: mod}
	parsed, err := policy.ParseService("services/"+name, value)
	if err == nil && parsed.Name != name {
		err = fmt.Errorf("services/%s: service: %q is not the last part of its key (%q)", name, parsed.Name, name)
	}
	if err != nil {
		wish.Problems = strings.Split(strings.TrimSpace(err.Error()), "\n")
		return wish
	}
	wish.Service = parsed.WithDefaults()
	return wish
}

// applyServed takes the leader's word. A served key that vanishes although its document was not deleted by itself is an accident: what was served is kept.
func (v *service) applyServed(c store.Change) {
	if c.Deleted {
		v.servedMod = 0
		if v.docMod == 0 && v.docGone && len(v.permits) == 0 {
			v.served, v.alarm = nil, ""
			return
		}
		v.alarm = "its served key is gone; what was served is kept until `rampart adopt`"
		return
	}
	var served policy.Served
	if err := json.Unmarshal(c.Value, &served); err != nil {
		v.alarm = fmt.Sprintf("its served key cannot be read (%v); what was served is kept", err)
		v.servedMod = c.Mod
		return
	}
	v.served, v.servedMod, v.alarm, v.restore = &served, c.Mod, "", false
}

// unreadable reports whether something is served that this replica cannot read, and has never read.
func (v *service) unreadable() bool { return v.servedMod > 0 && v.served == nil }

func (v *service) releasing() bool { return v.served.Serves() && v.served.Release != nil }

// permitted reports whether the running release's permit exists.
func (v *service) permitted() bool {
	return v.releasing() && v.permits[v.served.Release.ID] > 0
}

// readOrder reads "promote" or "promote green-1204". A word that is no order gives an order that is dropped with its name in the history.
func readOrder(c store.Change) *policy.Order {
	words := strings.Fields(string(c.Value))
	order := &policy.Order{Mod: c.Mod}
	if len(words) > 0 {
		order.Verb = policy.Verb(words[0])
	}
	if len(words) > 1 {
		order.Release = words[1]
	}
	return order
}

func (g *gateway) apply(c store.Change, alone bool) {
	if c.Kind == store.GatewayDoc {
		g.doc, g.docMod, g.docGone = c.Value, c.Mod, false
		if c.Deleted {
			g.doc, g.docMod, g.docGone = nil, 0, alone
		}
		return
	}
	if c.Deleted {
		// Proxies of a gateway whose served key is gone keep what they were served; the default one goes back to what it is without a document.
		g.servedMod = 0
		if c.Name == policy.DefaultGateway && g.docGone {
			g.served = nil
		}
		return
	}
	var served policy.ServedGateway
	if json.Unmarshal(c.Value, &served) == nil {
		g.served = &served
	}
	g.servedMod = c.Mod
}

// adopt accepts what is gone as gone and returns the services that end by it. A service whose document is there goes on as it is served.
func (s *state) adopt() []string {
	var gone []string
	for name, v := range s.services {
		if v.docMod == 0 {
			v.docGone = true
		}
		if v.servedMod > 0 || v.served == nil {
			continue
		}
		v.alarm = ""
		if v.restore = v.docMod > 0; !v.restore {
			v.served = nil
			gone = append(gone, name)
		}
		s.index.take(name, v)
	}
	for _, g := range s.gateways {
		g.docGone = g.docMod == 0
	}
	slices.Sort(gone)
	return gone
}

// unwritten lists the gateways that are served although their documents are gone, and nobody meant it.
func (s *state) unwritten() []string {
	var names []string
	for name, g := range s.gateways {
		if g.docMod == 0 && !g.docGone && g.served.Serves() && !g.served.Gone {
			names = append(names, name)
		}
	}
	return names
}

// servedGateways lists the gateways that exist, the default one included. The map is shared, and never changed.
func (s *state) servedGateways() map[string]policy.Gateway {
	if s.exist == nil {
		s.exist = s.findGateways()
	}
	return s.exist
}

func (s *state) findGateways() map[string]policy.Gateway {
	found := map[string]policy.Gateway{policy.DefaultGateway: policy.Gateway{Name: policy.DefaultGateway}.WithDefaults()}
	for name, g := range s.gateways {
		if g.served.Serves() && !g.served.Gone {
			found[name] = g.served.Gateway
		}
	}
	return found
}

// gatewayServed returns a gateway that exists.
func (s *state) gatewayServed(name string) (policy.Gateway, bool) {
	if g := s.gateways[name]; g != nil && g.served.Serves() && !g.served.Gone {
		return g.served.Gateway, true
	}
	return policy.Gateway{Name: policy.DefaultGateway}.WithDefaults(), name == policy.DefaultGateway
}

// running lists the services with a running release, sorted.
func (s *state) running() []string { return slices.Sorted(maps.Keys(s.index.running)) }
