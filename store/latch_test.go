package store

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func openLatch(t *testing.T, path string) *Latch {
	t.Helper()
	l, err := OpenLatch(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLatch(t *testing.T, l *Latch) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func entry(service, release string) LatchEntry {
	return LatchEntry{Service: service, Release: release, At: time.Unix(1700000000, 0).UTC(), Reason: "errors: 48 %\nand a second line", Numbers: map[string]float64{"log": 4.75}}
}

func TestALatchedReleaseStaysLatchedAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latch")
	l := openLatch(t, path)
	for _, e := range []LatchEntry{entry("shop", "green-12"), entry("pay", "blue-3"), entry("shop", "green-12")} {
		if err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	closeLatch(t, l)
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "\n") != 2 {
		t.Errorf("the file is %q, %v; want one line for each release", text, err)
	}
	l = openLatch(t, path)
	defer closeLatch(t, l)
	if all := l.All(); len(all) != 2 || !reflect.DeepEqual(all, []LatchEntry{entry("shop", "green-12"), entry("pay", "blue-3")}) {
		t.Errorf("replayed %+v", all)
	}
	if !l.Holds("shop", "green-12") || l.Holds("shop", "blue-3") || l.Holds("pay", "green-12") {
		t.Error("the latch holds what it should not, or does not hold what it should")
	}
}

func TestATornLatchHoldsEveryWholeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latch")
	l := openLatch(t, path)
	entries := []LatchEntry{entry("a", "x-1"), entry("b", "x-2"), entry("c", "x-3")}
	for _, e := range entries {
		if err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	closeLatch(t, l)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		torn := openLatch(t, path)
		lines := strings.Count(string(whole[:size]), "\n")
		if held := len(torn.All()); held != lines {
			t.Fatalf("cut at byte %d: holds %d entries of %d whole lines", size, held, lines)
		}
		// What is added after a tear is read back, and so is what was there before.
		if err := torn.Add(entry("d", "x-4")); err != nil {
			t.Fatal(err)
		}
		closeLatch(t, torn)
		mended := openLatch(t, path)
		if held := len(mended.All()); held != lines+1 || !mended.Holds("d", "x-4") {
			t.Fatalf("cut at byte %d and added one: holds %d entries, want %d", size, held, lines+1)
		}
		closeLatch(t, mended)
	}
}

func TestALatchWithGarbageInsideIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latch")
	text := `{"service":"a","release":"x-1"}` + "\nrubbish\n" + `{"service":"b","release":"x-2"}` + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenLatch(path)
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("opened with %v, want an error that names line 2", err)
	}
}

func TestALatchThatCannotBeWrittenHoldsInMemory(t *testing.T) {
	l := openLatch(t, filepath.Join(t.TempDir(), "latch"))
	closeLatch(t, l)
	if err := l.Add(entry("shop", "green-12")); err == nil || !strings.Contains(err.Error(), "latch shop green-12") {
		t.Errorf("added to a closed file with %v", err)
	}
	if !l.Holds("shop", "green-12") || len(l.All()) != 1 {
		t.Error("the latch does not hold")
	}
}

func TestAnEntryWithoutReleaseIsRefused(t *testing.T) {
	l := openLatch(t, filepath.Join(t.TempDir(), "latch"))
	defer closeLatch(t, l)
	if err := l.Add(LatchEntry{Service: "shop"}); err == nil {
		t.Error("an entry without a release was latched")
	}
	if len(l.All()) != 0 {
		t.Error("it is held")
	}
}

func FuzzALatchFileOfAnyBytesIsReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"service":"a","release":"x-1"}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Add([]byte("\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "latch")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLatch(path)
		if err != nil {
			return
		}
		defer closeLatch(t, l)
		for _, e := range l.All() {
			if !l.Holds(e.Service, e.Release) {
				t.Fatalf("lists %+v and does not hold it", e)
			}
		}
	})
}
