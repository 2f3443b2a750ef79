package replica

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// Of what arrives at once only the newest is rendered. What may take a release back waits for nothing.
func TestABatchBehindWhichMoreHasArrivedWaitsForIt(t *testing.T) {
	serving, _ := halves(t)
	running(t, serving)
	at := serving.revision()
	served := put(store.ServedService, "cart", servedShop(t, nil), at+1)
	serving.follow(store.Batch{Revision: at + 1, More: true, Changes: []store.Change{served}})
	if serving.revision() != at {
		t.Error("it does not wait")
	}
	if wait, held := serving.waits(); !held || wait > gatherFor {
		t.Errorf("it goes on in %v (%v), should nothing come", wait, held)
	}
	serving.follow(store.Batch{Revision: at + 2, Changes: []store.Change{put(store.ServedService, "tea", servedShop(t, nil), at+2)}})
	if got := serving.revision(); got != at+2 || !serving.state.services["cart"].served.Serves() || !serving.dirty["cart"] {
		t.Errorf("revision %d, cart %+v", got, serving.state.services["cart"])
	}
	serving.follow(store.Batch{Revision: at + 3, More: true, Changes: []store.Change{{Kind: store.Permit, Name: "shop", Release: "green-7", Mod: at + 3, Deleted: true}}})
	if got := serving.revision(); got != at+3 {
		t.Error("a deleted permit waits")
	}
	serving.follow(store.Batch{Revision: at + 4, More: true, Changes: []store.Change{{Kind: store.ServiceDoc, Name: "shop", Mod: at + 4}}})
	if got := serving.revision(); got != at+4 {
		t.Error("the document of a running release waits, which may take it back")
	}
	serving.follow(store.Batch{Revision: at + 5, More: true, Changes: []store.Change{served, {Kind: store.ServiceDoc, Name: "cart", Mod: at + 5}}})
	if got := serving.revision(); got != at+4 {
		t.Error("another document does not wait")
	}
	serving.goOn()
	if got := serving.revision(); got != at+5 {
		t.Error("it is forgotten when nothing comes behind it")
	}
}

func TestTheLedgerIsWrittenOnceInASecondAndInTheEnd(t *testing.T) {
	s, l, now := newState(), newLedger(t.TempDir()), time.Unix(1_000_000, 0)
	serve := func(name string) {
		s.apply(store.Batch{Revision: s.revision + 1, Changes: []store.Change{put(store.ServedService, name, servedShop(t, nil), s.revision+1)}})
	}
	known := func(name string) bool {
		missing, err := newLedger(strings.TrimSuffix(l.path, "/served.json")).missing(newState(), "c1")
		return err == nil && strings.Contains(strings.Join(missing, " "), name)
	}
	if _, err := l.missing(s, "c1"); err != nil {
		t.Fatal(err)
	}
	serve("one")
	if again, err := l.note(s, "c1", now); err != nil || !again.IsZero() || !known("one") {
		t.Errorf("again at %v, %v", again, err)
	}
	serve("two")
	if again, err := l.note(s, "c1", now.Add(time.Millisecond)); err != nil || !again.Equal(now.Add(noteEvery)) || known("two") {
		t.Errorf("again at %v, %v", again, err)
	}
	if again, err := l.note(s, "c1", now.Add(noteEvery)); err != nil || !again.IsZero() || !known("two") {
		t.Errorf("again at %v, %v", again, err)
	}
}

// A turn that takes on less than there is comes again at once.
func TestATurnTakesOnSomeOfWhatHasChangedAndForgetsNothing(t *testing.T) {
	serving, _ := halves(t)
	const services = 2*mostDirty + 1
	batch := store.Batch{Revision: 7, Relisted: true}
	for i := range services {
		batch.Changes = append(batch.Changes, put(store.ServiceDoc, fmt.Sprintf("s%d", i), []byte(shopDocument), 7))
	}
	serving.follow(batch)
	taken := map[string]bool{}
	for range 3 {
		select {
		case <-serving.wake:
		default:
			t.Error("nothing wakes the deciding half")
		}
		for name := range serving.work().dirty {
			taken[name] = true
		}
	}
	if len(taken) != services || len(serving.work().dirty) != 0 {
		t.Errorf("%d of %d are looked at", len(taken), services)
	}
}

// leading are both halves at work, until the test ends, and a client of their etcd.
func leading(t testing.TB) (*Serving, *clientv3.Client) {
	t.Helper()
	etcd := anEtcd(t)
	raw, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	serving, deciding := halvesOver(t, etcd)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	for _, part := range []func(context.Context) error{serving.Run, serving.GoOn, deciding.Run} {
		group.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return serving, raw
}

// until waits for a condition of the state.
func until(t testing.TB, s *Serving, what string, holds func(*state) bool) {
	t.Helper()
	deadline := time.After(5 * time.Minute)
	for {
		if look(s, holds) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func look(s *Serving, holds func(*state) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return holds(s.state)
}

func document(name, host string) string {
	return strings.NewReplacer("service: shop", "service: "+name, "shop.example.com", host).Replace(shopDocument)
}

// What this leader has saved counts before the watch brings it: documents of one transaction are decided about in one turn.
func TestOfNewDocumentsWithOneHostOneIsServed(t *testing.T) {
	serving, raw := leading(t)
	var puts []clientv3.Op
	for i := range 20 {
		puts = append(puts, clientv3.OpPut(store.Key(store.ServiceDoc, fmt.Sprintf("s%02d", i)), document(fmt.Sprintf("s%02d", i), fmt.Sprintf("h%d.example.com", i/2))))
	}
	if _, err := raw.Txn(t.Context()).Then(puts...).Commit(); err != nil {
		t.Fatal(err)
	}
	decided := func(s *state) (served, refused []string) {
		for name, v := range s.services {
			switch {
			case v.served.Serves():
				served = append(served, name)
			case v.served != nil && v.served.Refused != nil:
				refused = append(refused, name)
			}
		}
		return served, refused
	}
	until(t, serving, "every other one refused", func(s *state) bool {
		served, refused := decided(s)
		if len(served) > 10 {
			t.Fatalf("two services have one host: %v", served)
		}
		return len(served) == 10 && len(refused) == 10
	})
	// A host that is free again goes to who waits for it, in one transaction or later.
	if _, err := raw.Delete(t.Context(), store.Key(store.ServiceDoc, "s00")); err != nil {
		t.Fatal(err)
	}
	until(t, serving, "the next in its place", func(s *state) bool { return s.services["s01"].served.Serves() && !s.services["s00"].served.Serves() })
	moved := []clientv3.Op{
		clientv3.OpPut(store.Key(store.ServiceDoc, "s02"), document("s02", "elsewhere.example.com")), clientv3.OpPut(store.Key(store.ServiceDoc, "s04"), document("s04", "h1.example.com")),
	}
	if _, err := raw.Txn(t.Context()).Then(moved...).Commit(); err != nil {
		t.Fatal(err)
	}
	until(t, serving, "the hosts moved on", func(s *state) bool {
		one := s.index.hosts.Sharing(policy.Service{Hosts: []string{"h1.example.com"}})
		took, waited := s.services["s04"].accepted() && s.services["s05"].accepted(), s.services["s03"].accepted() && !s.services["s04"].accepted()
		return len(one) == 1 && s.services["s02"].accepted() && (took || waited)
	})
}

func TestADocumentMayNameAGatewayThatWasWrittenWithIt(t *testing.T) {
	serving, raw := leading(t)
	named := strings.Replace(shopDocument, "hosts:", "gateways: [edge]\nhosts:", 1)
	puts := []clientv3.Op{clientv3.OpPut(store.Key(store.ServiceDoc, "shop"), named), clientv3.OpPut(store.Key(store.GatewayDoc, "edge"), "gateway: edge\nlisteners: []\n")}
	if _, err := raw.Txn(t.Context()).Then(puts...).Commit(); err != nil {
		t.Fatal(err)
	}
	until(t, serving, "accepted", func(s *state) bool {
		v := s.services["shop"]
		if v != nil && v.served != nil && v.served.Refused != nil {
			t.Fatalf("refused: %v", v.served.Refused.Problems)
		}
		return v != nil && v.served.Serves()
	})
	later := strings.NewReplacer("service: shop", "service: cart", "shop.", "cart.", "[edge]", "[mesh]").Replace(named)
	if _, err := raw.Put(t.Context(), store.Key(store.ServiceDoc, "cart"), later); err != nil {
		t.Fatal(err)
	}
	until(t, serving, "refused without its gateway", func(s *state) bool {
		v := s.services["cart"]
		return v != nil && v.served != nil && v.served.Refused != nil
	})
	if _, err := raw.Put(t.Context(), store.Key(store.GatewayDoc, "mesh"), "gateway: mesh\nlisteners: []\n"); err != nil {
		t.Fatal(err)
	}
	until(t, serving, "accepted when it comes", func(s *state) bool { return s.services["cart"].served.Serves() })
}

// One document that an operator changes meanwhile must not hold up those that are saved with it, nor count as saved.
func TestDecisionsThatCannotBeSavedTogetherAreSavedOneByOne(t *testing.T) {
	serving, d := halves(t)
	proof, err := serving.store.Campaign(t.Context(), store.Candidate{ID: "a", TTL: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d.lead = newLead(proof, nil)
	now := time.Now() // it stands still: a turn has time for all of them
	d.config.Now = func() time.Time { return now }
	wishes := store.Batch{Revision: 7, Relisted: true}
	for _, name := range []string{"a", "b", "c"} {
		if err := serving.store.Put(t.Context(), []store.Write{{Kind: store.ServiceDoc, Name: name, Value: []byte(document(name, name+".example.com"))}}); err != nil {
			t.Fatal(err)
		}
		view, err := serving.store.Service(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		mod := view.Doc.Mod
		if name == "b" {
			mod-- // it was put again since it was read
		}
		wishes.Changes = append(wishes.Changes, put(store.ServiceDoc, name, view.Doc.Value, mod))
	}
	serving.follow(wishes)
	accepted := func() (names []string) {
		for _, name := range []string{"a", "b", "c"} {
			if view, err := serving.store.Service(t.Context(), name); err != nil || view.Served.Mod > 0 {
				names = append(names, name)
			}
		}
		return names
	}
	turn := func() {
		if !d.decideAll(t.Context(), serving.work(), turnInput{now: now}) {
			t.Fatal("the term is over")
		}
	}
	turn()
	if got := accepted(); len(got) > 0 || len(d.lead.unseen) > 0 {
		t.Errorf("saved: %v; taken for saved: %v", got, d.lead.unseen)
	}
	turn()
	if got := fmt.Sprint(accepted()); got != "[a c]" {
		t.Errorf("saved one by one: %s", got)
	}
	// It changes faster than it can be decided about: what was read is taken in the end.
	for range staleMost {
		if got := fmt.Sprint(accepted()); got != "[a c]" {
			t.Errorf("saved although it has changed: %s", got)
		}
		turn()
	}
	if got := fmt.Sprint(accepted()); got != "[a b c]" {
		t.Errorf("saved in the end: %s", got)
	}
}
