package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// What each change, turn and report costs must not depend on how many services there are; docs/scale.md has the figures of a run.

func crowdName(i int) string { return fmt.Sprintf("s-%05d", i) }

// crowdDocument is that of the i-th service.
func crowdDocument(i, endpoints int) string {
	all := make([]string, endpoints)
	for e := range all {
		all[e] = fmt.Sprintf("%q", fmt.Sprintf("10.%d.%d.%d:8080", i%200, e/200, 1+e%200))
	}
	return fmt.Sprintf("service: %[1]s\nhosts: [%[1]s.example.com]\nbackends:\n  blue: {revision: v1, endpoints: [%[2]s]}\n  green: {revision: v2, endpoints: [\"10.1.0.1:8080\"]}\nserve: blue\n",
		crowdName(i), strings.Join(all, ", "))
}

// crowdServed is its served copy, and with a phase a release at some weight.
func crowdServed(b *testing.B, i, endpoints int, release *policy.Release) []byte {
	b.Helper()
	parsed, err := policy.ParseService("services/"+crowdName(i), []byte(crowdDocument(i, endpoints)))
	if err != nil {
		b.Fatal(err)
	}
	s := parsed.WithDefaults()
	arm := func(backend string) policy.Arm {
		return policy.Arm{Ref: policy.Ref{Backend: backend, Revision: s.Backends[backend].Revision}, Definition: s.Backends[backend]}
	}
	if release != nil {
		running := *release
		running.Candidate = arm("green")
		release = &running
	}
	data, err := json.Marshal(policy.Served{Service: s, Accepted: 1, Live: arm("blue"), Release: release})
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// put writes keys as fast as etcd takes them.
func crowdPut(b *testing.B, raw *clientv3.Client, kind store.Kind, values []string) {
	b.Helper()
	for i := 0; i < len(values); i += 64 {
		var ops []clientv3.Op
		for j := i; j < min(i+64, len(values)); j++ {
			ops = append(ops, clientv3.OpPut(store.Key(kind, crowdName(j)), values[j]))
		}
		if _, err := raw.Txn(context.Background()).Then(ops...).Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func crowdOf(services int, value func(int) string) []string {
	values := make([]string, services)
	for i := range values {
		values[i] = value(i)
	}
	return values
}

// BenchmarkAcceptance puts thousands of documents at once, and waits until all are accepted and rendered.
func BenchmarkAcceptance(b *testing.B) {
	for _, services := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				serving, raw := leading(b)
				<-serving.seen
				documents := crowdOf(services, func(i int) string { return crowdDocument(i, 2) })
				b.StartTimer()
				began, before := time.Now(), cpuTime(b)
				crowdPut(b, raw, store.ServiceDoc, documents)
				put := time.Since(began)
				until(b, serving, "all served", func(s *state) bool { return int(s.index.comings) == services && len(s.index.unaccepted) == 0 })
				took := time.Since(began)
				b.ReportMetric(put.Seconds(), "s-to-put")
				b.ReportMetric(took.Seconds(), "s-until-served")
				b.ReportMetric(float64(services)/took.Seconds(), "services/s")
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(services), "cpu-µs/service")
			}
		})
	}
}

// BenchmarkColdStart begins with served services in etcd, and ends when proxies are let in.
func BenchmarkColdStart(b *testing.B) {
	for _, services := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			etcd := anEtcd(b)
			raw, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, DialTimeout: 5 * time.Second})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = raw.Close() })
			crowdPut(b, raw, store.ServiceDoc, crowdOf(services, func(i int) string { return crowdDocument(i, 2) }))
			crowdPut(b, raw, store.ServedService, crowdOf(services, func(i int) string { return string(crowdServed(b, i, 2, nil)) }))
			for b.Loop() {
				b.StopTimer()
				serving, _ := halvesOver(b, etcd)
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan error, 1)
				b.StartTimer()
				began := time.Now()
				go func() { ended <- serving.Run(ctx) }()
				<-serving.seen
				ready := time.Since(began)
				b.StopTimer()
				if !serving.ready() {
					b.Fatal("not ready")
				}
				cancel()
				<-ended
				b.ReportMetric(ready.Seconds(), "s-until-ready")
				b.StartTimer()
			}
		})
	}
}

// BenchmarkColdParts is where the time of a cold start goes: the listing is read, taken into the state, rendered and published.
func BenchmarkColdParts(b *testing.B) {
	crowds(b, func(b *testing.B, services int) {
		etcd := anEtcd(b)
		serving, _ := halvesOver(b, etcd)
		raw, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, DialTimeout: 5 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = raw.Close() })
		crowdPut(b, raw, store.ServiceDoc, crowdOf(services, func(i int) string { return crowdDocument(i, 2) }))
		crowdPut(b, raw, store.ServedService, crowdOf(services, func(i int) string { return string(crowdServed(b, i, 2, nil)) }))
		part := func(name string, run func()) {
			before := cpuTime(b)
			began := time.Now()
			run()
			b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms-to-"+name)
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/1000, "cpu-ms-to-"+name)
		}
		for b.Loop() {
			*serving.state, serving.renderer = *newState(), envoy.NewRenderer()
			var batch store.Batch
			var t touched
			part("list", func() { batch, err = serving.store.Read(b.Context()) })
			if err != nil {
				b.Fatal(err)
			}
			part("take", func() { t = serving.state.apply(batch) })
			part("render", func() {
				for name := range t.services {
					serving.renderService(name, batch.Revision)
				}
			})
			part("publish", serving.publish)
		}
	})
}

// crowded is a serving half that has so many services, of which some run a release.
func crowded(b *testing.B, services, running int) (*Serving, *Deciding) {
	b.Helper()
	serving, deciding := halvesOver(b, anEtcd(b))
	batch := store.Batch{Revision: 1, Relisted: true}
	for i := range services {
		var release *policy.Release
		if i < running {
			release = &policy.Release{ID: "green-1", Phase: policy.Soaking, Weight: 100}
			batch.Changes = append(batch.Changes, store.Change{Kind: store.Permit, Name: crowdName(i), Release: "green-1", Mod: 1})
		}
		batch.Changes = append(batch.Changes,
			put(store.ServiceDoc, crowdName(i), []byte(crowdDocument(i, 2)), 1), put(store.ServedService, crowdName(i), crowdServed(b, i, 2, release), 1))
	}
	serving.follow(batch)
	for len(serving.work().dirty) > 0 {
	}
	return serving, deciding
}

// crowds runs a benchmark at several numbers of services.
func crowds(b *testing.B, run func(b *testing.B, services int)) {
	for _, services := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) { run(b, services) })
	}
}

// perOperation runs an operation again and again, and reports the CPU time that the process took for each: a busy machine does not change it much.
func perOperation(b *testing.B, operation func()) {
	b.Helper()
	runtime.GC()
	before := cpuTime(b)
	for b.Loop() {
		operation()
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkWeightStep is what one step of a release costs the serving half before it is sent to anyone.
func BenchmarkWeightStep(b *testing.B) {
	crowds(b, func(b *testing.B, services int) {
		serving, _ := crowded(b, services, 1)
		var steps [2][]byte
		for i := range steps {
			steps[i] = crowdServed(b, 0, 2, &policy.Release{ID: "green-1", Phase: policy.Shifting, Weight: policy.Weight(100 + 100*i)})
		}
		revision := int64(1)
		perOperation(b, func() {
			revision++
			serving.follow(store.Batch{Revision: revision, Changes: []store.Change{put(store.ServedService, crowdName(0), steps[revision%2], revision)}})
		})
	})
}

// BenchmarkChangedDocument is what a document with other endpoints, and its served copy, cost the serving half.
func BenchmarkChangedDocument(b *testing.B) {
	for _, endpoints := range []int{2, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			crowds(b, func(b *testing.B, services int) {
				serving, _ := crowded(b, services, 0)
				var documents, served [2][]byte
				for i := range served {
					documents[i], served[i] = []byte(crowdDocument(0, endpoints+i)), crowdServed(b, 0, endpoints+i, nil)
				}
				revision := int64(1)
				perOperation(b, func() {
					revision++
					serving.follow(store.Batch{Revision: revision, Changes: []store.Change{put(store.ServiceDoc, crowdName(0), documents[revision%2], revision)}})
					revision++
					serving.follow(store.Batch{Revision: revision, Changes: []store.Change{put(store.ServedService, crowdName(0), served[revision/2%2], revision)}})
				})
			})
		})
	}
}

// BenchmarkDecision is what the leader does about one changed document, but for etcd's part.
func BenchmarkDecision(b *testing.B) {
	for _, endpoints := range []int{2, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			crowds(b, func(b *testing.B, services int) {
				serving, d := crowded(b, services, 0)
				d.lead = newLead(nil, nil)
				documents := [2][]byte{[]byte(crowdDocument(0, endpoints)), []byte(crowdDocument(0, endpoints+1))}
				revision := int64(1)
				perOperation(b, func() {
					revision++
					serving.follow(store.Batch{Revision: revision, Changes: []store.Change{put(store.ServiceDoc, crowdName(0), documents[revision%2], revision)}})
					for name := range serving.work().dirty {
						v, _ := serving.view(name)
						turn := d.read(name, v, turnInput{now: time.Now()})
						decision := policy.Decide(turn)
						save := d.saveOf(name, v, turn, decision)
						if _, err := json.Marshal(save.Value); err != nil || !decision.Save {
							b.Fatal("nothing to save")
						}
						d.took(name, d.track(name), v.served, revision)
					}
				})
			})
		})
	}
}

// BenchmarkTurn is a leader's turn with ten running releases and nothing to save, reports taken.
func BenchmarkTurn(b *testing.B) {
	crowds(b, func(b *testing.B, services int) {
		serving, d := crowded(b, services, 10)
		proof, err := serving.store.Campaign(b.Context(), store.Candidate{ID: "a", TTL: time.Minute})
		if err != nil {
			b.Fatal(err)
		}
		d.begin(b.Context(), proof)
		now := time.Now() // it stands still: times are not due to be saved
		d.config.Now = func() time.Time { return now }
		for range 3 {
			d.judged = time.Time{}
			d.turn(b.Context(), true)
		}
		perOperation(b, func() {
			d.judged = time.Time{}
			d.turn(b.Context(), true)
		})
	})
}

// BenchmarkReport is what a replica tells the others every 250 ms.
func BenchmarkReport(b *testing.B) {
	crowds(b, func(b *testing.B, services int) {
		serving, _ := crowded(b, services, 10)
		r := Reporting{Serving: serving, ID: "a"}
		perOperation(b, func() {
			if report := r.report(time.Now()); len(report.Releases) != 10 {
				b.Fatal("releases are missing")
			}
		})
	})
}
