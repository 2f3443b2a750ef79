package replica

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/xds"
)

// BenchmarkEndpointChurn puts a document of 1,000 endpoints, of which one comes or goes, a hundred times a second: what that costs leader and serving half together.
func BenchmarkEndpointChurn(b *testing.B) {
	const endpoints, puts = 1000, 300
	serving, raw := leading(b)
	<-serving.seen
	crowdPut(b, raw, store.ServiceDoc, crowdOf(100, func(i int) string { return crowdDocument(i, 2) }))
	put := func(i int) int64 {
		answer, err := raw.Put(b.Context(), store.Key(store.ServiceDoc, crowdName(0)), crowdDocument(0, endpoints+i%2))
		if err != nil {
			b.Fatal(err)
		}
		return answer.Header.Revision
	}
	accepted := func(revision int64) func(*state) bool {
		return func(s *state) bool {
			return s.services[crowdName(0)] != nil && s.services[crowdName(0)].served != nil && s.services[crowdName(0)].served.Accepted >= revision
		}
	}
	until(b, serving, "all served", func(s *state) bool { return s.index.comings == 100 })
	for b.Loop() {
		published, last := map[int64]bool{}, int64(0)
		before := cpuTime(b)
		tick := time.NewTicker(10 * time.Millisecond)
		for i := range puts {
			<-tick.C
			last = put(i)
			look(serving, func(s *state) bool {
				published[s.services[crowdName(0)].served.Accepted] = true
				return true
			})
		}
		tick.Stop()
		began := time.Now()
		until(b, serving, "the newest served", accepted(last))
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms-behind")
		b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/puts, "cpu-µs/put")
		b.ReportMetric(float64(len(published))/puts, "served/put")
	}
}

// BenchmarkRoutes changes the routes of services of one gateway a hundred times a second, for three seconds, while a proxy is there.
func BenchmarkRoutes(b *testing.B) {
	crowds(b, func(b *testing.B, services int) {
		renderer := envoy.NewRenderer()
		now := time.Unix(1_000_000, 0)
		flush := func(revision int64) envoy.Flushed {
			return renderer.FlushAt(envoy.Moment{Revision: revision, Now: now, Present: func(group string) bool { return group == policy.DefaultGateway }})
		}
		served := func(i int, host string) *policy.Served {
			var s policy.Served
			if err := json.Unmarshal(crowdServed(b, i, 2, nil), &s); err != nil {
				b.Fatal(err)
			}
			s.Service.Hosts = []string{host}
			return &s
		}
		for i := range services {
			renderer.SetService(crowdName(i), served(i, crowdName(i)), envoy.State{}, 1)
		}
		server := xds.New(xds.Config{Cluster: "c", Group: envoy.GroupOf, Now: func() time.Time { return now }})
		server.Publish(1, flush(1).Updates)
		changes := []*policy.Served{served(0, "a"), served(0, "b")}
		revision, pushes, bytes := int64(1), 0, 0
		perOperation(b, func() {
			revision++
			now = now.Add(10 * time.Millisecond)
			renderer.SetService(crowdName(0), changes[revision%2], envoy.State{}, revision)
			out := flush(revision)
			server.Publish(revision, out.Updates)
			for _, push := range out.Routes {
				pushes++
				bytes = push.Bytes
			}
		})
		b.ReportMetric(float64(pushes)/float64(b.N)*100, "pushes/s")
		b.ReportMetric(float64(bytes), "bytes/push")
	})
}
