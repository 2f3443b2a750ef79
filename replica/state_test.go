package replica

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

const shopDocument = "service: shop\nhosts: [shop.example.com]\nbackends:\n  blue: {revision: v1, endpoints: [\"127.0.0.1:8001\"]}\nserve: blue\n"

func put(kind store.Kind, name string, value []byte, mod int64) store.Change {
	return store.Change{Kind: kind, Name: name, Value: value, Mod: mod, Create: mod}
}

func gone(kind store.Kind, name string, mod int64) store.Change {
	return store.Change{Kind: kind, Name: name, Mod: mod, Deleted: true}
}

func servedShop(t *testing.T, release *policy.Release) []byte {
	t.Helper()
	live := policy.Arm{Ref: policy.Ref{Backend: "blue", Revision: "v1"}, Definition: policy.Backend{Revision: "v1", Endpoints: []string{"127.0.0.1:8001"}}}
	data, err := json.Marshal(policy.Served{Accepted: 5, Live: live, Release: release})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// DESIGN §3: a service whose served key is missing keeps what is served, and raises an alarm, until adopt.
func TestVanishedServedKeyKeepsWhatIsServed(t *testing.T) {
	s := newState()
	s.apply(store.Batch{Revision: 6, Relisted: true, Changes: []store.Change{
		put(store.ServiceDoc, "shop", []byte(shopDocument), 5), put(store.ServedService, "shop", servedShop(t, nil), 6),
	}})
	s.apply(store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServedService, "shop", 7)}})
	if v := s.services["shop"]; !v.served.Serves() || v.alarm == "" {
		t.Fatalf("served %v, alarm %q; want it kept with an alarm", v.served.Serves(), v.alarm)
	}
	if ended := s.adopt(); len(ended) > 0 || !s.services["shop"].served.Serves() || !s.services["shop"].restore {
		t.Fatalf("adopt ended %v although the document is there; want it to be written again", ended)
	}
	s.apply(store.Batch{Revision: 8, Changes: []store.Change{put(store.ServedService, "shop", servedShop(t, nil), 8)}})
	if s.services["shop"].restore {
		t.Error("it was written, and is to be written again")
	}
	s.apply(store.Batch{Revision: 9, Changes: []store.Change{gone(store.ServiceDoc, "shop", 9), gone(store.ServedService, "shop", 9)}})
	if ended := s.adopt(); len(ended) != 1 || s.services["shop"].served.Serves() {
		t.Fatalf("adopt ended %v; want shop", ended)
	}
}

// DESIGN §9: the deletion of a service is refused while a release runs, and does not come true by itself when it has ended.
func TestADocumentDeletedInMidReleaseIsNotDeletedWhenItEnds(t *testing.T) {
	s := newState()
	s.apply(store.Batch{Revision: 6, Relisted: true, Changes: []store.Change{
		put(store.ServiceDoc, "shop", []byte(shopDocument), 5), put(store.ServedService, "shop", servedShop(t, &policy.Release{ID: "green-6"}), 6),
	}})
	s.apply(store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "shop", 7)}})
	s.apply(store.Batch{Revision: 8, Changes: []store.Change{put(store.ServedService, "shop", servedShop(t, nil), 8)}})
	if s.services["shop"].wish("shop").Gone {
		t.Error("the release has ended, and the service would be stopped")
	}
}

// A listing holds the beat and the adopt of long ago.
func TestAListingProvesNothingAndAdoptsNothing(t *testing.T) {
	beat := []byte(`{"at":1,"leader":"a"}`)
	s := newState()
	if got := s.apply(store.Batch{Revision: 9, Relisted: true, Changes: []store.Change{put(store.Beat, "", beat, 5), put(store.Adopt, "", []byte("x"), 6)}}); got.beaten || got.adopted {
		t.Errorf("the first listing: %+v", got)
	}
	if got := s.apply(store.Batch{Revision: 10, Changes: []store.Change{put(store.Beat, "", beat, 10)}}); !got.beaten {
		t.Error("a beat that was seen live proves nothing")
	}
	if got := s.apply(store.Batch{Revision: 12, Relisted: true, Changes: []store.Change{put(store.Beat, "", beat, 11), put(store.Adopt, "", []byte("x"), 6)}}); got.beaten || got.adopted {
		t.Errorf("a later listing: %+v", got)
	}
	if got := s.apply(store.Batch{Revision: 13, Changes: []store.Change{put(store.Adopt, "", []byte("y"), 13)}}); !got.adopted {
		t.Error("an adopt that was seen live is not obeyed")
	}
}

func TestTheLedgerTellsWhatEtcdLacks(t *testing.T) {
	folder := t.TempDir()
	full := newState()
	full.apply(store.Batch{Revision: 6, Relisted: true, Changes: []store.Change{put(store.ServedService, "shop", servedShop(t, nil), 6), put(store.Adopt, "", []byte("x"), 5)}})
	open := func() *ledger { return newLedger(folder) }
	l := open()
	if missing, err := l.missing(full, "c1"); err != nil || len(missing) > 0 {
		t.Fatalf("a new folder misses %q, %v", missing, err)
	}
	if _, err := l.note(full, "c1", time.Now()); err != nil {
		t.Fatal(err)
	}
	empty := newState()
	empty.apply(store.Batch{Revision: 9, Relisted: true, Changes: []store.Change{put(store.Adopt, "", []byte("x"), 5)}})
	for cluster, s := range map[string]*state{"c1": empty, "c2": full} {
		if missing, err := open().missing(s, cluster); err != nil || len(missing) != 1 {
			t.Errorf("in cluster %s shop is not missed: %q, %v", cluster, missing, err)
		}
	}
	away := newState()
	away.apply(store.Batch{Revision: 9, Relisted: true, Changes: []store.Change{put(store.Adopt, "", []byte("x"), 8)}})
	if missing, err := open().missing(away, "c1"); err != nil || len(missing) > 0 {
		t.Errorf("adopted while this replica was away: it misses %q, %v", missing, err)
	}
	l = open()
	if _, err := l.missing(full, "c2"); err != nil {
		t.Fatal(err)
	}
	if got := l.adopt([]string{"c2", "c3"}, "c2"); !slices.Equal(got, []string{"c3", "c1"}) {
		t.Errorf("adopted %q", got)
	}
	if _, err := l.note(full, "c2", time.Now()); err != nil {
		t.Fatal(err)
	}
	l = open()
	if missing, err := l.missing(full, "c2"); err != nil || len(missing) > 0 || !l.adopted("c1") {
		t.Errorf("after a restart it misses %q, %v, and has adopted %q", missing, err, l.clusters)
	}
}

// DESIGN §9: deleting one service stops it; several gone in one revision, or missing at start, are kept.
func TestOnlyALoneDeletionStopsAService(t *testing.T) {
	begin := func() *state {
		s := newState()
		s.apply(store.Batch{Revision: 6, Relisted: true, Changes: []store.Change{
			put(store.ServiceDoc, "shop", []byte(shopDocument), 5), put(store.ServiceDoc, "cart", []byte(shopDocument), 5),
		}})
		return s
	}
	for name, c := range map[string]struct {
		batch store.Batch
		gone  bool
	}{
		"alone":         {store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "shop", 7)}}, true},
		"two at once":   {store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "shop", 7), gone(store.ServiceDoc, "cart", 7)}}, false},
		"after relist":  {store.Batch{Revision: 7, Relisted: true, Changes: []store.Change{gone(store.ServiceDoc, "shop", 7)}}, false},
		"whole prefix":  {store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "shop", 7), gone(store.ServiceDoc, "cart", 7), gone(store.ServedService, "shop", 7)}}, false},
		"one, wholly":   {store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "shop", 7), gone(store.ServedService, "shop", 7)}}, false},
		"with gateway":  {store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "shop", 7), gone(store.GatewayDoc, "edge", 7)}}, false},
		"other deleted": {store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "cart", 7)}}, false},
	} {
		s := begin()
		s.apply(c.batch)
		if got := s.services["shop"].wish("shop").Gone; got != c.gone {
			t.Errorf("%s: wish gone %v, want %v", name, got, c.gone)
		}
	}
}

func TestUnreadableDocumentIsAProblemOfItsKeyOnly(t *testing.T) {
	s := newState()
	s.apply(store.Batch{Revision: 6, Relisted: true, Changes: []store.Change{
		put(store.ServiceDoc, "shop", []byte("service: [\x00"), 5), put(store.ServiceDoc, "cart", []byte("service: shop\nhosts: [a.example.com]\nbackends: {blue: {}}\nserve: blue\n"), 5),
	}})
	if len(s.services["shop"].wish("shop").Problems) == 0 {
		t.Error("garbage was read as a document")
	}
	if problems := s.services["cart"].wish("cart").Problems; len(problems) != 1 {
		t.Errorf("a service named otherwise than its key has problems %q, want one", problems)
	}
}

func TestOrdersAreReadWithTheirRelease(t *testing.T) {
	s := newState()
	s.apply(store.Batch{Revision: 6, Changes: []store.Change{put(store.Order, "shop", []byte(" promote green-12\n"), 6)}})
	if o := s.services["shop"].order; o == nil || o.Verb != policy.Promote || o.Release != "green-12" || o.Mod != 6 {
		t.Errorf("read %+v", o)
	}
	s.apply(store.Batch{Revision: 7, Changes: []store.Change{gone(store.Order, "shop", 7)}})
	if v := s.services["shop"]; v.order != nil || v.orderMod != 0 {
		t.Errorf("a deleted order is still there: %+v", v.order)
	}
}
