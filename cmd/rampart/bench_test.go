package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/testenv/xdsbench"
)

func TestQuantilesAreValuesThatWereMeasured(t *testing.T) {
	b := bench{}
	for i := 20; i > 0; i-- {
		b.note("x", time.Duration(i)*time.Millisecond)
	}
	b.note("y", time.Millisecond)
	b.count("z", requests, 1234)
	m := b.found("t")
	x := m.Distributions[0]
	if row := distributions([]measured{m})[3]; row[1] != "z" || row[4] != "1234" {
		t.Errorf("a number of requests is told as %q", row)
	}
	if len(m.Distributions) != 3 || x.Runs != 20 || x.Min != 1 || x.Median != 10 || x.P90 != 18 || x.Max != 20 {
		t.Errorf("got %+v", m.Distributions)
	}
}

// A trial runs on a fleet of its own, so that one that fails says nothing of the others.
func TestATrialThatFailsLosesNothingThatWasMeasured(t *testing.T) {
	var out, errs live
	a := newApp(streams{in: strings.NewReader(""), out: &out, err: &errs})
	once := func(err error) func(context.Context, *bench) error {
		return func(_ context.Context, b *bench) error {
			b.note("a thing", time.Millisecond)
			b.burden.note(a.now())
			return err
		}
	}
	all, err := a.measureAll(t.Context(), []trial{
		{"first", 50, 1, once(nil)}, {"second", 50, 1, once(errors.New("run 2: no"))}, {"third", 50, 1, once(nil)},
	}, 2)
	if err == nil || err.Error() != "bench second: run 2: no" || newApp(streams{err: &errs}).report(err) == 0 {
		t.Errorf("got the error %v", err)
	}
	for i, name := range []string{"first", "second", "third"} {
		m := all[i]
		if m.Trial != name || len(m.Distributions) != 1 || m.Distributions[0].Runs != 1 || (m.Error != "") != (name == "second") {
			t.Errorf("%s: got %+v", name, m)
		}
		if len(m.Burden) != 2 || m.Burden[0].RSS == 0 || m.Burden[1].RSS == 0 {
			t.Errorf("%s: the burden is %+v", name, m.Burden)
		}
	}
	if err := a.tellBench(all, asTable); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "RUNS  MIN", "MEDIAN", "P90", "MAX", "first", "second", "third", "rampart", "its etcd")
}

func TestEveryEnvoyOfALargeFleetGetsConnections(t *testing.T) {
	for _, trial := range trials() {
		n := float64(trial.proxies)
		if none := n * math.Pow(1-1/n, float64(lanesFor(trial.proxies))); none > 1e-5 {
			t.Errorf("%s: one of %d Envoys gets none of %d connections with a probability of %.2g", trial.name, trial.proxies, lanesFor(trial.proxies), none)
		}
	}
}

func TestEndpointsThatChangeAllTheTimeAreMeasured(t *testing.T) {
	got := rampart("bench-xds", "--services", "2", "--proxies", "10", "--churn", "5", "-o", "json")
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	var c xdsbench.Churn
	if err := json.Unmarshal([]byte(got.out), &c); err != nil {
		t.Fatalf("%v: %s", err, got.out)
	}
	if c.Puts != 500 || c.Responses <= 0 || c.Responses > 1 || c.Bytes <= 0 || c.CPU <= 0 || c.Took <= 0 {
		t.Errorf("%+v", c)
	}
	var out live
	if err := newApp(streams{out: &out, err: &out}).tellChurn(c, asTable); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "PUTS/s", "BEHIND ms")
}

func TestFleetsAreMeasuredBesideTheLimit(t *testing.T) {
	got := rampart("bench-xds", "--services", "3", "--proxies", "20", "--steps", "2", "--latency", "3", "--rest", "0s", "--pause", "0s", "--idle", "100ms", "--connects", "3", "-o", "json")
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	var cells []xdsbench.Cell
	if err := json.Unmarshal([]byte(got.out), &cells); err != nil || len(cells) != 1 {
		t.Fatalf("%v: %s", err, got.out)
	}
	c := cells[0]
	for name, side := range map[string]xdsbench.Side{"rampart": c.Rampart, "limit": c.Limit} {
		if len(side.Steps) != 3 || side.StepCPU <= 0 || side.Connect().CPU <= 0 || len(side.Connects) != 3 {
			t.Errorf("%s: %+v", name, side)
		}
	}
	layers := map[string]int64{"Runtime": 20} // those with a TTL are sent again
	if !maps.Equal(c.Reconnect.Responses, layers) || !maps.Equal(c.LimitBack.Responses, layers) || c.Rollback <= 0 || len(c.Problems) > 0 {
		t.Errorf("%+v", c)
	}
	var out live
	if err := newApp(streams{out: &out, err: &out}).tellXds(cells, asTable); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "STEP µs", "LIMIT", "ROLLBACK", "CUT → BACK")
}
