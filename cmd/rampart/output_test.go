package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/clipperhouse/displaywidth"
	"pgregory.net/rapid"
)

func TestTablesAlignByWhatTheScreenShows(t *testing.T) {
	lines := table{{"NAME", "NOTE"}, {"größe", "a"}, {"日本", "b"}, {"x", "c"}}.lines(screen{})
	for _, line := range lines[1:] {
		before, _, _ := strings.Cut(line, line[len(line)-1:])
		if got := displaywidth.String(before); got != 7 {
			t.Errorf("the second column of %q begins at cell %d, want 7", line, got)
		}
	}
}

func TestTablesKeepToANarrowScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := screen{width: rapid.IntRange(20, 60).Draw(t, "width")}
		row := rapid.SliceOfN(rapid.String(), 1, 5)
		rows := table(rapid.SliceOfN(row, 1, 4).Draw(t, "rows"))
		for _, line := range rows.lines(s) {
			if got := displaywidth.String(line); got > s.width {
				t.Fatalf("%q takes %d cells of %d", line, got, s.width)
			}
		}
	})
}

func TestWrappingKeepsEveryWordAndTheWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := screen{width: rapid.IntRange(20, 60).Draw(t, "width")}
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z%→]{1,10}`), 1, 30).Draw(t, "words")
		text := "  " + strings.Join(words, " ")
		wrapped := s.wrap(text, "    ")
		if strings.Join(strings.Fields(wrapped), " ") != strings.Join(words, " ") {
			t.Fatalf("%q became %q", text, wrapped)
		}
		for _, line := range strings.Split(wrapped, "\n") {
			if displaywidth.String(line) > s.width {
				t.Fatalf("%q is wider than %d", line, s.width)
			}
		}
	})
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	if s := screenOf(&bytes.Buffer{}); s.colour || s.live {
		t.Errorf("a buffer is no terminal: %+v", s)
	}
	if got := (screen{}).paint(alert, "no"); got != "no" {
		t.Errorf("painted without colours: %q", got)
	}
	if got := (screen{colour: true}).paint(alert, "no"); got != "\x1b[31mno\x1b[0m" {
		t.Errorf("not painted: %q", got)
	}
}

func TestForeignTextCannotDriveTheTerminal(t *testing.T) {
	for _, hostile := range []string{"\x1b[2Jgone", "a\rb", "a\u202eb", "\x00", "\xff\xfe"} {
		if got := clean(hostile); strings.ContainsAny(got, "\x1b\r\x00\u202e") || !strings.Contains(got, "·") {
			t.Errorf("clean(%q) = %q", hostile, got)
		}
	}
}

func TestTimesReadAsPeopleWriteThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0 s", 340 * time.Millisecond: "0.3 s", 2 * time.Second: "2 s", 18700 * time.Millisecond: "18 s",
		time.Minute: "1m", 312 * time.Second: "5m12s", 41 * time.Minute: "41m", 192 * time.Minute: "3h12m", 52 * time.Hour: "2d4h",
	} {
		if got := brief(d); got != want {
			t.Errorf("brief(%s) = %q, want %q", d, got, want)
		}
	}
	if got := whole(11200 * time.Millisecond); got != "12 s" {
		t.Errorf("what is left is rounded up: %q", got)
	}
}

func TestABarShowsEveryShare(t *testing.T) {
	for _, c := range []struct {
		share float64
		want  string
	}{{0, ""}, {0.001, "▏"}, {0.5, "█████"}, {0.55, "█████▌"}, {1, "██████████"}} {
		if got := bar(c.share, 10); got != c.want {
			t.Errorf("bar(%v) = %q, want %q", c.share, got, c.want)
		}
	}
}

func TestYAMLOutputHasTheNamesAndOrderOfJSON(t *testing.T) {
	got, err := yamlOf([]byte(`{"b": "1.10", "a": [1, {"c": "x"}], "d": ""}`))
	if want := "b: \"1.10\"\na:\n    - 1\n    - c: x\nd: \"\"\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
