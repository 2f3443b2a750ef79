package judge_test

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// pair is what a leader keeps and hands over.
type pair struct {
	Errors *judge.Errors `json:"errors"`
	Guard  *judge.Guard  `json:"guard"`
}

func (p pair) take(t judge.Turn) (judge.Evidence, judge.Trip, bool) {
	p.Errors.Turn(t)
	found := p.Errors.Evidence()
	trip, tripped := p.Guard.Turn(t, found.Phi, found.Level)
	return found, trip, tripped
}

// drawBusy draws turns as services have them, so that every part of the state is in use.
func drawBusy(t *rapid.T) judge.Turn {
	counts := rapid.Custom(func(t *rapid.T) judge.Counts {
		return judge.Counts{Good: rapid.Uint64Range(0, 100).Draw(t, "good"), Bad: rapid.Uint64Range(0, 3).Draw(t, "bad")}
	})
	if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
		return drawTurn(t)
	}
	return judge.Turn{Length: quarter, Share: 0.5, Live: counts.Draw(t, "live"), Candidate: counts.Draw(t, "candidate")}
}

func TestNewLeaderGoesOnWhereTheOldOneStopped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := defaults()
		s.Limit = rapid.SampledFrom([]float64{0, 0.02}).Draw(t, "limit")
		s.Blip = rapid.SampledFrom([]time.Duration{0, quarter, time.Second, time.Hour}).Draw(t, "blip")
		old := pair{judge.NewErrors(s), &judge.Guard{Blip: s.Blip}}
		for range rapid.IntRange(0, 60).Draw(t, "observed") {
			old.Errors.Observe(drawBusy(t).Live, quarter)
		}
		for range rapid.IntRange(0, 60).Draw(t, "before") {
			old.take(drawBusy(t))
		}
		data, err := json.Marshal(old)
		if err != nil {
			t.Fatal(err)
		}
		next := pair{&judge.Errors{}, &judge.Guard{}}
		if err := json.Unmarshal(data, &next); err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(1, 60).Draw(t, "after") {
			turn := drawBusy(t)
			found, trip, tripped := old.take(turn)
			found2, trip2, tripped2 := next.take(turn)
			if found != found2 || trip != trip2 || tripped != tripped2 || old.Errors.Excess() != next.Errors.Excess() {
				t.Fatalf("turn %d: %+v %+v %t became %+v %+v %t", i, found, trip, tripped, found2, trip2, tripped2)
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

func TestStoringChangesNothing(t *testing.T) {
	e := observed(defaults())
	for range 10 {
		e.Turn(at(1, 2))
	}
	before := *e
	if _, err := e.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, *e) {
		t.Error("the state is another after it was stored")
	}
}

func TestStateIsSmall(t *testing.T) {
	s := defaults()
	s.Limit = 0.05
	e := observed(s)
	for i := range 400 {
		e.Turn(at(uint64(i%2), uint64(i%5)))
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes as JSON in busy traffic", len(data))
	if len(data) > 8<<10 {
		t.Errorf("%d bytes; it is stored every second of a release", len(data))
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	e := observed(defaults())
	e.Turn(at(1, 2))
	data, err := e.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		damaged := append([]byte(nil), data...)
		damaged[i] ^= 0x10
		if (&judge.Errors{}).UnmarshalBinary(damaged) == nil {
			t.Errorf("byte %d may be anything", i)
		}
		if (&judge.Errors{}).UnmarshalBinary(data[:i]) == nil {
			t.Errorf("the first %d of %d bytes are taken for all", i, len(data))
		}
	}
	if (&judge.Errors{}).UnmarshalBinary(append(data, 0)) == nil {
		t.Error("a byte too many is taken")
	}
}

func TestStateOfTheOtherTypeOrAnotherVersionIsRefused(t *testing.T) {
	errors, err := judge.NewErrors(defaults()).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	guard, err := (&judge.Guard{}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if (&judge.Guard{}).UnmarshalBinary(errors) == nil || (&judge.Errors{}).UnmarshalBinary(guard) == nil {
		t.Error("the state of one is taken for the other's")
	}
	errors[1]++
	if (&judge.Errors{}).UnmarshalBinary(sealed(errors[:len(errors)-4])) == nil {
		t.Error("a later version is read")
	}
	for _, text := range []string{`"nonsense!"`, `""`, `17`, `{}`} {
		if json.Unmarshal([]byte(text), &judge.Errors{}) == nil || json.Unmarshal([]byte(text), &judge.Guard{}) == nil {
			t.Errorf("%s is read", text)
		}
	}
}

func TestRefusedStateChangesNothing(t *testing.T) {
	e := observed(defaults())
	e.Turn(at(1, 2))
	before := *e
	if e.UnmarshalBinary(sealed([]byte("e\x01 short"))) == nil {
		t.Fatal("nonsense is read")
	}
	if !reflect.DeepEqual(before, *e) {
		t.Error("a state that was refused changed the judge")
	}
}

// sealed puts a right checksum behind any bytes.
func sealed(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(append([]byte(nil), body...), crc32.ChecksumIEEE(body))
}

// FuzzState reads any bytes, with a right checksum too. What is accepted must be usable and stay the same when it is stored and read again.
func FuzzState(f *testing.F) {
	e := observed(judge.Settings{Alpha: 0.01, Limit: 0.1})
	for i := range 30 {
		e.Turn(at(uint64(i%3), uint64(i%7)))
	}
	var g judge.Guard
	g.Turn(at(1, 2), 2, 0.02)
	for _, m := range []interface{ MarshalBinary() ([]byte, error) }{e, judge.NewErrors(defaults()), &g} {
		data, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, bytes := range [][]byte{data, sealed(data)} {
			var e judge.Errors
			if e.UnmarshalBinary(bytes) == nil {
				usable(t, &e)
			}
			var g judge.Guard
			if g.UnmarshalBinary(bytes) == nil {
				g.Turn(at(1, 2), 2, 0.02)
			}
		}
	})
}

func usable(t *testing.T, e *judge.Errors) {
	first, err := e.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var again judge.Errors
	if err := again.UnmarshalBinary(first); err != nil {
		t.Fatalf("what was stored is not read: %v", err)
	}
	for range 50 {
		e.Turn(at(1, 2))
		again.Turn(at(1, 2))
	}
	if found := e.Evidence(); found != again.Evidence() || found.Log != found.Log || found.Phi < 1 {
		t.Fatalf("%+v and %+v", found, again.Evidence())
	}
}
