package policy

import "strings"

// Hosts finds the served services by their hosts, so that a document is compared with those alone that it could clash with, however many there are. The zero
// value holds none. One goroutine owns it.
type Hosts struct {
	services map[string]*Served
	by       map[string]map[string]struct{} // by host in small letters: services
}

// Set takes a service's newest served copy; what serves nothing has no hosts.
func (h *Hosts) Set(service string, s *Served) {
	if h.services == nil {
		h.services, h.by = map[string]*Served{}, map[string]map[string]struct{}{}
	}
	before := h.services[service]
	if before == s {
		return
	}
	if before != nil {
		h.leave(service, before)
	}
	if !s.Serves() {
		return
	}
	h.services[service] = s
	for _, host := range s.Service.Hosts {
		key := strings.ToLower(host)
		if h.by[key] == nil {
			h.by[key] = map[string]struct{}{}
		}
		h.by[key][service] = struct{}{}
	}
}

func (h *Hosts) leave(service string, s *Served) {
	delete(h.services, service)
	for _, host := range s.Service.Hosts {
		key := strings.ToLower(host)
		delete(h.by[key], service)
		if len(h.by[key]) == 0 {
			delete(h.by, key)
		}
	}
}

// Sharing returns the other services that have a host of s, on whatever gateway: Around.Others for it.
func (h *Hosts) Sharing(s Service) map[string]*Served {
	others := map[string]*Served{}
	for _, host := range s.Hosts {
		for name := range h.by[strings.ToLower(host)] {
			if name != s.Name {
				others[name] = h.services[name]
			}
		}
	}
	return others
}

// Has returns what is served of a service, nil for nothing.
func (h *Hosts) Has(service string) *Served { return h.services[service] }
