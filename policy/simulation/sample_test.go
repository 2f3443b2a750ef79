package simulation

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// fleetReports is how a fleet of 1,000 proxies reports within 20 MB/s: all of them every 4 s, or 131, drawn by lot, every half second.
type fleetReports struct {
	every time.Duration
	part  float64
}

// found is how long after a candidate at 5 % began to fail the judge takes it back; rate is of the whole fleet, per second. 0 is not within two minutes.
func (f fleetReports) found(rate, fails float64, seed uint64) time.Duration {
	const usual, weight, quiet = 0.002, policy.Weight(500), 30 * time.Second
	draw := rand.New(rand.NewPCG(seed, 1))
	service := policy.Service{Name: "shop"}.WithDefaults()
	served := &policy.Served{Service: service, Release: &policy.Release{ID: "green-1", Phase: policy.Soaking, Mode: policy.ByPlan, InPhase: time.Hour}}
	evidence := policy.NewEvidence("green-1", service.Analysis)
	counts := func(n, bad float64) policy.Counts {
		c := policy.Counts{OK: poisson(draw, n*(1-bad)), Errors: poisson(draw, n*bad)}
		c.Issued = c.Finished()
		return c
	}
	onset := quiet + time.Duration(draw.Int64N(int64(f.every))) // anywhere within a turn
	for at := f.every; at < onset+2*time.Minute; at += f.every {
		share := 0.0
		if at > 10*time.Second {
			served.Release.Weight, share = weight, weight.Share()
		}
		n := f.part * rate * f.every.Seconds()
		sick := min(1, max(0, (at-onset).Seconds()/f.every.Seconds())) // the part of the turn in which it fails
		bad := usual + sick*(fails-usual)
		reading := policy.Reading{Interval: f.every, Reporting: 1, Live: counts(n*(1-share), usual), Candidate: counts(n*share, bad)}
		if evidence.Take(reading, served).Verdict == policy.Unhealthy {
			return at - onset
		}
	}
	return 0
}

// A sample that reports fast finds what users suffer from sooner than all proxies that report slowly, but in a fleet that has next to nothing to do.
func TestASampleThatReportsFastFindsAFaultSoonerThanAWholeFleetThatReportsSlowly(t *testing.T) {
	const runs = 40
	whole, sample := fleetReports{every: 4 * time.Second, part: 1}, fleetReports{every: 500 * time.Millisecond, part: 0.131}
	for _, c := range []struct {
		rate, fails float64
		sooner      bool
	}{{200, 1, false}, {1000, 1, true}, {1000, 0.1, false}, {10000, 1, true}, {10000, 0.1, true}, {10000, 0.03, false}, {50000, 0.1, true}, {50000, 0.03, true}} {
		mean := func(f fleetReports) (took time.Duration, missed int) {
			for run := range runs {
				one := f.found(c.rate, c.fails, uint64(run))
				if took += one; one == 0 {
					missed++
				}
			}
			return took / time.Duration(max(1, runs-missed)), missed
		}
		all, allMissed := mean(whole)
		part, partMissed := mean(sample)
		t.Logf("%6.0f requests/s, %3.0f %% fail: all every 4 s %5.1f s (%d missed), 131 every 0.5 s %5.1f s (%d missed)", c.rate, 100*c.fails, all.Seconds(), allMissed, part.Seconds(), partMissed)
		if c.sooner && (part >= all || partMissed > 0) {
			t.Errorf("%.0f requests/s, %.0f %% fail: the sample takes %s, the whole fleet %s", c.rate, 100*c.fails, part, all)
		}
	}
}
