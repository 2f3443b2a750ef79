package replica

import (
	"encoding/json"
	"testing"

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
	if ended := s.adopt(); len(ended) != 1 || s.services["shop"].served.Serves() {
		t.Fatalf("adopt ended %v; want shop", ended)
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
		"other deleted": {store.Batch{Revision: 7, Changes: []store.Change{gone(store.ServiceDoc, "cart", 7)}}, false},
	} {
		s := begin()
		s.apply(c.batch)
		if got := s.services["shop"].wish.Gone; got != c.gone {
			t.Errorf("%s: wish gone %v, want %v", name, got, c.gone)
		}
	}
}

func TestUnreadableDocumentIsAProblemOfItsKeyOnly(t *testing.T) {
	s := newState()
	s.apply(store.Batch{Revision: 6, Relisted: true, Changes: []store.Change{
		put(store.ServiceDoc, "shop", []byte("service: [\x00"), 5), put(store.ServiceDoc, "cart", []byte("service: shop\nhosts: [a.example.com]\nbackends: {blue: {}}\nserve: blue\n"), 5),
	}})
	if len(s.services["shop"].wish.Problems) == 0 {
		t.Error("garbage was read as a document")
	}
	if problems := s.services["cart"].wish.Problems; len(problems) != 1 {
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
