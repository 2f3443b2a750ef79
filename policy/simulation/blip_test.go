package simulation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy/simulation"
)

func blips() []time.Duration {
	if !whole() {
		return []time.Duration{500 * time.Millisecond}
	}
	return []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond, time.Second}
}

// TestBlipsAreForgivenUpToTheSetting is judge.md 2g's table of blips: the candidate alone fails half of its requests for a short time in mid-ramp, baseline 0.1 %. With Blip the
// sliding cap and the stricter guard rail are measured together.
func TestBlipsAreForgivenUpToTheSetting(t *testing.T) {
	lengths := []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 500 * time.Millisecond, 800 * time.Millisecond, 1500 * time.Millisecond}
	columns := []string{"blip"}
	for _, length := range lengths {
		columns = append(columns, length.String()+" at 100 rps", "10k")
	}
	costs := regressions("+1pp +5pp 50%")
	if !whole() {
		costs = nil
	}
	b := newTable(t, "Rolled back after a blip of the candidate alone, %, and bad requests of regressions (100 | 10k rps)", append(columns[1:], names(costs)...)...)
	for _, blip := range blips() {
		settings := defaults()
		settings.Blip = blip
		rule := func() simulation.Rule { return simulation.NewJudge(settings) }
		var row []string
		for _, length := range lengths {
			for _, rate := range []float64{100, 10000} {
				s := with(usual(rate, 0.001), simulation.Fault{Share: 0.5, From: 270 * time.Second, Phase: time.Second, For: length})
				s.Limit = 300 * time.Second
				sum := play(t, s, *reps, rule)
				got := share(sum.Convicted-sum.Early, sum.Releases)
				row = append(row, fmt.Sprintf("%.0f ±%.0f (%d guard)", 100*got.value, 200*got.err, sum.By["guard"]))
				if limit := binomialLimit(sum.Releases, 0.06); length <= blip && sum.Convicted > limit {
					t.Errorf("blip %s: %d of %d rolled back after %s at %g requests/s", blip, sum.Convicted, sum.Releases, length, rate)
				}
			}
		}
		for _, c := range costs {
			cell := ""
			for _, rate := range []float64{100, 10000} {
				sum := play(t, with(usual(rate, 0.001), c.fault(0.001, time.Second)), *reps, rule)
				cell += fmt.Sprintf(" | %.3g ±%.2g", sum.Bad, 2*sum.BadError)
			}
			row = append(row, cell[3:])
		}
		b.row("blip "+blip.String(), row...)
	}
	b.end()
}
