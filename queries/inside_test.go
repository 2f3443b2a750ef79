package queries

import (
	"errors"
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
