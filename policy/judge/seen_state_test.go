package judge_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

func TestANewLeaderGoesOnJudgingTheFleetsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := judge.NewSeen(careful())
		draw := func() judge.SeenTurn {
			return flow{rapid.Uint64Range(0, 40).Draw(t, "live"), rapid.Uint64Range(0, 9).Draw(t, "candidate")}.turn()
		}
		for range rapid.IntRange(0, 30).Draw(t, "before") {
			old.Turn(draw())
		}
		data, err := json.Marshal(old)
		if err != nil {
			t.Fatal(err)
		}
		next := &judge.Seen{}
		if err := json.Unmarshal(data, next); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 30).Draw(t, "after") {
			turn := draw()
			old.Turn(turn)
			next.Turn(turn)
		}
		if old.Evidence() != next.Evidence() {
			t.Fatalf("%+v became %+v", old.Evidence(), next.Evidence())
		}
	})
}

func TestAConvictionByAProxysShareOutlivesTheLeader(t *testing.T) {
	e, s := newEdges(1, 3), judge.NewSeen(careful())
	e.rate, e.share, e.cut = 300, 0.25, 1
	for range 60 {
		s.Turn(e.next())
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	next := &judge.Seen{}
	if err := json.Unmarshal(data, next); err != nil {
		t.Fatal(err)
	}
	want, got := s.Evidence(), next.Evidence()
	if want.Log, got.Log = 0, 0; !got.Convicted || got.Proxy != "edge-3" || want != got {
		t.Errorf("%+v became %+v", want, got)
	}
	if len(data) > 200 {
		t.Errorf("%d bytes; it is stored every second of a release", len(data))
	}
}

// FuzzSeenState reads any bytes, with a right checksum too. What is accepted must be usable and stay the same when it is stored and read again.
func FuzzSeenState(f *testing.F) {
	s := judge.NewSeen(careful())
	until(s, 5, flow{75, 0}.turn())
	for _, s := range []*judge.Seen{s, {}} {
		data, err := s.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, bytes := range [][]byte{data, sealed(data)} {
			var s, again judge.Seen
			if s.UnmarshalBinary(bytes) != nil {
				if !reflect.DeepEqual(s, judge.Seen{}) {
					t.Fatal("a state that was refused changed the judge")
				}
				continue
			}
			stored, err := s.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if err := again.UnmarshalBinary(stored); err != nil {
				t.Fatalf("what was stored is not read: %v", err)
			}
			until(&s, 9, flow{5, 1}.turn())
			until(&again, 9, flow{5, 1}.turn())
			if found := s.Evidence(); found != again.Evidence() || found.Log != found.Log || found.LogMax < 0 {
				t.Fatalf("%+v and %+v", found, again.Evidence())
			}
		}
	})
}
