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
