package main

import (
	"encoding/json"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// record puts the recording of a release into etcd in which green fails one request in a hundred, at 10 % of 400 requests a second, for 20 s.
func (e *etcd) record(release string, from time.Time) {
	e.t.Helper()
	shop, err := policy.ParseService("shop.yaml", []byte(shopYAML))
	if err != nil {
		e.t.Fatal(err)
	}
	piece := policy.Recording{
		Release: release, Service: shop.WithDefaults(), Live: policy.Ref{Backend: "blue", Revision: "v41"}, Candidate: policy.Ref{Backend: "green", Revision: "v42"},
	}
	piece.Service.Plan.Warmup = new(policy.Duration)
	evidence := policy.NewEvidence(release, piece.Service.Analysis)
	for i := range 80 {
		turn := policy.TurnRecord{
			At: from.UnixMilli() + int64(i)*250, Weight: 1000, Phase: policy.Soaking, Mode: policy.ByPlan,
			Reading: policy.Reading{Interval: 250 * time.Millisecond, Live: policy.Counts{OK: 90, Issued: 90}, Candidate: policy.Counts{OK: 9, Errors: 1, Issued: 10}},
		}
		served := &policy.Served{Service: piece.Service, Release: &policy.Release{ID: release, Weight: 1000, Phase: policy.Soaking, Mode: policy.ByPlan}}
		piece.Turns = append(piece.Turns, policy.Record(time.UnixMilli(turn.At), served, turn.Reading, evidence.Take(turn.Reading, served)))
	}
	data, err := piece.Encode()
	if err != nil {
		e.t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + store.SocketPath(e.folder)}})
	if err != nil {
		e.t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(e.t.Context(), "/rampart/v1/readings/shop/"+release+"/000001", string(data)); err != nil {
		e.t.Fatal(err)
	}
}

func TestReplaySaysWhatOtherSettingsWouldHaveDecided(t *testing.T) {
	e, _ := released(t)
	got := e.expect(statusNo, "replay", "shop")
	contains(t, got.err, "replay shop: no readings of shop are kept")
	e.record("green-7", time.UnixMilli(1))
	out := e.expect(0, "replay", "shop").out
	contains(t, out, "shop green-7 would have been rolled back after", "errors: green", "As it was judged: rolled back after", "80 turns over 20 s")
	lax := e.file("lax.yaml", shopYAML+"analysis: {errors: {ratio: 50, points: 50%}}\n")
	contains(t, e.expect(0, "replay", "shop", "-f", lax).out, "shop green-7 would have been kept", "Changed: analysis.errors.ratio 1.1 → 50")
	var value policy.Replay
	if err := json.Unmarshal([]byte(e.expect(0, "replay", "shop", "-f", lax, "-o", "json").out), &value); err != nil || value.Is.Convicted || !value.Was.Convicted || value.Turns != 80 {
		t.Errorf("as a value: %+v, %v", value, err)
	}
	contains(t, e.expect(statusNo, "replay", "shop", "--release", "green-8").err, "there are those of green-7")
	contains(t, e.expect(statusUsage, "replay", "shop", "-f", e.file("other.yaml", edgeYAML)).err, "there is no document of service shop in")
	contains(t, e.expect(statusNo, "replay", "shop", "-f", e.file("bad.yaml", shopYAML+"analysis: {eror: 1}\n")).err, "bad.yaml:", "did you mean `errors`?")
	contains(t, e.expect(statusNo, "replay", "nothing").err, "nothing")
}

func TestHistoryListsTheTurnsOfARelease(t *testing.T) {
	e, _ := released(t)
	e.record("green-7", time.UnixMilli(1))
	contains(t, e.expect(0, "history", "shop", "--turns", "--last", "2").out, "soaking", "10 %", "0 of 90 failed", "1 of 10 failed", "unhealthy")
	var turns []policy.TurnRecord
	if err := json.Unmarshal([]byte(e.expect(0, "history", "shop", "--turns", "-o", "json").out), &turns); err != nil || len(turns) != 80 || turns[0].Reading.Live.OK != 90 {
		t.Errorf("%d turns, %v", len(turns), err)
	}
	contains(t, e.expect(statusUsage, "history", "shop", "--release", "green-7").err, "--release goes with --turns")
}
