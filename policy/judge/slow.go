package judge

import "time"

// LatencyEvidence is what has been found so far. Logs are natural, times are in milliseconds.
type LatencyEvidence struct {
	Log       float64 // ln of the wealth against live now: of the average over the thresholds
	LogMax    float64 // its maximum; e^-LogMax is a p-value that holds however often one looks
	Limit     float64 // what LogMax and LimitMax are compared with
	LogLimit  float64 // ln of the wealth against the operator's limit now; 0 without one
	LimitMax  float64 // its maximum
	Convicted bool    // for good, once it is
	By        string  // "latency" or "p99"

	Thresholds int     // that are watched; 0 while too little is known of live
	Threshold  int     // the one with the most evidence, or the limit's bound when that convicted; 0: there is none
	Phi        float64 // dispersion of live's requests beyond it, at least 1

	Release, Step, Recent ArmTimes // since the candidate first got traffic; over the present step; over the last 8 to 10 s
}

// ArmTimes are the times of both arms in one span.
type ArmTimes struct{ Live, Candidate ArmTime }

// ArmTime says how long the requests of one arm took. Bad counts those that took Threshold or longer. The quantiles are 0 without requests, see Histogram.Quantile.
type ArmTime struct {
	Counts
	P50, P99 float64
}

// Evidence returns what has been found so far.
func (l *Latency) Evidence() LatencyEvidence {
	l.ready()
	found := LatencyEvidence{
		Log: l.now, LogMax: l.peak, Limit: l.limit, LogLimit: l.ceiling.bets.now, LimitMax: l.ceiling.bets.peak,
		Convicted: l.by != "", By: l.by, Thresholds: l.n, Phi: 1,
	}
	bound := Buckets - 1 // none: nothing is beyond
	if a := l.accuser(); a != nil {
		bound = a.live
		found.Threshold, found.Phi = Bounds()[bound], a.noise.value
	}
	recent := l.recent.sum()
	found.Release, found.Step, found.Recent = l.all.summary(bound), l.step.summary(bound), recent.summary(bound)
	return found
}

// accuser is the threshold that a reason must name; nil if there is none.
func (l *Latency) accuser() *aim {
	switch {
	case l.by == byP99:
		return &l.ceiling
	case l.n > 0:
		return &l.aims[l.worst()]
	}
	return nil
}

func (t *times) summary(bound int) ArmTimes {
	return ArmTimes{Live: t.live.summary(bound), Candidate: t.candidate.summary(bound)}
}

func (h *Histogram) summary(bound int) ArmTime {
	s := ArmTime{P50: h.Quantile(0.5), P99: h.Quantile(0.99)}
	for i, n := range h {
		if i > bound {
			s.Bad += n
		} else {
			s.Good += n
		}
	}
	return s
}

// HungAfter is how long a request may go on before it counts as slow although it has no time yet: what Pending.After takes. It is twice the highest threshold, and in
// any case beyond every bound at which an arm is read, so that such a request is beyond all of them whatever becomes of it; and a second at least, because below that
// reports of what is in progress are too coarse. It is 0, never, while nothing is known of live: what is slow for a service is not known then.
func (l *Latency) HungAfter() time.Duration {
	if l.n == 0 {
		return 0
	}
	bounds := Bounds()
	last := &l.aims[l.n-1]
	most := max(1000, 2*bounds[last.live], bounds[last.candidate])
	if l.settings.Limit > 0 {
		most = max(most, bounds[l.ceiling.live])
	}
	return time.Duration(most) * time.Millisecond
}
