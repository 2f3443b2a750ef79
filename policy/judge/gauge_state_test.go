package judge_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/rampart-proxy/rampart/policy/judge"
)

func TestANewLeaderGoesOnJudgingAGauge(t *testing.T) {
	for _, turns := range []int{0, 3, 40, 333} {
		old := acquainted(accuracy())
		for i := range turns {
			old.Turn(byLess(0.01)(i))
		}
		before := *old
		data, err := json.Marshal(old)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(before, *old) {
			t.Error("the state is another after it was stored")
		}
		next := &judge.Gauge{}
		if err := json.Unmarshal(data, next); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			old.Turn(byLess(0.02)(i))
			next.Turn(byLess(0.02)(i))
			if old.Evidence() != next.Evidence() {
				t.Fatalf("%+v became %+v", old.Evidence(), next.Evidence())
			}
		}
		if len(data) > 3<<10 {
			t.Errorf("%d bytes; it is stored every second of a release", len(data))
		}
	}
}

func TestDamagedStateOfAGaugeIsRefused(t *testing.T) {
	data, err := acquainted(accuracy()).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		damaged := append([]byte(nil), data...)
		damaged[i] ^= 0x10
		if (&judge.Gauge{}).UnmarshalBinary(damaged) == nil || (&judge.Gauge{}).UnmarshalBinary(data[:i]) == nil {
			t.Fatalf("byte %d may be anything", i)
		}
	}
	if (&judge.Seen{}).UnmarshalBinary(data) == nil {
		t.Error("the state of one is taken for another's")
	}
}

// FuzzGaugeState reads any bytes, with a right checksum too. What is accepted must be usable and stay the same when it is stored and read again.
func FuzzGaugeState(f *testing.F) {
	g := acquainted(accuracy())
	for i := range 30 {
		g.Turn(byLess(0.01)(i))
	}
	for _, g := range []*judge.Gauge{g, {}} {
		data, err := g.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, bytes := range [][]byte{data, sealed(data)} {
			var g, again judge.Gauge
			if g.UnmarshalBinary(bytes) != nil {
				if !reflect.DeepEqual(g, judge.Gauge{}) {
					t.Fatal("a state that was refused changed the judge")
				}
				continue
			}
			stored, err := g.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if err := again.UnmarshalBinary(stored); err != nil {
				t.Fatalf("what was stored is not read: %v", err)
			}
			for i := range 60 {
				g.Turn(byLess(0.01)(i))
				again.Turn(byLess(0.01)(i))
			}
			if found := g.Evidence(); found != again.Evidence() || found.Log != found.Log || found.Scatter != found.Scatter || found.Phi < 1 {
				t.Fatalf("%+v and %+v", found, again.Evidence())
			}
		}
	})
}
