package envoy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkLoadReports has 1,000 proxies report twice a second and tells which part of a core it takes to read them, beside a bare grpc-go server that drops the
// messages, measured in the same run. One round is one report of each proxy.
//
//	make bench-reports
func BenchmarkLoadReports(b *testing.B) {
	const proxies = 1000
	real := []string{"real"}
	if path := os.Getenv("PROFILE"); path != "" {
		real = append(real, path)
	}
	ours, bare := readReports(b, proxies, b.N, real...)
	messages := float64(proxies*b.N) / ours.took.Seconds()
	b.ReportMetric(messages, "messages/s")
	b.ReportMetric(messages*float64(ours.fleet.size)/1e6, "MB/s")
	b.ReportMetric(100*ours.share(), "%core")
	b.ReportMetric(100*bare.share(), "%core-bare")
	b.ReportMetric(ours.share()/bare.share(), "×bare")
	b.ReportMetric(0, "ns/op")
}

// What the benchmark measures is read, to the last report.
func TestAllReportsOfASimulatedFleetAreRead(t *testing.T) {
	ours, bare := readReports(t, 20, 2, "real")
	if ours.used <= 0 || bare.used <= 0 {
		t.Errorf("read in no time: %v, %v", ours.used, bare.used)
	}
}

// readReports has so many proxies report to both servers, by turns, so that what else the machine does hits both.
func readReports(t testing.TB, proxies, rounds int, real ...string) (ours, bare *reading) {
	t.Helper()
	const interval, atATime = 500 * time.Millisecond, 4
	ours, bare = newReading(t, proxies, real...), newReading(t, proxies, "bare")
	for left := rounds; left > 0; left -= atATime {
		ours.measure(t, interval, min(left, atATime))
		bare.measure(t, interval, min(left, atATime))
	}
	for _, one := range []*reading{ours, bare} {
		if read, sent := one.server.end(t), one.sent+proxies; read.Messages < int64(sent-proxies) || read.Messages > int64(sent) {
			t.Errorf("%d messages were sent, and read were %+v", sent, read)
		}
	}
	return ours, bare
}

// reading is a server whose processor time is measured while a fleet reports to it.
type reading struct {
	server     *reportServer
	fleet      *reporters
	sent       int // reports
	used, took time.Duration
}

// newReading has a fleet reported until nothing is new any more.
func newReading(t testing.TB, proxies int, server ...string) *reading {
	t.Helper()
	s := startReportServer(t, server...)
	r := &reading{server: s, fleet: connectReporters(t, s.address, proxies)}
	s.settled(t, proxies)
	r.measure(t, 500*time.Millisecond, 3)
	r.used, r.took = 0, 0
	return r
}

func (r *reading) measure(t testing.TB, interval time.Duration, rounds int) {
	t.Helper()
	before := processorTime(t, r.server.Pid())
	took, err := r.fleet.run(interval, rounds)
	if err != nil {
		t.Fatal(err)
	}
	r.used += processorTime(t, r.server.Pid()) - before
	r.took += took
	r.sent += rounds * len(r.fleet.proxies)
}

func (r *reading) share() float64 { return r.used.Seconds() / r.took.Seconds() }

// BenchmarkRestingStreams tells how much memory a proxy's streams of load reports and statistics take while no release runs, beside a bare connection.
//
//	make bench-reports
func BenchmarkRestingStreams(b *testing.B) {
	const proxies = 5000
	perProxy := func(streams int) float64 {
		s := startReportServer(b, "resting")
		connectResting(b, s.address, 100, streams) // what is needed once, is there now
		before := s.settled(b, 100*streams)
		connectResting(b, s.address, proxies, streams)
		after := s.settled(b, (100+proxies)*streams)
		s.end(b)
		return float64(after-before) / proxies
	}
	for b.Loop() {
		connection, reports, both := perProxy(0), perProxy(1), perProxy(2)
		b.ReportMetric(connection/1024, "KiB-connection")
		b.ReportMetric((reports-connection)/1024, "KiB-reports")
		b.ReportMetric((both-reports)/1024, "KiB-statistics")
	}
	b.ReportMetric(0, "ns/op")
}

// processorTime is what a process has used so far, all of its threads, as the scheduler counts it.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatal("no threads", err)
	}
	var sum time.Duration
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var used time.Duration
		if _, scanned := fmt.Sscan(string(text), &used); err != nil || scanned != nil {
			t.Fatal(err, scanned)
		}
		sum += used
	}
	return sum
}

// residentBytes is how much memory a process has.
func residentBytes(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * 1024
}
