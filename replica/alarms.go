package replica

import (
	"fmt"
	"slices"
)

// alarms says what someone must look at, sorted.
func (s *Serving) alarms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var alarms []string
	for name := range s.state.index.alarmed {
		alarms = append(alarms, fmt.Sprintf("%s: %s", name, s.state.services[name].alarm))
	}
	for _, name := range s.orphans {
		alarms = append(alarms, name+": served before, and no longer in etcd; proxies keep what they have until `rampart adopt`")
	}
	for _, name := range s.state.unwritten() {
		alarms = append(alarms, fmt.Sprintf("gateway %s: its document is gone; it is kept until the document is put again or `rampart adopt`", name))
	}
	for name, text := range s.needs {
		alarms = append(alarms, fmt.Sprintf("%s: %s", name, text))
	}
	for _, stray := range s.state.strays {
		alarms = append(alarms, stray)
	}
	for _, cluster := range s.xds.Foreign() {
		if !s.ledger.adopted(cluster) {
			alarms = append(alarms, fmt.Sprintf("proxies hold what etcd cluster %s published, and keep it until `rampart adopt`", cluster))
		}
	}
	alarms = append(alarms, s.limited.alarms(s.now())...)
	slices.Sort(alarms)
	return slices.Compact(alarms)
}

// need notes what the deciding half wants a person for about a service; nothing ends it. It reports whether that is new.
func (s *Serving) need(name, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.needs[name] == text {
		return false
	}
	s.needs[name] = text
	if text == "" {
		delete(s.needs, name)
	}
	return true
}

// forgetNeeds is for a leader whose term is over: the next one finds out for itself.
func (s *Serving) forgetNeeds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.needs)
}
