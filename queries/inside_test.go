package queries

import (
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"pgregory.net/rapid"
)

func TestOnlyPlainSelectorsAreAskedForTheirTimestamp(t *testing.T) {
	for expression, want := range map[string]bool{
		"up": true, " up\n": true, "job:up:sum": true, `up{}`: true, `up{a="b"}`: true, ` up {a="b", c=~'}.*'} `: true, `{__name__="up"}`: true, "up{a=`\\`}": true,
		`up{a="\"}"}`: true,
		"":            false, "1": false, "NaN": false, "inf": false, `"up"`: false, "avg(up)": false, "up[5m]": false, "up offset 5m": false, `up{a="b"} offset 5m`: false, "up + up": false,
		`up{a="b"} / up{a="c"}`: false, `up{a="b"`: false, `up{a="b}`: false, `up{a="b"}}`: false, "up @ 5": false, "up # now": false, "up{a=\"b\" # }\n}": false, `sum by (a) (up)`: false,
	} {
		if got := selects(expression); got != want {
			t.Errorf("%q: %t", expression, got)
		}
	}
}

func TestWordsOfOthersAreOneShortLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := clean(rapid.String().Draw(t, "words"), 20)
		if len(words) > 20+len("…") || strings.ContainsAny(words, "\n\r\t\x1b\x00") || !utf8.ValidString(words) {
			t.Fatalf("%q", words)
		}
	})
}

func TestAnErrorDoesNotTellTheAddress(t *testing.T) {
	s, err := newServer("http://user:secret@127.0.0.1:1", newTransport())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := s.ask(t.Context(), question{expression: "up", at: time.Unix(1, 0), within: time.Second, oldest: time.Minute})
	if got.result != unreachable || strings.Contains(got.words, "secret") || !strings.Contains(got.words, "refused") {
		t.Errorf("%+v", got)
	}
}

func TestAnAnswerOfNoKindWeKnowIsNoNumber(t *testing.T) {
	for _, v := range []model.Value{nil, model.Vector{nil}, model.Vector{nil, nil}, model.Matrix{}, &model.String{Value: "3"}} {
		if got := reply(v); got.good() || got.words == "" {
			t.Errorf("%v: %+v", v, got)
		}
	}
	if got := failure(errors.New("\x1b[31mred"), time.Second); got.result != unreachable || strings.Contains(got.words, "\x1b") {
		t.Errorf("%+v", got)
	}
}

// says is a server that always says the same.
type says struct {
	status int
	body   string
}

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.status, Body: io.NopCloser(strings.NewReader(s.body)), Request: r}, nil
}

func FuzzWhateverAServerSaysIsOneFiniteNumberOrAProblem(f *testing.F) {
	for _, result := range []string{
		`"vector","result":[{"metric":{},"value":[1,"3"]}]`, `"vector","result":[{"metric":{},"histogram":[1,{}]}]`, `"scalar","result":[1,"NaN"]`, `"matrix","result":[]`, `"vector","result":null`,
	} {
		f.Add(200, `{"status":"success","data":{"resultType":`+result+`}}`)
	}
	f.Add(400, `{"status":"error","errorType":"bad_data","error":"no"}`)
	f.Add(503, `{"errorType":"timeout","error":"slow"}`)
	f.Add(204, "")
	f.Fuzz(func(t *testing.T, status int, body string) {
		s, err := newServer("http://prometheus:9090", says{200 + (status%400+400)%400, body})
		if err != nil {
			t.Fatal(err)
		}
		for _, expression := range []string{"up", "avg(up)"} {
			got, warnings := s.ask(t.Context(), question{expression: expression, at: time.Unix(1, 0), oldest: time.Minute, within: time.Second})
			if got.good() == (got.words != "") || math.IsNaN(got.value) || math.IsInf(got.value, 0) || !got.good() && got.value != 0 {
				t.Errorf("%+v", got)
			}
			if len(got.words) > 2*longestWords || strings.ContainsAny(got.words, "\n\x1b") {
				t.Errorf("%q", got.words)
			}
			_ = (&watch{}).warnings(warnings)
		}
	})
}
