package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// crowd is a number of services of one gateway over a real etcd, and one replica's halves, which run until the benchmark ends.
type crowd struct {
	b        *testing.B
	serving  *Serving
	deciding *Deciding
	raw      *clientv3.Client
}

// newCrowd starts the halves on what etcd holds.
func newCrowd(b *testing.B, etcd *testenv.Etcd) *crowd {
	b.Helper()
	serving, deciding := halvesOver(b, etcd)
	raw, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, DialTimeout: 5 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = raw.Close() })
	return &crowd{b: b, serving: serving, deciding: deciding, raw: raw}
}

// run starts parts of the replica.
func (c *crowd) run(parts ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, part := range parts {
		group.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				c.b.Error(err)
			}
		})
	}
	c.b.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

// document is that of the i-th service.
func crowdDocument(i, endpoints int) string {
	var all []string
	for e := range endpoints {
		all = append(all, fmt.Sprintf("%q", fmt.Sprintf("10.%d.%d.%d:8080", i/250%250, i%250, 1+e%250)+""))
	}
	return fmt.Sprintf("service: s-%05d\nhosts: [s-%05d.example.com]\nbackends:\n  blue: {revision: v1, endpoints: [%s]}\n  green: {revision: v2, endpoints: [\"10.1.0.1:8080\"]}\nserve: blue\n",
		i, i, strings.Join(all, ", "))
}

// put writes the documents of so many services, as fast as etcd takes them.
func (c *crowd) put(services int) {
	c.b.Helper()
	for from := 0; from < services; from += 64 {
		var ops []clientv3.Op
		for i := from; i < min(from+64, services); i++ {
			ops = append(ops, clientv3.OpPut(store.Key(store.ServiceDoc, fmt.Sprintf("s-%05d", i)), crowdDocument(i, 2)))
		}
		if _, err := c.raw.Txn(context.Background()).Then(ops...).Commit(); err != nil {
			c.b.Fatal(err)
		}
	}
}

// until waits for a condition of the state.
func (c *crowd) until(what string, holds func(*state) bool) {
	c.b.Helper()
	deadline := time.After(5 * time.Minute)
	for {
		c.serving.mu.Lock()
		held := holds(c.serving.state)
		c.serving.mu.Unlock()
		if held {
			return
		}
		select {
		case <-deadline:
			c.b.Fatal(errors.New(what))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// BenchmarkAcceptance puts thousands of documents at once, and waits until all are accepted and rendered.
func BenchmarkAcceptance(b *testing.B) {
	for _, services := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				c := newCrowd(b, anEtcd(b))
				c.run(c.serving.Run, c.serving.GoOn, c.deciding.Run)
				<-c.serving.seen
				b.StartTimer()
				began := time.Now()
				c.put(services)
				put := time.Since(began)
				c.until("all served", func(s *state) bool { return int(s.index.comings) == services && len(s.index.unaccepted) == 0 })
				took := time.Since(began)
				b.ReportMetric(put.Seconds(), "s-to-put")
				b.ReportMetric(took.Seconds(), "s-until-served")
				b.ReportMetric(float64(services)/took.Seconds(), "services/s")
			}
		})
	}
}
