package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestTheFirstBatchIsWhatIsThereAndATransactionArrivesWhole(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := e.dial()
	garbage := "\x00\xff\xfe: [binary\n\x80"
	put(t, s, Key(ServiceDoc, "shop"), garbage)
	put(t, s, Prefix+"served/oops", "stray")
	put(t, s, Prefix+"history/shop/1", "not watched")
	put(t, s, "/another/application", "not ours")
	m := follow(t, s)
	first := m.since(0)[0]
	if !first.Relisted || len(first.Changes) != 2 {
		t.Fatalf("first batch %+v", first)
	}
	stray, doc := first.Changes[0], first.Changes[1]
	if doc.Kind != ServiceDoc || doc.Name != "shop" || string(doc.Value) != garbage || doc.Create != doc.Mod || doc.Deleted {
		t.Errorf("document %+v", doc)
	}
	if stray.Kind != Stray || stray.Name != Prefix+"served/oops" {
		t.Errorf("stray %+v", stray)
	}

	permit, served := permitKey("shop", "green-3"), Key(ServedService, "shop")
	txn := s.client.Txn(t.Context()).Then(clientv3.OpPut(served, "v"), clientv3.OpPut(permit, "{}"), clientv3.OpPut(Prefix+"evidence/shop", "e"),
		clientv3.OpDelete(Key(ServiceDoc, "shop")))
	answer, err := txn.Commit()
	if err != nil {
		t.Fatal(err)
	}
	m.reached(t, answer.Header.Revision)
	batch := m.since(1)[0]
	if batch.Relisted || batch.Revision != answer.Header.Revision || len(batch.Changes) != 3 {
		t.Fatalf("the transaction arrived as %+v", m.since(1))
	}
	for _, c := range batch.Changes {
		if deletion := c.Kind == ServiceDoc; c.Deleted != deletion || deletion && (c.Create != 0 || c.Value != nil) {
			t.Errorf("change %+v", c)
		}
		if c.Kind == Permit && (c.Name != "shop" || c.Release != "green-3") {
			t.Errorf("permit %+v", c)
		}
	}
	m.same(t, s)
}

func TestEveryRevisionArrivesInOrderThroughKillsOfEtcd(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s, writer := e.dial(), e.dial()
	m := follow(t, s)
	for round := range 3 {
		for i := range 100 {
			put(t, writer, Key(ServiceDoc, fmt.Sprintf("s%d", i%7)), fmt.Sprintf("%d.%d", round, i))
			if i%10 == 0 {
				del(t, writer, Key(ServiceDoc, fmt.Sprintf("s%d", (i+1)%7)))
			}
		}
		restart(t, e)
		// A read is repeated by the client until it is answered; a put whose connection died is not.
		value(t, writer, Key(Beat, ""))
	}
	m.reached(t, put(t, writer, Key(Beat, ""), "last"))
	m.same(t, s)
	// 300 puts and the beat, each its own revision, none merged and none missed.
	puts := 0
	for _, b := range m.since(1) {
		for _, c := range b.Changes {
			if !c.Deleted {
				puts++
			}
		}
	}
	if puts != 301 {
		t.Errorf("%d puts arrived, want 301", puts)
	}
}

func TestABrokenWatchIsTakenUpWhereItBroke(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	direct := e.dial()
	p := startProxy(t, e.Socket)
	m := follow(t, dialTo(t, p.endpoint()))
	m.reached(t, put(t, direct, Key(ServiceDoc, "a"), "1"))
	before := m.count()
	p.cut("")
	put(t, direct, Key(ServiceDoc, "a"), "2")
	put(t, direct, Key(ServiceDoc, "b"), "1")
	last := del(t, direct, Key(ServiceDoc, "a"))
	p.cut(e.Socket)
	m.reached(t, last)
	m.same(t, direct)
	missed := m.since(before)
	if len(missed) != 3 {
		t.Fatalf("%d batches, want the three that were missed: %+v", len(missed), missed)
	}
	for _, b := range missed {
		if b.Relisted {
			t.Errorf("batch %d was relisted although nothing was compacted", b.Revision)
		}
	}
}

func TestAfterACompactionTheDifferenceIsDelivered(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	direct := e.dial()
	for _, name := range []string{"stays", "changes", "goes", "comes-back"} {
		put(t, direct, Key(ServiceDoc, name), "old")
	}
	put(t, direct, permitKey("goes", "green-1"), "{}")
	p := startProxy(t, e.Socket)
	m := follow(t, dialTo(t, p.endpoint()))
	before := m.count()
	p.cut("")
	put(t, direct, Key(ServiceDoc, "changes"), "new")
	del(t, direct, Key(ServiceDoc, "goes"))
	del(t, direct, permitKey("goes", "green-1"))
	del(t, direct, Key(ServiceDoc, "comes-back"))
	put(t, direct, Key(ServiceDoc, "comes-back"), "old")
	last := put(t, direct, Key(Pause, "stays"), "paused")
	if _, err := direct.client.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	p.cut(e.Socket)
	m.reached(t, last)
	m.same(t, direct)
	difference := m.since(before)
	if len(difference) != 1 || !difference[0].Relisted || difference[0].Revision != last || len(difference[0].Changes) != 5 {
		t.Fatalf("the difference is %+v", difference)
	}
	deletions := 0
	for _, c := range difference[0].Changes {
		if c.Deleted {
			deletions++
		}
		if c.Deleted && (c.Name != "goes" || c.Mod != last) {
			t.Errorf("deletion %+v", c)
		}
	}
	if deletions != 2 {
		t.Errorf("%d deletions were synthesised, want 2", deletions)
	}
	// And it goes on from there.
	m.reached(t, put(t, direct, Key(ServiceDoc, "after"), "x"))
	m.same(t, direct)
}

func TestAListingOfManyPagesIsOfOneRevision(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := e.dial()
	for i := range 2*pageSize + 1 {
		put(t, s, Key(ServiceDoc, fmt.Sprintf("s%04d", i)), "0")
	}
	// Two keys far apart always change together.
	both := func(value string) {
		first, last := Key(ServiceDoc, "s0000"), Key(ServiceDoc, fmt.Sprintf("s%04d", 2*pageSize))
		_, _ = s.client.Txn(context.Background()).Then(clientv3.OpPut(first, value), clientv3.OpPut(last, value)).Commit()
	}
	both("first")
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				both(fmt.Sprint(i))
			}
		}
	})
	for range 10 {
		batch, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first, last := batch.Changes[0], batch.Changes[len(batch.Changes)-1]
		if len(batch.Changes) != 2*pageSize+1 || string(first.Value) != string(last.Value) || first.Mod != last.Mod || first.Mod > batch.Revision {
			t.Fatalf("%d keys; first %+v, last %+v, revision %d", len(batch.Changes), first, last, batch.Revision)
		}
	}
	close(stop)
	writing.Wait()
}

func TestASilentEtcdIsNoticedAndNothingIsMissed(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	direct := e.dial()
	p := startProxy(t, e.Socket)
	noticed := make(chan struct{})
	s, err := Dial(t.Context(), Config{Endpoints: []string{p.endpoint()}, Log: testWarnings(func() { close(noticed) })})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	m := follow(t, s)
	p.freeze()
	last := put(t, direct, Key(ServiceDoc, "shop"), "while nothing passes")
	<-noticed
	p.thaw()
	m.reached(t, last)
	m.same(t, direct)
}

func TestAnotherEtcdEndsTheWatchBeforeAnythingOfItIsDelivered(t *testing.T) {
	t.Parallel()
	first, second := startEtcd(t), startEtcd(t)
	p := startProxy(t, first.Socket)
	s := dialTo(t, p.endpoint())
	put(t, s, Key(ServiceDoc, "shop"), "one")
	for range 50 {
		put(t, second.dial(), Key(ServiceDoc, "shop"), "two")
	}
	ended := make(chan error, 1)
	seen := make(chan Batch, 100)
	go func() {
		ended <- s.Watch(t.Context(), func(b Batch) error {
			seen <- b
			return nil
		})
	}()
	<-seen
	p.cut(second.Socket)
	if err := <-ended; !errors.Is(err, errOtherEtcd) || !strings.Contains(err.Error(), s.ClusterID()) {
		t.Errorf("the watch ended with %v", err)
	}
	if len(seen) != 0 {
		t.Errorf("%d batches of another etcd were delivered", len(seen))
	}
}

func TestAConsumersErrorEndsTheWatch(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	enough := errors.New("enough")
	if err := s.Watch(t.Context(), func(Batch) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("ended with %v", err)
	}
}

func TestAnUnreachableEtcdIsNamedInTheError(t *testing.T) {
	_, err := Dial(t.Context(), Config{Endpoints: []string{"unix:///nowhere/etcd.sock"}, DialTimeout: 300_000_000})
	if err == nil || !strings.HasPrefix(err.Error(), "reach etcd at unix:///nowhere/etcd.sock: ") || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("dial: %v", err)
	}
}

func TestAnEtcdThatWentBackEndsTheWatch(t *testing.T) {
	t.Parallel()
	data := shortFolder(t)
	e := prepareEtcd(t, data)
	stop := e.start()
	s := e.dial()
	put(t, s, Key(ServiceDoc, "shop"), "old")
	stop()
	backup := filepath.Join(data, "backup")
	if err := os.CopyFS(backup, os.DirFS(e.Dir)); err != nil {
		t.Fatal(err)
	}
	stop = e.start()
	for range 10 {
		put(t, e.dial(), Key(ServiceDoc, "shop"), "new")
	}
	ended := make(chan error, 1)
	seen := make(chan Batch, 100)
	go func() {
		ended <- s.Watch(t.Context(), func(b Batch) error {
			seen <- b
			return nil
		})
	}()
	<-seen
	stop()
	if err := os.RemoveAll(e.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, e.Dir); err != nil {
		t.Fatal(err)
	}
	e.start()
	if err := <-ended; !errors.Is(err, errOtherEtcd) || !strings.Contains(err.Error(), "went back") {
		t.Errorf("the watch ended with %v", err)
	}
	if len(seen) != 0 {
		t.Errorf("%d batches of the past were delivered", len(seen))
	}
}
