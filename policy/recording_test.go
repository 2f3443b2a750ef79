package policy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// recorded is the recording of a whole service's release of which green fails from the second half on, as a leader writes it: in two pieces.
func recorded(t *testing.T) []Recording {
	t.Helper()
	s := whole()
	e := watched(t, s)
	before, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	pieces := []Recording{{Before: before}, {Lost: 3}}
	for i := range 160 {
		r := quarter(i)
		if i >= 80 {
			r.Candidate = Counts{OK: 22, Errors: 3, Issued: 25}
		}
		piece := &pieces[i/100]
		piece.Release, piece.Service, piece.Live, piece.Candidate = s.Release.ID, s.Service, s.Live.Ref, s.Release.Candidate.Ref
		piece.Turns = append(piece.Turns, Record(time.UnixMilli(int64(i)*250), s, r, e.Take(r, s)))
	}
	return pieces
}

func TestARecordingComesBackAsItWas(t *testing.T) {
	for _, piece := range recorded(t) {
		packed, err := piece.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if per := len(packed) / len(piece.Turns); per > 300 {
			t.Errorf("a turn takes %d bytes", per)
		}
		back, err := DecodeRecording(packed)
		if err != nil || !reflect.DeepEqual(back, piece) {
			t.Errorf("it came back as %+v, %v", back, err)
		}
	}
}

func TestAReplayByTheSameSettingsJudgesTheSame(t *testing.T) {
	pieces := recorded(t)
	turns := 0
	r := RunAgain(pieces, nil, func(turn TurnRecord, again Judgement) {
		turns++
		if turn.Found.Verdict != again.Verdict.String() {
			t.Errorf("at %d ms it was %s and is %s", turn.At, turn.Found.Verdict, again.Verdict)
		}
	})
	if r.Turns != 160 || turns != 160 || r.Lost != 3 || r.Length != 40*time.Second || r.Release != "green-7" || len(r.Changed) > 0 {
		t.Errorf("%+v", r)
	}
	if !r.Was.Convicted || !r.Is.Convicted || r.Was.At != r.Is.At || r.Is.At < 20*time.Second || r.Is.Healthy == 0 || r.Is.Weight != 2500 {
		t.Errorf("was %+v, is %+v", r.Was, r.Is)
	}
}

func TestAReplayFollowsTheDocumentsOfItsTime(t *testing.T) {
	pieces := recorded(t)
	lax := pieces[0].Service
	lax.Analysis.Errors = &Margin{Ratio: 50, Points: 0.5, GRPC: lax.Analysis.Errors.GRPC}
	lax.Analysis.Limits = Limits{}
	// As if the margins had been widened in mid-release, before green began to fail.
	pieces[0].Turns[40].Service = &lax
	pieces[1].Service = lax
	if r := RunAgain(pieces, nil, nil); r.Is.Convicted || !r.Was.Convicted {
		t.Errorf("was %+v, is %+v", r.Was, r.Is)
	}
	strict := RunAgain(pieces, func(s Service) Service {
		s.Analysis.Errors = &Margin{Ratio: 1.1}
		return s
	}, nil)
	if !strict.Is.Convicted || len(strict.Changed) == 0 {
		t.Errorf("%+v", strict)
	}
}

func TestWhatIsNoRecordingIsAnError(t *testing.T) {
	var junk, open bytes.Buffer
	for w, text := range map[*bytes.Buffer]string{&junk: "junk", &open: `{"release":"green-7","turns":[{"at":`} {
		zip := gzip.NewWriter(w)
		_, _ = zip.Write([]byte(text))
		_ = zip.Close()
	}
	for _, data := range [][]byte{nil, []byte("junk"), junk.Bytes(), open.Bytes(), open.Bytes()[:12]} {
		if r, err := DecodeRecording(data); err == nil {
			t.Errorf("%q became %+v", data, r)
		}
	}
}

// A recording is read by other processes than the one that wrote it, so its readings may hold anything.
func FuzzAnyRecordingCanBeReplayed(f *testing.F) {
	f.Add([]byte(`{"release":"g","turns":[{"at":1,"weight":100,"phase":"soaking","mode":"plan","reading":{"interval":250000000,"times":{"live":"3:5","candidate":"86:1"}}}]}`))
	f.Add([]byte(`{"turns":[{"weight":-1,"reading":{"queries":[{"fresh":true}],"quality":[{}],"proxies":[{"proxy":""}],"statuses":{"live":[1]}}}],"lost":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var piece Recording
		if json.Unmarshal(data, &piece) != nil || len(piece.Turns) > 1000 {
			return
		}
		RunAgain([]Recording{piece}, func(Service) Service { return whole().Service }, nil)
	})
}
