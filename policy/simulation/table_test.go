package simulation_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/policy/simulation"
)

// The tables are printed by `make bench-judge`. Without flags they are short enough for every test run, and their assertions are the same.
var (
	reps = flag.Int("reps", 12, "releases per cell of the tables")
	seed = flag.Uint64("seed", 1, "seed of the tables")
)

// whole reports whether the tables are played for their figures. Else a few services stand for all, so that the race detector is through with them in a minute.
func whole() bool { return *reps >= 40 }

const history = 30 * time.Minute

// defaults are the margins that judge.md's figures were measured with.
func defaults() judge.Settings { return judge.Settings{Alpha: 0.01, Ratio: 1.1, Points: 1e-4} }

func ours() simulation.Rule { return simulation.NewJudge(defaults()) }

// usual is a service on judge.md's ramp.
func usual(rate, baseline float64) simulation.Scenario {
	return simulation.Scenario{Rate: rate, Baseline: baseline, History: history, Steps: simulation.Ramp(), Seed: *seed}
}

// with returns a copy with faults.
func with(s simulation.Scenario, faults ...simulation.Fault) simulation.Scenario {
	s.Faults = faults
	return s
}

// play runs a scenario, and fails the test if it cannot.
func play(t *testing.T, s simulation.Scenario, n int, rule func() simulation.Rule) simulation.Summary {
	t.Helper()
	outcomes, err := simulation.Batch{Scenario: s, Releases: n, Rule: rule}.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return simulation.Summarize(outcomes)
}

// regression is one column of judge.md's tables of detection.
type regression struct {
	name string
	bad  func(baseline float64) float64
	mid  bool
}

func regressions(names string) []regression {
	effects := map[string]func(float64) float64{
		"2×":   func(b float64) float64 { return 2 * b },
		"5×":   func(b float64) float64 { return 5 * b },
		"+1pp": func(b float64) float64 { return b + 0.01 },
		"+5pp": func(b float64) float64 { return b + 0.05 },
		"50%":  func(float64) float64 { return 0.5 },
	}
	var all []regression
	for _, name := range strings.Fields(names) {
		all = append(all, regression{name + " t=0", effects[name], false}, regression{name + " mid", effects[name], true})
	}
	return all
}

// fault is the regression of a service. phase is how much later a fault in mid-ramp may begin.
func (r regression) fault(baseline float64, phase time.Duration) simulation.Fault {
	f := simulation.Fault{Share: r.bad(baseline)}
	if r.mid {
		f.From, f.Phase = 270*time.Second, phase
	}
	return f
}

// figure is a value with its standard error.
type figure struct{ value, err float64 }

// share is how often n of all happened; its error is that of the better known of both, ours and the reference's, and never 0.
func share(n, all int) figure {
	p := (float64(n) + 0.5) / (float64(all) + 1)
	return figure{float64(n) / float64(all), math.Sqrt(p * (1 - p) / float64(all))}
}

// cell is what the reference has for a cell: mean bad requests and the share detected.
type cell struct{ bad, detected float64 }

// parse reads a cell of judge.md, such as "114k / 300 (87%)".
func parse(t *testing.T, text string) cell {
	t.Helper()
	c := cell{detected: 1}
	bad, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	number, thousands := strings.CutSuffix(bad, "k")
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if thousands {
		value *= 1000
	}
	c.bad = value
	if _, percent, found := strings.Cut(rest, "("); found {
		if _, err := fmt.Sscanf(percent, "%f%%", &c.detected); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		c.detected /= 100
	}
	return c
}

// table prints rows of figures beside the reference's, and judges the differences.
type table struct {
	t       *testing.T
	out     *tabwriter.Writer
	compare int // cells that were compared
	misses  int // of them, beyond two standard errors
}

// newTable begins a table.
func newTable(t *testing.T, title string, columns ...string) *table {
	t.Helper()
	b := &table{t: t, out: tabwriter.NewWriter(t.Output(), 0, 0, 2, ' ', 0)}
	fmt.Fprintf(t.Output(), "\n%s\n(reps %d, seed %d; ours ± two standard errors | reference; ! is further off than two standard errors of both)\n\n", title, *reps, *seed)
	fmt.Fprintln(b.out, "\t"+strings.Join(columns, "\t"))
	return b
}

func (b *table) row(name string, cells ...string) {
	fmt.Fprintln(b.out, name+"\t"+strings.Join(cells, "\t"))
}

// near prints ours beside the reference's value and fails the test when they are further apart than chance explains: four standard errors of both.
func (b *table) near(ours, reference figure, format string) string {
	return b.off(ours, reference, math.Abs(ours.value-reference.value), format)
}

// below is near for what must not be above the reference's value; better is as it should be.
func (b *table) below(ours, reference figure, format string) string {
	return b.off(ours, reference, ours.value-reference.value, format)
}

func (b *table) off(ours, reference figure, off float64, format string) string {
	b.compare++
	tolerance := math.Hypot(ours.err, reference.err)
	off -= 0.006 * math.Abs(reference.value) // the reference prints three digits
	mark := ""
	if off > 2*tolerance {
		b.misses++
		mark = " !"
	}
	text := fmt.Sprintf(format+" ±"+format+" | "+format+"%s", ours.value, 2*ours.err, reference.value, mark)
	if off > 4*tolerance+1e-9 {
		b.t.Errorf("%s: further off than four standard errors", text)
	}
	return text
}

// end prints the table and fails the test when more cells miss by two standard errors than chance explains.
func (b *table) end() {
	b.out.Flush()
	if b.compare == 0 {
		return
	}
	fmt.Fprintf(b.t.Output(), "\n%d of %d cells are off by more than two standard errors\n", b.misses, b.compare)
	if limit := binomialLimit(b.compare, 0.05); b.misses > limit {
		b.t.Errorf("%d of %d cells are off by more than two standard errors; chance explains %d", b.misses, b.compare, limit)
	}
}

// binomialLimit is the number of events of probability p in n trials that is exceeded with a probability of one in a thousand at most.
func binomialLimit(n int, p float64) int {
	below, term := 0.0, math.Pow(1-p, float64(n))
	for k := 0; ; k++ {
		below += term
		if 1-below < 0.001 {
			return k
		}
		term *= float64(n-k) / float64(k+1) * p / (1 - p)
	}
}
