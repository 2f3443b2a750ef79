package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func line(event string) *Line {
	return &Line{Time: time.Unix(1700000000, 0).UTC(), Release: "green-7", Event: event, Text: event + " in words", Phase: "soaking", Weight: 500}
}

// seen reads what a decision about the service is made on, as a leader does.
func seen(t *testing.T, s *Store, service string) Seen {
	t.Helper()
	view, err := s.Service(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	return Seen{Served: view.Served.Mod, Wish: view.Doc.Mod, Pause: view.Pause.Mod, Order: view.Order.Mod}
}

func TestASaveIsOneRevisionWithAllThatBelongsToIt(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	put(t, s, Key(ServiceDoc, "shop"), "wish")
	m := follow(t, s)
	began, err := s.Save(t.Context(), l, Save{
		Kind: ServedService, Name: "shop", Value: map[string]int{"weight": 100}, Seen: seen(t, s, "shop"), CreatePermit: "green-7", History: line("began"),
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, Key(Order, "shop"), "promote")
	moved, err := s.Save(t.Context(), l, Save{
		Kind: ServedService, Name: "shop", Value: map[string]int{"weight": 500}, Seen: seen(t, s, "shop"), NeedPermit: "green-7", DropOrder: true,
		Evidence: []byte("e"), History: line("moved"),
	})
	if err != nil {
		t.Fatal(err)
	}
	committed, err := s.Save(t.Context(), l, Save{
		Kind: ServedService, Name: "shop", Value: "done", Seen: seen(t, s, "shop"), NeedPermit: "green-7", DeletePermit: "green-7", History: line("committed"),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.reached(t, committed)
	m.same(t, s)
	changes := map[int64]int{}
	for _, b := range m.since(1) {
		changes[b.Revision] = len(b.Changes)
	}
	if changes[began] != 2 || changes[moved] != 2 || changes[committed] != 2 {
		t.Errorf("changes by revision %v; began %d, moved %d, committed %d", changes, began, moved, committed)
	}
	if evidence, err := s.Evidence(t.Context(), "shop"); err != nil || string(evidence) != "e" {
		t.Errorf("evidence %q, %v", evidence, err)
	}
	lines, err := s.History(t.Context(), "shop", 10)
	if err != nil || len(lines) != 3 || lines[0].Event != "began" || lines[2].Event != "committed" {
		t.Fatalf("history %+v, %v", lines, err)
	}
	if lines[1].Weight != 500 || !lines[1].Time.Equal(line("").Time) || lines[1].Text != "moved in words" {
		t.Errorf("line %+v", lines[1])
	}
	if lines, err := s.History(t.Context(), "shop", 1); err != nil || len(lines) != 1 || lines[0].Event != "committed" {
		t.Errorf("the last line is %+v, %v", lines, err)
	}

	// Deleted, and begun anew: its history goes on behind what is there.
	gone := Save{Kind: ServedService, Name: "shop", Seen: seen(t, s, "shop"), History: line("stopped")}
	if _, err := s.Save(t.Context(), l, gone); err != nil {
		t.Fatal(err)
	}
	if got := value(t, s, Key(ServedService, "shop")); got != "" {
		t.Errorf("served %q after its deletion", got)
	}
	put(t, s, Key(ServiceDoc, "shop"), "again")
	if _, err := s.Save(t.Context(), l, Save{Kind: ServedService, Name: "shop", Value: 1, Seen: seen(t, s, "shop"), History: line("first")}); err != nil {
		t.Fatal(err)
	}
	if lines, err := s.History(t.Context(), "shop", 10); err != nil || len(lines) != 5 || lines[4].Event != "first" {
		t.Errorf("history %+v, %v", lines, err)
	}
}

func TestASaveIsStaleWhenAnythingItWasDecidedOnHasChanged(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	for i, c := range []struct {
		name   string
		kind   Kind
		save   Save
		change func(name string)
		key    func(name string) string
	}{
		{name: "served", change: func(n string) { put(t, s, Key(ServedService, n), "same") }, key: func(n string) string { return Key(ServedService, n) }},
		{name: "served deleted", change: func(n string) { del(t, s, Key(ServedService, n)) }, key: func(n string) string { return Key(ServedService, n) }},
		{name: "wish", change: func(n string) { put(t, s, Key(ServiceDoc, n), "wish") }, key: func(n string) string { return Key(ServiceDoc, n) }},
		{name: "wish deleted and put again", change: func(n string) {
			del(t, s, Key(ServiceDoc, n))
			put(t, s, Key(ServiceDoc, n), "wish")
		}, key: func(n string) string { return Key(ServiceDoc, n) }},
		{name: "paused", change: func(n string) { _ = s.SetPause(t.Context(), n) }, key: func(n string) string { return Key(Pause, n) }},
		{name: "ordered", change: func(n string) { _ = s.PutOrder(t.Context(), n, "promote") }, key: func(n string) string { return Key(Order, n) }},
		{name: "permit gone", save: Save{NeedPermit: "green-1"}, change: func(n string) { _ = s.DeletePermit(t.Context(), n, "green-1") },
			key: func(n string) string { return permitKey(n, "green-1") }},
		{name: "permit there", save: Save{CreatePermit: "green-1"}, change: func(string) {}, key: func(n string) string { return permitKey(n, "green-1") }},
		{name: "gateway", kind: ServedGateway, change: func(n string) { put(t, s, Key(ServedGateway, n), "x") }, key: func(n string) string { return Key(ServedGateway, n) }},
		{name: "gateway wish", kind: ServedGateway, change: func(n string) { put(t, s, Key(GatewayDoc, n), "x") }, key: func(n string) string { return Key(GatewayDoc, n) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := fmt.Sprintf("s%d", i)
			save := c.save
			save.Name, save.Value, save.Kind = name, "next", ServedGateway
			if c.kind != ServedGateway {
				save.Kind = ServedService
				put(t, s, Key(ServedService, name), "same")
				put(t, s, Key(ServiceDoc, name), "wish")
				put(t, s, permitKey(name, "green-1"), "{}")
				save.Seen = seen(t, s, name)
			}
			c.change(name)
			before := value(t, s, Key(save.Kind, name))
			_, err := s.Save(t.Context(), l, save)
			if !errors.Is(err, ErrStale) || errors.Is(err, ErrNotLeader) || !strings.Contains(err.Error(), c.key(name)) {
				t.Errorf("save: %v, want stale because of %s", err, c.key(name))
			}
			if now := value(t, s, Key(save.Kind, name)); now != before {
				t.Errorf("served is %q, was %q", now, before)
			}
		})
	}
	if l.ended() {
		t.Error("a stale save ended the leadership")
	}
}

func TestAnExpiredLeaderSavesNothing(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	// Its lease is taken away behind its back: by its own clock it still leads.
	if _, err := s.client.Revoke(t.Context(), l.lease); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), l, Save{Kind: ServedService, Name: "shop", Value: 1}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("save: %v", err)
	}
	select {
	case <-l.Done():
	case <-time.After(5 * time.Second):
		t.Error("a leader that was fenced off is not told")
	}
	for name, err := range map[string]error{
		"evidence": s.SaveEvidence(t.Context(), l, "shop", []byte("e")),
		"beat":     s.Beat(t.Context(), l, BeatRecord{At: 1, Leader: "a"}),
	} {
		if !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	now, err := s.Read(t.Context())
	if err != nil || len(now.Changes) != 0 {
		t.Errorf("etcd holds %+v, %v", now.Changes, err)
	}
}

func TestEachFencedWriteIsRefusedToAnOldLeader(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	for name, write := range map[string]func(*Leadership) error{
		"evidence": func(l *Leadership) error { return s.SaveEvidence(t.Context(), l, "shop", []byte("e")) },
		"beat":     func(l *Leadership) error { return s.Beat(t.Context(), l, BeatRecord{At: 1, Leader: "a"}) },
	} {
		l := elect(t, s, "a")
		if err := write(l); err != nil {
			t.Errorf("%s of the leader: %v", name, err)
		}
		if _, err := s.client.Revoke(t.Context(), l.lease); err != nil {
			t.Fatal(err)
		}
		if err := write(l); !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASaveWhoseAnswerIsLostIsFoundOut(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	direct := e.dial()
	l := elect(t, direct, "a")
	p := startProxy(t, e.Socket)
	s := dialTo(t, p.endpoint())
	p.swallow()
	type outcome struct {
		revision int64
		err      error
	}
	done := make(chan outcome, 1)
	go func() {
		revision, err := s.Save(t.Context(), l, Save{Kind: ServedService, Name: "shop", Value: "written"})
		done <- outcome{revision, err}
	}()
	eventually(t, "the save to reach etcd", func() bool { return value(t, direct, Key(ServedService, "shop")) == `"written"` })
	p.cut(e.Socket)
	got := <-done
	if want := seen(t, direct, "shop").Served; got.err != nil || got.revision != want {
		t.Errorf("save: revision %d, %v; it is at %d", got.revision, got.err, want)
	}
}

func TestASaveThatNeverReachedEtcdIsAnError(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	direct := e.dial()
	l := elect(t, direct, "a")
	p := startProxy(t, e.Socket)
	s := dialTo(t, p.endpoint())
	p.cut("")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Save(ctx, l, Save{Kind: ServedService, Name: "shop", Value: "lost"})
	if err == nil || errors.Is(err, ErrStale) || errors.Is(err, ErrNotLeader) {
		t.Errorf("save: %v", err)
	}
	if got := value(t, direct, Key(ServedService, "shop")); got != "" {
		t.Errorf("served is %q", got)
	}
}

func TestWhatCannotBeSavedIsRefusedBeforeEtcdSeesIt(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	huge := strings.Repeat("x", MaxValue)
	for name, save := range map[string]Save{
		"a document":        {Kind: ServiceDoc, Name: "shop", Value: 1},
		"a huge value":      {Kind: ServedService, Name: "shop", Value: huge},
		"huge evidence":     {Kind: ServedService, Name: "shop", Value: 1, Evidence: []byte(huge + "x")},
		"a huge line":       {Kind: ServedService, Name: "shop", Value: 1, History: &Line{Text: huge}},
		"a nil pointer":     {Kind: ServedService, Name: "shop", Value: (*Line)(nil)},
		"no JSON":           {Kind: ServedService, Name: "shop", Value: func() {}},
		"a gateway's past":  {Kind: ServedGateway, Name: "edge", Value: 1, History: &Line{}},
		"the zero decision": {},
	} {
		if _, err := s.Save(t.Context(), l, save); err == nil {
			t.Errorf("%s was saved", name)
		}
	}
	if err := s.SaveEvidence(t.Context(), l, "shop", []byte(huge+"x")); err == nil {
		t.Error("huge evidence was saved")
	}
	if now, err := s.Read(t.Context()); err != nil || len(now.Changes) != 0 {
		t.Errorf("etcd holds %+v, %v", now.Changes, err)
	}
}

func TestTheHistoryKeepsTheLast500Lines(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	var at Seen
	const total = keepLines + 2*trimEvery + 7
	for i := range total {
		revision, err := s.Save(t.Context(), l, Save{Kind: ServedService, Name: "shop", Value: i, Seen: at, History: &Line{Text: fmt.Sprint(i)}})
		if err != nil {
			t.Fatal(err)
		}
		at.Served = revision
	}
	lines, err := s.History(t.Context(), "shop", 10*keepLines)
	if err != nil || len(lines) != keepLines {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for i, line := range lines {
		if want := fmt.Sprint(total - keepLines + i); line.Text != want {
			t.Fatalf("line %d is %q, want %q", i, line.Text, want)
		}
	}
	kept, err := s.list(t.Context(), []span{folderSpan(historyFolder("shop"))})
	if err != nil || len(kept.keys) > keepLines+trimEvery {
		t.Errorf("%d keys are kept, %v", len(kept.keys), err)
	}
}

func TestARollbackRecordIsWrittenOnce(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	first := RollbackRecord{At: time.Unix(1700000000, 0).UTC(), Reason: "errors", Replica: "a"}
	if err := s.RecordRollback(t.Context(), "shop", "green-12", first); err != nil {
		t.Fatal(err)
	}
	if err := s.RecordRollback(t.Context(), "shop", "green-12", RollbackRecord{Reason: "later", Replica: "b"}); err != nil {
		t.Errorf("a second record: %v", err)
	}
	if err := s.RecordRollback(t.Context(), "shop", "blue-9", RollbackRecord{Reason: "another", Replica: "b"}); err != nil {
		t.Fatal(err)
	}
	put(t, s, rollbackKey("shop", "odd"), "{")
	records, err := s.Rollbacks(t.Context(), "shop")
	if err != nil || len(records) != 3 {
		t.Fatalf("records %+v, %v", records, err)
	}
	first.Release = "green-12"
	got, _ := json.Marshal(records[0])
	want, _ := json.Marshal(first)
	if string(got) != string(want) || records[1].Release != "blue-9" || records[2].Release != "odd" || records[2].Reason != "" {
		t.Errorf("records %+v", records)
	}
}

func TestDecisionsThatAreSavedTogetherAreSavedAllOrNone(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	var saves []Save
	for i := range MaxSaves {
		name := fmt.Sprintf("s%d", i)
		put(t, s, Key(ServiceDoc, name), "wish")
		saves = append(saves, Save{Kind: ServedService, Name: name, Value: i, Seen: seen(t, s, name), CreatePermit: "green-7", DropOrder: true, Evidence: []byte("e"), History: line("began")})
	}
	m := follow(t, s)
	put(t, s, Key(ServiceDoc, "s3"), "another wish")
	if _, err := s.SaveAll(t.Context(), l, saves); !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "services/s3") {
		t.Fatalf("one of them was changed: %v", err)
	}
	if view, err := s.Service(t.Context(), "s0"); err != nil || view.Served.Mod != 0 {
		t.Errorf("one is saved: %+v, %v", view.Served, err)
	}
	saves[3].Seen = seen(t, s, "s3")
	revision, err := s.SaveAll(t.Context(), l, saves)
	if err != nil {
		t.Fatal(err)
	}
	m.reached(t, revision)
	m.same(t, s)
	for _, save := range saves {
		if lines, err := s.History(t.Context(), save.Name, 2); err != nil || len(lines) != 1 || lines[0].Revision != revision {
			t.Errorf("history of %s: %+v, %v", save.Name, lines, err)
		}
	}
	l.end()
	if _, err := s.SaveAll(t.Context(), l, saves); !errors.Is(err, ErrNotLeader) {
		t.Errorf("saved without leading: %v", err)
	}
}

func TestTheLastLinesOfManyHistoriesAreReadAtOnce(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	for i, event := range []string{"began", "committed"} {
		put(t, s, Key(ServiceDoc, "shop"), event)
		if _, err := s.Save(t.Context(), l, Save{Kind: ServedService, Name: "shop", Value: i, Seen: seen(t, s, "shop"), History: line(event)}); err != nil {
			t.Fatal(err)
		}
	}
	services := []string{"shop"}
	for i := range MaxWrites - 1 {
		services = append(services, fmt.Sprintf("shop-%d", i)) // whose names begin alike
	}
	lines, err := s.LastLines(t.Context(), services)
	whole, errWhole := s.History(t.Context(), "shop", 1)
	if err != nil || errWhole != nil || len(lines) != 1 || lines["shop"].Event != "committed" || lines["shop"].Revision != whole[0].Revision {
		t.Errorf("%+v, %v; the history ends with %+v, %v", lines, err, whole, errWhole)
	}
}
