package judge

import (
	"math"
	"time"
)

const (
	episodeRest   = 3 * time.Second  // after an error that counts, others do not for this long: they may be of the same cluster
	episodeWindow = 30 * time.Second // over which the dispersion of episodes is learned
	independent   = 1.2              // φ up to which errors are known to come one by one, and counting them all is best
	stakeUnsure   = 0.25             // of the wealth on episodes above that
	stakeMost     = 0.6              // and from clustered on
)

// episodes is a second e-process against live that counts clusters of errors instead of errors: the first error after a rest of 3 s, in either arm, is an event, and
// all that is asked of it is whose it was. A cluster no longer than the rest is counted once at most, whatever its size, and while the candidate is healthy each
// cluster is the candidate's with a chance that the share gives. So no dispersion has to be known, where counting errors needs it: with the error counts of a
// bursty service divided by their φ, most of what single errors tell is lost.
//
// It holds a part of the wealth, fixed before it bets, that is larger the burstier live's errors are and the less of live's time is rest.
type episodes struct {
	bets   process
	rest   time.Duration // left of it
	stake  float64       // the part of the wealth; 0: none yet
	handed float64       // ln of the wealth when it was handed over

	liveRest time.Duration // the same of live alone, to learn from
	seen     uint64        // live's events in dispersion.known
	noise    pairs         // of live's events: clusters longer than the rest count more than once
}

// observe learns from a turn of live.
func (e *episodes) observe(live Counts, length time.Duration) {
	e.liveRest = max(0, e.liveRest-length)
	event := Counts{Good: live.finished()}
	if live.Bad > 0 && e.liveRest == 0 {
		e.seen++
		e.liveRest = episodeRest
		event = Counts{Good: live.finished() - 1, Bad: 1}
	}
	e.noise.add(event, length, episodeWindow)
}

// phi is how often a cluster counts, at least 1. Unlike errors, events are taken for independent before anything is known.
func (e *episodes) phi() float64 {
	mean := (e.noise.squares + phiWeight) / (e.noise.weight + phiWeight) * e.noise.doubt()
	return 1 + 1.3*(max(1, mean)-1)
}

// begin hands over a part of the wealth as soon as live's errors are not known to be independent.
func (e *episodes) begin(noise *dispersion, wealth float64) {
	if e.stake > 0 || noise.value < independent {
		return
	}
	most := stakeUnsure
	if noise.value >= clustered {
		most = stakeMost
	}
	resting := float64(e.seen) * episodeRest.Seconds() / max(1, noise.known.Seconds())
	e.stake, e.handed = most*max(0, 1-resting), wealth
	e.bets = newProcess()
	e.bets.odds = ofClusters
}

// turn settles one turn's bets, at the boundary of the turn.
func (e *episodes) turn(b boundary, a arms, at pace) {
	if e.stake == 0 {
		return
	}
	var gains [effects]float64
	switch {
	case e.rest > 0:
		e.rest = max(0, e.rest-at.length)
	case b.share > 0:
		gains = b.first(a, e.phi())
		if a.live.Bad+a.candidate.Bad > 0 {
			e.rest = max(0, episodeRest-at.length)
		}
	}
	at.relief = math.Inf(1) // the rest is a burst cap of its own
	e.bets.turn(gains, at)
}

// first are the gains of a turn that follows a rest: of its errors one is taken at random, and the expectation over that is gained. An arm's factor is that of
// a single error, so its mean over errors that are the candidate's with the chance of the share is 1.
func (b boundary) first(a arms, phi float64) [effects]float64 {
	var gains [effects]float64
	errors := float64(a.candidate.Bad + a.live.Bad)
	for i, ratio := range ratios() {
		live := 1 / (1 + b.share*(ratio-1))
		gain := -b.rate * (ratio*live - 1) * float64(a.candidate.finished())
		if errors > 0 {
			gain += math.Log((float64(a.candidate.Bad)*ratio*live + float64(a.live.Bad)*live) / errors)
		}
		gains[i] = gain / phi
	}
	return gains
}

// mixed is ln of the wealth of both processes, given that of the other.
func (e *episodes) mixed(wealth float64) float64 {
	if e.stake == 0 {
		return wealth
	}
	return logAdd(math.Log(e.stake)+e.handed+e.bets.now, math.Log1p(-e.stake)+wealth)
}

// kept is what stays for another release, which learned from a part of the past.
func (e *episodes) kept(part float64) episodes {
	return episodes{noise: e.noise.kept(part), seen: uint64(part * float64(e.seen))}
}
