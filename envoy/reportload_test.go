package envoy_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkLoadReports has 1,000 proxies report twice a second and tells which part of a core it takes to read them, beside a bare grpc-go server that drops the
// messages, measured in the same run. One round is one report of each proxy.
//
//	go test -run '^$' -bench LoadReports -benchtime 20x ./envoy
func BenchmarkLoadReports(b *testing.B) {
	const proxies, interval = 1000, 500 * time.Millisecond
	cost := func(args ...string) float64 {
		s := startReportServer(b, args...)
		f := connectReporters(b, s.address, proxies)
		if _, err := f.run(interval, 3); err != nil {
			b.Fatal(err)
		}
		before := processorTime(b, s.Pid())
		took, err := f.run(interval, b.N)
		if err != nil {
			b.Fatal(err)
		}
		used := processorTime(b, s.Pid()) - before
		totals := s.end(b)
		b.Logf("%v: %+v", args, totals)
		messages := float64(proxies*b.N) / took.Seconds()
		b.ReportMetric(messages, "messages/s")
		b.ReportMetric(messages*float64(f.size)/1e6, "MB/s")
		return used.Seconds() / took.Seconds()
	}
	real := []string{"real"}
	if path := os.Getenv("PROFILE"); path != "" {
		real = append(real, path)
	}
	ours, bare := cost(real...), cost("bare")
	b.ReportMetric(100*ours, "%core")
	b.ReportMetric(100*bare, "%core-bare")
	b.ReportMetric(ours/bare, "×bare")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRestingStreams tells how much memory a proxy's streams of load reports and statistics take while no release runs, beside a bare connection.
//
//	go test -run '^$' -bench RestingStreams -benchtime 1x ./envoy
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

// processorTime is what a process has used so far.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
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
