package testenv

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLatenciesHaveTheMedianAndTheTailTheyWereGiven(t *testing.T) {
	const median, p99 = 20 * time.Millisecond, 120 * time.Millisecond
	m := &modelServer{median: median, sigma: logNormalWidth(median, p99)}
	drawn := make([]time.Duration, 200_000)
	for i := range drawn {
		drawn[i] = m.latency()
	}
	slices.Sort(drawn)
	// The sampling errors of that many are 0.4 % and 1.2 %; five of each are allowed.
	near(t, "median", drawn[len(drawn)/2], median, 0.02)
	near(t, "99th percentile", drawn[len(drawn)*99/100], p99, 0.06)
}

func near(t *testing.T, what string, got, want time.Duration, tolerance float64) {
	t.Helper()
	if off := float64(got)/float64(want) - 1; off < -tolerance || off > tolerance {
		t.Errorf("the %s is %v, want %v", what, got, want)
	}
}

func TestATailThatIsNoneMeansConstantLatency(t *testing.T) {
	m := &modelServer{median: time.Second, sigma: logNormalWidth(time.Second, 0)}
	if got := m.latency(); got != time.Second {
		t.Errorf("got %v", got)
	}
}

func TestAModelFailsItsShareFromTheSwitchOnAndStampsIt(t *testing.T) {
	m := startModel(t, "v3")
	began := time.Now().UnixNano()
	good := runLoad(t, LoadConfig{Targets: []string{m.Address()}, Rate: 150, Timeout: patience}, after(50))
	if good.Failed != 0 {
		t.Errorf("before the switch: %+v", good.Outcomes)
	}
	switched := time.Now().UnixNano()
	if err := m.Fail(t.Context(), 0.5); err != nil {
		t.Fatal(err)
	}
	half := runLoad(t, LoadConfig{Targets: []string{m.Address()}, Rate: 150, Timeout: patience}, after(300))
	if err := m.Fail(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	mended := runLoad(t, LoadConfig{Targets: []string{m.Address()}, Rate: 150, Timeout: patience}, after(50))
	if mended.Failed != 0 {
		t.Errorf("after the switch back: %+v", mended.Outcomes)
	}
	// Five standard deviations of 300 throws are 0.14.
	if share := float64(half.Errors) / float64(half.Requests); share < 0.36 || share > 0.64 {
		t.Errorf("half of the requests should fail, %.2f did", share)
	}
	report, err := m.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report.Bad != half.Errors || half.Statuses[500] != half.Errors || half.Versions["v3"].Failed != half.Errors {
		t.Errorf("the model counts %d bad answers, its users %+v", report.Bad, half)
	}
	order := []int64{began, report.FirstGood, switched, report.FirstBad, report.LastBad, report.LastGood, time.Now().UnixNano()}
	if !slices.IsSorted(order) {
		t.Errorf("the stamps are out of order: %v", order)
	}
}

func TestASecondFailureIsStampedAnew(t *testing.T) {
	m := startModel(t, "v3")
	load := LoadConfig{Targets: []string{m.Address()}, Rate: 100, Timeout: patience}
	var stamps []int64
	for range 2 {
		if err := m.Fail(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		bad := runLoad(t, load, after(5))
		report, err := m.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if report.Bad != bad.Requests {
			t.Errorf("%d bad answers for %d requests", report.Bad, bad.Requests)
		}
		stamps = append(stamps, report.FirstBad, report.LastBad)
		if err := m.Fail(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		again, err := m.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if again.Bad != report.Bad {
			t.Error("mending it forgot what had been")
		}
	}
	if !slices.IsSorted(stamps) || stamps[1] == stamps[2] {
		t.Errorf("stamps are %v", stamps)
	}
}

func TestAShareThatIsNoneIsRefused(t *testing.T) {
	m := startModel(t, "v1")
	if err := m.Fail(t.Context(), 1.5); err == nil || !strings.Contains(err.Error(), "want a number from 0 to 1") {
		t.Errorf("got %v", err)
	}
}

func TestAModelThatCannotListenIsQuoted(t *testing.T) {
	m := startModel(t, "v1")
	log := t.TempDir() + "/log"
	_, err := StartModel(context.Background(), ModelConfig{Program: self(t, RoleModel), Version: "v2", Listen: m.Address(), Log: log})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}
