package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// moment is a time in the stories that are told here.
func moment(after time.Duration) time.Time {
	return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC).Add(after)
}

func users(requests, failed int64) testenv.Totals {
	t := testenv.Totals{Versions: map[string]testenv.Count{}}
	t.Requests, t.Failed = requests, failed
	return t
}

func confirmed(weights ...string) []event {
	var events []event
	for i, w := range weights {
		events = append(events, event{moment(time.Duration(i) * time.Second), "confirmed", w + " confirmed by 3 of 3"})
	}
	return events
}

// keptStories are findings that keep the promise of each act.
func keptStories() map[int][]findings {
	bad := users(5000, 40)
	bad.Versions["v3"] = testenv.Count{Requests: 90, Failed: 40}
	shared := users(9000, 1000)
	shared.Versions["v2"], shared.Versions["v7"] = testenv.Count{Requests: 8000, Failed: 800}, testenv.Count{Requests: 1000, Failed: 200}
	good := findings{version: "v2", outcome: policy.Committed, took: 40 * time.Second, users: users(12000, 0), lowest: policy.Full,
		events: confirmed("1 %", "5 %", "25 %", "50 %", "95 %")}
	brief, long := good, good
	brief.lowest = quarter
	long.beaten, long.stamps.lastAsked = moment(0), moment(3*time.Second)
	long.events = slices.Concat(confirmed("1 %", "5 %", "25 %"), []event{
		{moment(9 * time.Second), "restarted", "at 25 % …"}, {moment(19 * time.Second), "moved", "0 % → 1 %"},
	}, confirmed("1 %"))
	return map[int][]findings{
		1: {good},
		2: {{
			version: "v3", outcome: policy.RolledBack, users: bad, events: confirmed("1 %"),
			stamps:  stamps{firstBad: moment(0), lastBad: moment(900 * time.Millisecond), lastAsked: moment(990 * time.Millisecond)},
			lastAck: moment(time.Second), seenOn: moment(980 * time.Millisecond), seenOff: moment(1010 * time.Millisecond),
		}},
		3: {{version: "v4", outcome: policy.RolledBack, users: users(5000, 0), injected: moment(0), lastAck: moment(2 * time.Second)}},
		4: {brief, long},
		5: {{
			version: "v7", outcome: policy.Committed, users: shared, injected: moment(10 * time.Second), mended: moment(18 * time.Second),
			events: []event{{moment(8 * time.Second), "moved", "5 % → 25 %"}, {moment(20 * time.Second), "moved", "25 % → 50 %"}},
		}},
	}
}

func TestEachPromiseCanBeKept(t *testing.T) {
	for _, a := range demoActs() {
		r := resultOf(a, keptStories()[a.number], nil)
		if !r.Kept || r.Why != "" {
			t.Errorf("act %d: missed although everything was as promised: %s", a.number, r.Why)
		}
	}
}

// Each story differs from a kept one in one point, and that point must be named.
func TestWhatBreaksAPromiseIsNamed(t *testing.T) {
	for _, one := range []struct {
		act   int
		spoil func(f []findings)
		named string
	}{
		{1, func(f []findings) { f[0].users.Failed = 1 }, "1 of 12000 requests failed"},
		{1, func(f []findings) { f[0].took = 61 * time.Second }, "it took 61.0 s"},
		{1, func(f []findings) { f[0].outcome = policy.RolledBack }, "was rolled back, not committed"},
		{1, func(f []findings) { f[0].outcome = "" }, "was not ended"},
		{1, func(f []findings) { f[0].events = f[0].events[1:] }, "4 steps were confirmed"},
		{1, func(f []findings) { f[0].events[2].text = "25 % confirmed by 2 of 3" }, "confirmed by 2 of 3"},
		{1, func(f []findings) { f[0].mismatch = []string{"25 %"} }, "did not route by 25 %"},
		{2, func(f []findings) { f[0].lastAck = moment(2100 * time.Millisecond) }, "only 2.10 s after"},
		{2, func(f []findings) { f[0].lastAck = time.Time{} }, "is not known"},
		{2, func(f []findings) { f[0].stamps.firstBad = time.Time{} }, "is not known"},
		{2, func(f []findings) { f[0].users.Failed++ }, "1 requests failed that v3 did not answer"},
		{2, func(f []findings) { f[0].seenOn = moment(1100 * time.Millisecond) }, "had the weight 100ms after"},
		{2, func(f []findings) { f[0].seenOff = moment(1300 * time.Millisecond) }, "showed weight 0 only 300ms after"},
		{2, func(f []findings) { f[0].seenOff = time.Time{} }, "never showed the rollback"},
		{2, func(f []findings) { f[0].stamps.lastAsked = moment(2 * time.Second) }, "was asked 1s after the last ACK"},
		{2, func(f []findings) { f[0].outcome = policy.Committed }, "was committed, not rolled back"},
		{3, func(f []findings) { f[0].users.Failed = 2 }, "2 of 5000 requests failed"},
		{3, func(f []findings) { f[0].lastAck = moment(5100 * time.Millisecond) }, "rolled back after 5.10 s"},
		{3, func(f []findings) { f[0].lastAck = time.Time{} }, "rolled back after –"},
		{4, func(f []findings) { f[0].lowest = noKey }, "fell to no weight at all"},
		{4, func(f []findings) { f[0].lowest = 500 }, "fell to 5 %"},
		{4, func(f []findings) { f[0].events = append(f[0].events, event{moment(0), "restarted", ""}) }, "began again"},
		{4, func(f []findings) { f[1].stamps.lastAsked = moment(3510 * time.Millisecond) }, "still asked 3.51 s after"},
		{4, func(f []findings) { f[1].stamps.lastAsked = time.Time{} }, "was never asked"},
		{4, func(f []findings) { f[1].strays = 3 }, "got 3 requests after the restart"},
		{4, func(f []findings) { f[1].events = f[1].events[:3] }, "began again 0 times"},
		{4, func(f []findings) { f[1].events[4].text = "5 % → 25 %" }, "not begin again at its first step"},
		{4, func(f []findings) { f[1].users.Failed = 1 }, "1 of 12000 requests failed"},
		{5, func(f []findings) { f[0].events[1].at = moment(12 * time.Second) }, "in the outage it moved 25 % → 50 %"},
		{5, func(f []findings) { f[0].outcome = policy.RolledBack }, "was rolled back, not committed"},
		{5, func(f []findings) { f[0].users.Failed++ }, "1 requests failed that no version answered"},
		{5, func(f []findings) { f[0].events = f[0].events[:1] }, "did not go on after the outage"},
	} {
		story := keptStories()[one.act]
		one.spoil(story)
		r := resultOf(demoActs()[one.act-1], story, nil)
		if r.Kept || !strings.Contains(r.Why, one.named) {
			t.Errorf("act %d: kept %t, why %q; want it missed for %q", one.act, r.Kept, r.Why, one.named)
		}
	}
}

func TestAnActThatCouldNotBePlayedIsMissed(t *testing.T) {
	r := resultOf(demoActs()[0], nil, errors.New("no etcd"))
	if r.Kept || r.Why != "no etcd" {
		t.Errorf("got %+v", r)
	}
}

func TestAMissedPromiseIsTheExitStatus(t *testing.T) {
	kept, lost := result{Act: 1, Kept: true}, result{Act: 2}
	var f failure
	if err := verdictOn([]result{kept, lost}); !errors.As(err, &f) || f.status != statusNo || !strings.Contains(err.Error(), "1 of 2 acts") {
		t.Errorf("one of two missed: got %v", err)
	}
	if err := verdictOn([]result{kept}); err != nil {
		t.Errorf("all kept: got %v", err)
	}
}

func TestTheFiguresForMachinesHaveTheirNames(t *testing.T) {
	data, err := json.Marshal(resultOf(demoActs()[1], keptStories()[2], nil))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"act": 2.0, "outcome": "rolled back", "seconds": 0.0, "requests": 5000.0, "failed": 40.0,
		"onsetToLastBadMs": 900.0, "onsetToLastAckMs": 1000.0, "stepsConfirmed": 1.0, "kept": true,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestTheTableSaysWhatWasPromisedAndWhatWasMeasured(t *testing.T) {
	missed := keptStories()[3]
	missed[0].users.Failed = 7
	results := []result{resultOf(demoActs()[1], keptStories()[2], nil), resultOf(demoActs()[2], missed, nil)}
	text := strings.Join(resultLines(results, screen{}), "\n")
	contains(t, text, "kept  2. A bad release", "promised from the first bad answer", "measured last ACK after 1.00 s, last bad answer after 900 ms",
		"MISSED  3. A dead release", "missed   7 of 5000 requests failed", "ONSET TO LAST ACK")
	if strings.Contains(text, "\x1b") {
		t.Error("colours without a terminal")
	}
	for line := range strings.SplitSeq(strings.Join(resultLines(results, screen{width: 60}), "\n"), "\n") {
		if len([]rune(line)) > 60 {
			t.Errorf("wider than the screen: %q", line)
		}
	}
}

func TestTheHistoryIsReadAsEventsOfOneRelease(t *testing.T) {
	f := findings{release: "green-7"}
	f.take([]store.Line{
		{Time: moment(0), Release: "blue-2", Event: "committed", Text: "committed: blue v1 is live"},
		{Time: moment(1), Release: "green-7", Event: "began", Text: "accepted: serve blue → green; began: green v2 over blue v1"},
		{Time: moment(2), Release: "green-7", Event: "moved", Text: "confirmed: 1 % confirmed by 3 of 3; moved: 1 % → 5 %"},
		{Time: moment(3), Release: "green-7", Event: "rolling back", Text: "rolling back: green v2 at 5 %: errors: 9 of 9; evidence 900 : 1, limit 100 : 1"},
		{Time: moment(4), Release: "green-7", Event: "rolled back", Text: "rolled back: green v2: x; confirmed by 3 of 3 proxies", Numbers: map[string]float64{"lastAckUnixMs": 1500.25}},
	})
	var names []string
	for _, e := range f.events {
		names = append(names, e.name)
	}
	if want := []string{"began", "confirmed", "moved", "rolling back", "rolled back"}; !slices.Equal(names, want) {
		t.Errorf("events %v, want %v", names, want)
	}
	if !f.decided.Equal(moment(3)) || f.lastAck.UnixMicro() != 1500250 {
		t.Errorf("decided %v, last ACK %v", f.decided, f.lastAck)
	}
}

func TestTheEnvoysPagesBoundTheMomentOfTheRollback(t *testing.T) {
	at := func(ms int, w policy.Weight) sighting {
		return sighting{asked: moment(time.Duration(ms) * time.Millisecond), answered: moment(time.Duration(ms+5) * time.Millisecond), weight: w}
	}
	seen := map[string][]sighting{
		"edge-1": {at(0, quarter), at(20, quarter), at(40, 0), at(60, noKey)},
		"edge-2": {at(0, quarter), at(20, 0), at(40, noKey)},
	}
	last, all := off(seen)
	if !last.Equal(moment(20*time.Millisecond)) || !all.Equal(moment(45*time.Millisecond)) {
		t.Errorf("still on at %v, off at %v", last, all)
	}
	if lowest(seen) != noKey {
		t.Errorf("the lowest weight seen is %s", lowest(seen))
	}
	seen["edge-3"] = []sighting{at(0, quarter)}
	if _, all := off(seen); !all.IsZero() {
		t.Error("an Envoy that was never seen without the weight is taken for one without it")
	}
}

func TestFoldersOfKilledDemosAreSweptAndThoseOfLivingOnesStay(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	living, leave, err := enterFolder()
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(os.TempDir(), "rampart-demo-dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	sweepFolders(time.Now())
	if _, err := os.Stat(dead); err != nil {
		t.Errorf("a folder that may be just beginning its life is gone: %v", err)
	}
	sweepFolders(time.Now().Add(time.Hour))
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the dead demo's folder is still there: %v", err)
	}
	if _, err := os.Stat(living); err != nil {
		t.Errorf("the living demo's folder is gone: %v", err)
	}
	if err := leave(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(living); !os.IsNotExist(err) {
		t.Errorf("the folder outlives its demo: %v", err)
	}
}

func TestTheDemoRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, args := range [][]string{{"demo", "--act", "6"}, {"demo", "--act", "-1"}, {"demo", "--rate", "0"}, {"bench", "--only", "nothing"}, {"bench", "--runs", "0"}} {
		if got := rampart(args...); got.status != statusUsage {
			t.Errorf("%v: exit status %d, %s", args, got.status, got.err)
		}
	}
}

// What is shown must be what users get: only the plan's steps and times, an idempotent route where an act is about one, and the dead-man's time are chosen.
func TestTheDemosDocumentsLeaveAllElseToTheDefaults(t *testing.T) {
	f, err := newFleet(fleetConfig{})
	if err != nil {
		t.Fatal(err)
	}
	f.sides["blue"], f.sides["green"] = &side{version: "v1"}, &side{version: "v2"}
	parse := func(document []byte) policy.Document {
		docs, err := policy.ParseDocuments("demo", document)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		return docs[0]
	}
	plain := parse(f.document(script{serve: "green"})).Service
	for _, s := range []script{{serve: "green", plan: demoPlan()}, {serve: "green", plan: demoPlan(), idempotent: true}, {serve: "green", plan: quickly()}} {
		chosen := parse(f.document(s)).Service
		plan := chosen.Plan
		plan.Steps, plan.Warmup, plan.Soak, plan.Bake = nil, nil, nil, nil
		if !reflect.DeepEqual(plan, plain.Plan) {
			t.Errorf("the plan has more than steps and times: %+v", plan)
		}
		routes := plain.Routes
		if s.idempotent {
			routes = []policy.Route{{Idempotent: true}}
		}
		chosen.Plan = plain.Plan
		if !reflect.DeepEqual(chosen.Routes, routes) {
			t.Errorf("the routes have more than they need: %+v", chosen.Routes)
		}
		chosen.Routes = plain.Routes
		if !reflect.DeepEqual(chosen, plain) {
			t.Errorf("chosen without need:\n%+v, want\n%+v", chosen, plain)
		}
	}
	gateway := parse(f.gatewayDocument()).Gateway
	if gateway.Deadman == nil || len(gateway.Listeners) != 1 {
		t.Errorf("got %+v", gateway)
	}
}
