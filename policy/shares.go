package policy

// shares are the parts of a release's risk that its metrics get (judge.md 2f). One that is not judged leaves its part to the others.
type shares struct {
	errors   float64
	statuses float64 // of gRPC that the document names
	latency  float64
	gauge    float64 // each
	seen     float64
}

// sharesOf splits the risk. Share seen gets little, because what it bets on leaves no doubt for long.
func sharesOf(a Analysis) shares {
	s := shares{errors: 0.5, seen: 0.05}
	if len(a.Errors.GRPC) > 0 {
		s.errors, s.statuses = 0.25, 0.25
	}
	if a.judgesLatency() {
		s.latency = 0.35
	}
	gauges := float64(a.gauges())
	if gauges > 0 {
		s.gauge = 0.1 / gauges
	}
	sum := s.errors + s.statuses + s.latency + gauges*s.gauge + s.seen
	s.errors /= sum
	s.statuses /= sum
	s.latency /= sum
	s.gauge /= sum
	s.seen /= sum
	return s
}

// judgesLatency reports whether times are judged at all, against live or against a limit.
func (a Analysis) judgesLatency() bool {
	return a.Latency != nil && !a.Latency.Off || a.Limits.P99 != nil
}

// gauges counts the quantities that judge.
func (a Analysis) gauges() int {
	count := len(a.Quality)
	for _, q := range a.Queries {
		if !q.Advisory {
			count++
		}
	}
	return count
}
