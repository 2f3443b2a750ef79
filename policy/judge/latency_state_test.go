package judge_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// drawBusySlow draws turns of latency as services have them.
func drawBusySlow(t *rapid.T) judge.LatencyTurn {
	if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
		return drawSlow(t)
	}
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	usual := lognormal(1)
	rate := rapid.SampledFrom([]float64{0, 3, 100}).Draw(t, "rate")
	return judge.LatencyTurn{Length: quarter, Share: 0.5, Live: usual.draw(random, rate), Candidate: usual.draw(random, rate)}
}

func TestNewLeaderGoesOnWithLatencyWhereTheOldOneStopped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := judge.NewLatency(rapid.SampledFrom([]judge.LatencySettings{slowDefaults(), limited()}).Draw(t, "settings"))
		for range rapid.IntRange(0, 20).Draw(t, "observed") {
			turn := drawBusySlow(t)
			old.Observe(turn.Live, turn.Length)
		}
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			old.Turn(drawBusySlow(t))
		}
		if rapid.IntRange(0, 4).Draw(t, "next release") == 0 {
			old.Anew()
		}
		data, err := json.Marshal(old)
		if err != nil {
			t.Fatal(err)
		}
		next := &judge.Latency{}
		if err := json.Unmarshal(data, next); err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(1, 20).Draw(t, "after") {
			turn := drawBusySlow(t)
			old.Turn(turn)
			next.Turn(turn)
			if found, found2 := old.Evidence(), next.Evidence(); found != found2 || old.HungAfter() != next.HungAfter() {
				t.Fatalf("turn %d: %+v became %+v", i, found, found2)
			}
		}
		again, err := json.Marshal(next)
		if err != nil {
			t.Fatal(err)
		}
		if data, _ = json.Marshal(old); string(data) != string(again) {
			t.Fatal("both store different states after the same turns")
		}
	})
}

// busy is a judge in mid-release.
func busy() *judge.Latency {
	w := slowWorldOf(3, 100, time.Minute, limited())
	usual := lognormal(1)
	for range 30 {
		w.latency.Turn(half(usual.draw(w.random, 100), usual.draw(w.random, 100)))
	}
	return w.latency
}

func TestStoringLatencyChangesNothingAndIsSmall(t *testing.T) {
	l := busy()
	before := *l
	data, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, *l) {
		t.Error("the state is another after it was stored")
	}
	t.Logf("%d bytes as JSON in busy traffic", len(data))
	if len(data) > 8<<10 {
		t.Errorf("%d bytes; it is stored every few seconds of a release", len(data))
	}
}

func TestDamagedStateOfLatencyIsRefusedAndChangesNothing(t *testing.T) {
	data, err := busy().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	l := busy()
	before := *l
	for i := range data {
		damaged := append([]byte(nil), data...)
		damaged[i] ^= 0x10
		if l.UnmarshalBinary(damaged) == nil || l.UnmarshalBinary(data[:i]) == nil {
			t.Fatalf("byte %d may be anything", i)
		}
	}
	if l.UnmarshalBinary(append(data, 0)) == nil || l.UnmarshalBinary(sealed([]byte("l\x01 short"))) == nil {
		t.Error("what is no state is read")
	}
	errors, err := judge.NewErrors(defaults()).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if l.UnmarshalBinary(errors) == nil || l.UnmarshalText([]byte("nonsense!")) == nil {
		t.Error("the state of something else is read")
	}
	if !reflect.DeepEqual(before, *l) {
		t.Error("a state that was refused changed the judge")
	}
}

// FuzzLatencyState reads any bytes, with a right checksum too. What is accepted must be usable and stay the same when it is stored and read again.
func FuzzLatencyState(f *testing.F) {
	for _, l := range []*judge.Latency{busy(), judge.NewLatency(slowDefaults()), learned(limited()), {}} {
		data, err := l.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, bytes := range [][]byte{data, sealed(data)} {
			var l, again judge.Latency
			if l.UnmarshalBinary(bytes) != nil {
				continue
			}
			first, err := l.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if err := again.UnmarshalBinary(first); err != nil {
				t.Fatalf("what was stored is not read: %v", err)
			}
			for range 30 {
				l.Turn(half(bell(), bell()))
				again.Turn(half(bell(), bell()))
			}
			if found := l.Evidence(); found != again.Evidence() || found.Log != found.Log || found.LogLimit != found.LogLimit || found.Phi < 1 {
				t.Fatalf("%+v and %+v", found, again.Evidence())
			}
			l.Anew()
			l.Turn(half(bell(), bell()))
		}
	})
}
