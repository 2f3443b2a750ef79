package replica

import (
	"maps"
	"math"
	"strings"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// around is what the newest document of a service must fit in with: what the watch has brought, and what was saved since. It notes which hosts the document waits for.
func (d *Deciding) around(name string, t *track, turn policy.Turn) policy.Around {
	around := d.serving.around(t.wish.Service)
	around.Served = turn.Served
	for other, u := range d.lead.unseen {
		if other == name {
			continue
		}
		delete(around.Others, other)
		if u.served.Serves() {
			around.Others[other] = u.served
		}
	}
	d.lead.wait(name, t.wish.Service.Hosts)
	return around
}

// around is what a document must fit in with, as far as the watch has brought it; without what is served of the service itself.
func (s *Serving) around(wish policy.Service) policy.Around {
	s.mu.Lock()
	defer s.mu.Unlock()
	return policy.Around{Others: s.state.index.hosts.Sharing(wish), Gateways: s.state.servedGateways()}
}

// documentSize is how long a service's newest document is.
func (s *Serving) documentSize(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.state.services[name]; v != nil {
		return len(v.doc)
	}
	return 0
}

func (s *Serving) revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.revision
}

// claim notes what is about to be saved: what is decided next must fit in with it.
func (l *lead) claim(save store.Save) {
	served, _ := save.Value.(*policy.Served)
	l.unseen[save.Name] = unseen{served: served, revision: math.MaxInt64}
}

// see forgets what was saved up to a revision: the watch has brought it.
func (l *lead) see(revision int64) {
	maps.DeleteFunc(l.unseen, func(_ string, u unseen) bool { return u.revision <= revision })
}

// wait notes which hosts a document that is not accepted wants.
func (l *lead) wait(name string, hosts []string) {
	for _, host := range hosts {
		key := strings.ToLower(host)
		if l.waiting[key] == nil {
			l.waiting[key] = map[string]struct{}{}
		}
		l.waiting[key][name] = struct{}{}
	}
}

// took notes what was saved of a service. Documents that want a host of it, before or now, are decided about again: they may fit now, or no more.
func (d *Deciding) took(name string, t *track, next *policy.Served, revision int64) {
	d.lead.unseen[name] = unseen{served: next, revision: revision}
	if next != nil && next.Serves() && next.Accepted == t.wish.Mod {
		d.lead.admit(name, t.wish.Service.Hosts)
	}
	for _, host := range append(t.hosts, hosts(next)...) {
		for other := range d.lead.waiting[strings.ToLower(host)] {
			if other != name {
				d.serving.again(other)
			}
		}
	}
}

// admit forgets what a document that is accepted now has waited for.
func (l *lead) admit(name string, hosts []string) {
	for _, host := range hosts {
		key := strings.ToLower(host)
		delete(l.waiting[key], name)
		if len(l.waiting[key]) == 0 {
			delete(l.waiting, key)
		}
	}
}

func hosts(s *policy.Served) []string {
	if !s.Serves() {
		return nil
	}
	return s.Service.Hosts[:len(s.Service.Hosts):len(s.Service.Hosts)]
}
