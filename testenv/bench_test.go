package testenv

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// BenchmarkLoad makes the demo's load through a real Envoy and reports which part of a core it costs us: what the load takes, the fleet does not have.
func BenchmarkLoad(b *testing.B) {
	m := startModel(b, "v1")
	_, users := startEnvoy(b, m)
	l, err := NewLoad(LoadConfig{Targets: []string{users}, Rate: 300, Lanes: 24})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	before, began := cpu(b), time.Now()
	go func() { ended <- l.Run(ctx) }()
	err = Eventually(ctx, func() (bool, error) { return l.Totals().Requests >= int64(b.N), nil })
	took := time.Since(began).Seconds()
	used := cpu(b) - before
	cancel()
	if failed := <-ended; failed != nil || err != nil {
		b.Fatal(failed, err)
	}
	totals := l.Totals()
	if totals.Failed > 0 {
		b.Errorf("%+v", totals.Outcomes)
	}
	b.ReportMetric(100*used/took, "%core")
	b.ReportMetric(float64(totals.Requests)/took, "requests/s")
	b.ReportMetric(float64(totals.Latency.Quantile(0.99).Microseconds())/1000, "p99-ms")
}

// cpu is the processor time that this process has used, in seconds.
func cpu(b *testing.B) float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
