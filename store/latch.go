package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// LatchEntry is one release that this replica has taken back: one line of the latch file.
type LatchEntry struct {
	Service string             `json:"service"`
	Release string             `json:"release"`
	At      time.Time          `json:"at"`
	Reason  string             `json:"reason"`
	Numbers map[string]float64 `json:"numbers,omitempty"`
}

// Latch remembers, in a file of this machine, which releases were taken back: a latched release weighs 0 on this replica whatever etcd says. Entries are
// never removed; release ids do not come back.
type Latch struct {
	tail chan *tail // holds the file when nobody writes: taking it out is the right to write

	mu      sync.Mutex
	entries []LatchEntry            // guarded by mu
	held    map[latchedRelease]bool // guarded by mu
}

type latchedRelease struct{ service, release string }

// tail is the end of the latch file. It is owned by whoever took it out of the Latch.
type tail struct {
	file *os.File
	good int64 // bytes that are whole lines
	torn bool  // something else may follow them
}

// OpenLatch opens the file, or makes it, and replays it. A last line that a crash tore is dropped: its rollback had not been pushed yet. Any other line that
// cannot be read is an error, for a rollback may be lost in it.
func OpenLatch(path string) (*Latch, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open latch: %w", err)
	}
	l := &Latch{tail: make(chan *tail, 1), held: map[latchedRelease]bool{}}
	t := &tail{file: file, torn: true}
	if err := l.replay(t); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open latch %s: %w", path, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open latch %s: %w", path, err)
	}
	l.tail <- t
	return l, nil
}

func (l *Latch) replay(t *tail) error {
	data, err := io.ReadAll(t.file)
	if err != nil {
		return err
	}
	for number := 1; ; number++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return nil
		}
		var entry LatchEntry
		if err := json.Unmarshal(line, &entry); err != nil || entry.Service == "" || entry.Release == "" {
			return fmt.Errorf("line %d is not a latched release: %q; mend or remove that line", number, line)
		}
		l.hold(entry)
		t.good += int64(len(line)) + 1
		data = rest
	}
}

// hold takes the entry into memory and reports whether it is new.
func (l *Latch) hold(entry LatchEntry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	release := latchedRelease{entry.Service, entry.Release}
	if l.held[release] {
		return false
	}
	l.held[release] = true
	l.entries = append(l.entries, entry)
	return true
}

// Holds reports whether the release was taken back on this machine.
func (l *Latch) Holds(service, release string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[latchedRelease{service, release}]
}

// Add latches a release, in memory first and then on disk; when it returns nil the entry survives a crash. An error means that it holds in memory only.
// Adding what is held does nothing.
func (l *Latch) Add(entry LatchEntry) error {
	if entry.Service == "" || entry.Release == "" {
		return errors.New("latch a release: without a service or a release")
	}
	if !l.hold(entry) {
		return nil
	}
	line, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("latch %s %s: %w", entry.Service, entry.Release, err)
	}
	t := <-l.tail
	defer func() { l.tail <- t }()
	if err := t.append(append(line, '\n')); err != nil {
		return fmt.Errorf("latch %s %s: %w", entry.Service, entry.Release, err)
	}
	return nil
}

// append writes and syncs one line. What an earlier failure, or a crash, left half written is cut off first, so that it never ends up inside the file.
func (t *tail) append(line []byte) error {
	if t.torn {
		if err := t.file.Truncate(t.good); err != nil {
			return err
		}
	}
	t.torn = true
	if _, err := t.file.Write(line); err != nil {
		return err
	}
	t.good += int64(len(line))
	t.torn = false
	// When this fails the line may yet reach the disk, so it stays.
	return t.file.Sync()
}

// All returns what is held, in the order in which it was added.
func (l *Latch) All() []LatchEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Close closes the file. What is held stays held; adding fails to reach the disk.
func (l *Latch) Close() error {
	t := <-l.tail
	defer func() { l.tail <- t }()
	if err := t.file.Close(); err != nil {
		return fmt.Errorf("close latch: %w", err)
	}
	return nil
}

// syncFolder makes a new file's name last.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
