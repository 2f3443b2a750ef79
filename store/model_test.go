package store

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
)

// model is a follower: what the batches so far amount to.
type model struct {
	mu      sync.Mutex
	batches []Batch         // guarded by mu
	state   map[string]mark // guarded by mu
	wrong   []string        // guarded by mu: broken promises
}

// mark is one key's newest state as a follower knows it.
type mark struct {
	value       string
	mod, create int64
}

// follow watches until the test ends.
func follow(t *testing.T, s *Store) *model {
	t.Helper()
	m := &model{state: map[string]mark{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, m.take) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	m.until(t, "the first listing", func() bool { return len(m.batches) > 0 })
	return m
}

func (m *model) take(b Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.batches); n > 0 && b.Revision <= m.batches[n-1].Revision {
		m.wrong = append(m.wrong, fmt.Sprintf("revision %d after %d", b.Revision, m.batches[n-1].Revision))
	}
	m.batches = append(m.batches, b)
	for _, c := range b.Changes {
		key := place{kind: c.Kind, name: c.Name, release: c.Release}.key()
		if !b.Relisted && c.Mod != b.Revision {
			m.wrong = append(m.wrong, fmt.Sprintf("%s of revision %d in the batch of %d", key, c.Mod, b.Revision))
		}
		if c.Deleted {
			delete(m.state, key)
			continue
		}
		m.state[key] = mark{value: string(c.Value), mod: c.Mod, create: c.Create}
	}
	return nil
}

// until waits for a condition, which is asked under the lock.
func (m *model) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return condition()
	})
}

// reached waits until a revision has been delivered.
func (m *model) reached(t *testing.T, revision int64) {
	t.Helper()
	m.until(t, fmt.Sprintf("revision %d", revision), func() bool { return m.batches[len(m.batches)-1].Revision >= revision })
}

// since returns the batches after the first n.
func (m *model) since(n int) []Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.batches[n:]
}

func (m *model) count() int { return len(m.since(0)) }

// same fails the test unless the follower knows exactly what etcd holds, and nothing went wrong on the way.
func (m *model) same(t *testing.T, s *Store) {
	t.Helper()
	now, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]mark{}
	for _, c := range now.Changes {
		want[place{kind: c.Kind, name: c.Name, release: c.Release}.key()] = mark{value: string(c.Value), mod: c.Mod, create: c.Create}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !maps.Equal(m.state, want) {
		t.Errorf("the follower knows\n%v\nand etcd holds\n%v", m.state, want)
	}
	for _, wrong := range m.wrong {
		t.Error(wrong)
	}
}
