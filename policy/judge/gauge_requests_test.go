package judge_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// quality is what one request reports of itself.
type quality struct {
	name   string
	higher bool // is better
	draw   func(random *rand.Rand) float64
}

// right reports 1 for a part of the requests and else 0, as an accuracy does.
func right(part float64) quality {
	return quality{fmt.Sprintf("right in %g", part), true, func(random *rand.Rand) float64 {
		if random.Float64() < part {
			return 1
		}
		return 0
	}}
}

func qualities() []quality {
	return []quality{
		right(0.9), right(0.99), right(0.997), right(0.999), right(0.02),
		{"normal", true, func(random *rand.Rand) float64 { return 5 + random.NormFloat64() }},
		{"exponential time", false, func(random *rand.Rand) float64 { return random.ExpFloat64() }},
		{"lognormal time", false, func(random *rand.Rand) float64 { return math.Exp(random.NormFloat64()) }},
		{"lognormal rate", true, func(random *rand.Rand) float64 { return math.Exp(random.NormFloat64()) }},
	}
}

// reports is a service whose requests report a quality.
type reports struct {
	random      *rand.Rand
	rate, share float64
	shared      float64 // both arms' drift: a sine of this size over a minute
	at          time.Duration
}

func (r *reports) arm(q quality, share float64) judge.Sample {
	s := judge.Sample{Count: poisson(r.random, r.rate*share*quarter.Seconds())}
	for range s.Count {
		s.Sum += q.draw(r.random) + r.shared*math.Sin(r.at.Seconds()/10)
	}
	return s
}

// run observes live for a while and then judges for as long as the release lasts. It returns when it convicted, 0 for never.
func (r *reports) run(g *judge.Gauge, observed, lasts time.Duration, live, candidate quality) time.Duration {
	for range observed / quarter {
		r.at += quarter
		g.Observe(r.arm(live, 1), quarter)
	}
	for at := quarter; at <= lasts; at += quarter {
		r.at += quarter
		g.Turn(judge.GaugeTurn{Length: quarter, Live: r.arm(live, 1-r.share), Candidate: r.arm(candidate, r.share)})
		if g.Evidence().Convicted {
			return at
		}
	}
	return 0
}

// TestEquallyGoodReportsHardlyEverConvict counts false convictions over five minutes of both arms, after ten seconds of live alone, without any margin to speak of.
func TestEquallyGoodReportsHardlyEverConvict(t *testing.T) {
	t.Parallel()
	total, releases := 0, 0
	for i, q := range qualities() {
		for j, rate := range []float64{20, 100, 1000} {
			for k, share := range []float64{0.01, 0.1, 0.5, 0.9} {
				count := 0
				n := max(1, int(float64(*reps)*min(1, 50/rate)))
				for rep := range n {
					r := &reports{random: rand.New(rand.NewPCG(uint64(rep), uint64(100*i+10*j+k))), rate: rate, share: share}
					g := judge.NewGauge(judge.GaugeSettings{Alpha: alpha, HigherIsBetter: q.higher, Margin: 1e-9})
					if r.run(g, 10*time.Second, 5*time.Minute, q, q) > 0 {
						count++
					}
				}
				if count > 0 {
					t.Logf("%s, %g requests/s, share %g: %d of %d", q.name, rate, share, count, n)
				}
				total, releases = total+count, releases+n
			}
		}
	}
	t.Logf("%d of %d", total, releases)
	if limit := binomialLimit(releases, alpha); total > limit {
		t.Errorf("%d of %d convicted, at most %d are compatible with α", total, releases, limit)
	}
}

// TestADropInAccuracyIsFound is how soon a candidate is found that is right in 0.85 of its requests instead of 0.9, where a hundredth less is still good.
func TestADropInAccuracyIsFound(t *testing.T) {
	t.Parallel()
	for _, cell := range []struct {
		rate, share, margin float64
		most                time.Duration // the median
	}{
		{20, 0.1, 0.01, 10 * time.Minute}, {20, 0.5, 0.01, 5 * time.Minute},
		{100, 0.01, 0.01, time.Hour}, {100, 0.1, 0.01, 150 * time.Second}, {100, 0.5, 0.01, 2 * time.Minute},
		{1000, 0.01, 0.01, 150 * time.Second}, {1000, 0.1, 0.01, 30 * time.Second}, {1000, 0.5, 0.01, 10 * time.Second},
		{100, 0.5, 0, 4 * time.Minute}, {1000, 0.1, 0, 30 * time.Second}, {1000, 0.5, 0, 10 * time.Second},
	} {
		var took []float64
		found := 0
		for rep := range max(5, *reps/3) {
			r := &reports{random: rand.New(rand.NewPCG(uint64(rep), 5)), rate: cell.rate, share: cell.share}
			g := judge.NewGauge(judge.GaugeSettings{Alpha: alpha, HigherIsBetter: true, Margin: cell.margin})
			at := r.run(g, 30*time.Second, 10*time.Minute, right(0.9), right(0.85)).Seconds()
			if at > 0 {
				found++
			} else {
				at = time.Hour.Seconds()
			}
			took = append(took, at)
		}
		middle := median(took)
		t.Logf("margin %g, %4.0f requests/s, %2.0f %%: %3d of %d, median %.1f s", cell.margin, cell.rate, 100*cell.share, found, len(took), middle)
		if middle > cell.most.Seconds() {
			t.Errorf("not within %s", cell.most)
		}
	}
}
