package replica

import (
	"maps"
	"time"
)

// steadySince tells for each proxy of a service since when it has held all that is served now.
func (s *Serving) steadySince(name string) map[string]time.Time {
	s.mu.Lock()
	confirmed := s.renderer.Confirmed(name)
	s.mu.Unlock()
	var since map[string]time.Time
	for group, want := range confirmed {
		switch met := s.xds.MetSince(group, want); {
		case len(met) == 0:
		case len(since) == 0:
			since = met // shared, so it is not added to below
		default:
			since = maps.Clone(since)
			maps.Copy(since, met)
		}
	}
	return since
}

// connected counts the proxies here that are of a service's gateways and, where each asks for what it uses, use it.
func (s *Serving) connected(name string) (count int) {
	s.mu.Lock()
	confirmed := s.renderer.Confirmed(name)
	s.mu.Unlock()
	for group, want := range confirmed {
		count += s.xds.ConnectedFor(group, want)
	}
	return count
}
