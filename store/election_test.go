package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type elected struct {
	l   *Leadership
	err error
}

// stand campaigns in the background.
func stand(ctx context.Context, s *Store, c Candidate) <-chan elected {
	won := make(chan elected, 1)
	go func() {
		l, err := s.Campaign(ctx, c)
		won <- elected{l, err}
	}()
	return won
}

func leader(t *testing.T, s *Store) string {
	t.Helper()
	id, ok, err := s.Leader(t.Context())
	if err != nil || ok != (id != "") {
		t.Fatal(id, ok, err)
	}
	return id
}

func TestOfTwoCandidatesOneLeadsAndTheOtherFollowsWhenItResigns(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	a, b := e.dial(), e.dial()
	if id := leader(t, a); id != "" {
		t.Fatalf("%s leads before any election", id)
	}
	first := elect(t, a, "a")
	next := stand(context.Background(), b, Candidate{ID: "b", TTL: 5 * time.Second})
	eventually(t, "the second candidate to stand in the queue", func() bool {
		queue, err := a.client.Get(t.Context(), leaderFolder, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && queue.Count == 2
	})
	if id := leader(t, b); id != "a" {
		t.Errorf("%q leads", id)
	}
	select {
	case w := <-next:
		t.Fatalf("two lead: %+v", w)
	default:
	}
	if err := first.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	second := <-next
	if second.err != nil {
		t.Fatal(second.err)
	}
	if id := leader(t, a); id != "b" {
		t.Errorf("%q leads", id)
	}
	save := Save{Kind: ServedService, Name: "shop", Value: 1}
	if _, err := a.Save(t.Context(), first, save); !errors.Is(err, ErrNotLeader) {
		t.Errorf("save of the one that resigned: %v", err)
	}
	if _, err := b.Save(t.Context(), second.l, save); err != nil {
		t.Errorf("save of the leader: %v", err)
	}
	for range 2 {
		if err := second.l.Resign(t.Context()); err != nil {
			t.Errorf("resign: %v", err)
		}
	}
	if id := leader(t, a); id != "" {
		t.Errorf("%q leads after all have resigned", id)
	}
}

func TestARestartedReplicaWithItsLeaseFileLeadsAtOnce(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	ttl := time.Minute
	file := filepath.Join(t.TempDir(), "lease")
	// The end of its context leaves the lease to expire, as a crash does.
	life, crash := context.WithCancel(t.Context())
	crashed, err := s.Campaign(life, Candidate{ID: "a", TTL: ttl, LeaseFile: file})
	if err != nil {
		t.Fatal(err)
	}
	crash()
	<-crashed.Done()
	if id := leader(t, s); id != "a" {
		t.Fatalf("%q leads: this is not a crash", id)
	}
	wait, cancel := context.WithTimeout(t.Context(), ttl/4)
	defer cancel()
	again, err := s.Campaign(wait, Candidate{ID: "a", TTL: ttl, LeaseFile: file})
	if err != nil {
		t.Fatalf("after the restart: %v", err)
	}
	if err := again.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	if found, err := os.Stat(file); err != nil || found.Mode().Perm() != 0o600 {
		t.Errorf("lease file: %v, %v", found, err)
	}
}

func TestAnUnreadableLeaseFileIsNoObstacle(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	file := filepath.Join(t.TempDir(), "lease")
	if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/nowhere/lease"} {
		l, err := s.Campaign(t.Context(), Candidate{ID: "a", TTL: 5 * time.Second, LeaseFile: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Resign(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestALeaderCutOffFromEtcdStepsDownBeforeAnotherCanBeElected(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	a, b := e.dial(), e.dial()
	p := startProxy(t, e.Socket)
	cutOff := dialTo(t, p.endpoint())
	const ttl = 4 * time.Second
	l, err := cutOff.Campaign(t.Context(), Candidate{ID: "a", TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	next := stand(t.Context(), b, Candidate{ID: "b", TTL: ttl})
	p.cut("")
	select {
	case <-l.Done():
	case w := <-next:
		t.Fatalf("another was elected while the first one still trusts its lease: %+v", w)
	}
	if id := leader(t, a); id != "a" {
		t.Errorf("%q leads in etcd when the first one steps down", id)
	}
	w := <-next
	if w.err != nil {
		t.Fatal(w.err)
	}
	if err := errors.Join(w.l.Resign(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestALeaderSurvivesARestartOfEtcd(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := e.dial()
	const ttl = 6 * time.Second
	l, err := s.Campaign(t.Context(), Candidate{ID: "a", TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	restart(t, e)
	// Beyond the term in force at the restart, so that only renewals with the new server can carry it.
	select {
	case <-l.Done():
		t.Fatal("the leadership ended with the old etcd process")
	case <-time.After(trust(ttl) + 500*time.Millisecond):
	}
	if _, err := s.Save(t.Context(), l, Save{Kind: ServedService, Name: "shop", Value: 1}); err != nil {
		t.Errorf("save: %v", err)
	}
	if err := l.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestALeaderOfAFrozenEtcdStepsDown(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	l, err := e.dial().Campaign(t.Context(), Candidate{ID: "a", TTL: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	e.signal(syscall.SIGSTOP)
	select {
	case <-l.Done():
	case <-time.After(10 * time.Second):
		t.Error("it still trusts a lease that nobody renews")
	}
	e.signal(syscall.SIGCONT)
	if err := l.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestACampaignEndsWithItsContextEvenWhenEtcdIsAway(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	first := elect(t, e.dial(), "a")
	p := startProxy(t, e.Socket)
	s := dialTo(t, p.endpoint())
	ctx, cancel := context.WithCancel(t.Context())
	queued := stand(ctx, s, Candidate{ID: "b", TTL: 5 * time.Second})
	eventually(t, "the second candidate to stand in the queue", func() bool {
		queue, err := first.store.client.Get(t.Context(), leaderFolder, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && queue.Count == 2
	})
	p.freeze()
	cancel()
	select {
	case w := <-queued:
		if !errors.Is(w.err, context.Canceled) {
			t.Errorf("campaign: %+v", w)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the campaign hangs")
	}
	p.thaw()
}

func TestAWipedPrefixEndsTheLeadershipAndANewElectionFollows(t *testing.T) {
	t.Parallel()
	s := startEtcd(t).dial()
	l := elect(t, s, "a")
	del(t, s, Prefix, clientv3.WithPrefix())
	if err := s.Beat(t.Context(), l, BeatRecord{}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("beat: %v", err)
	}
	<-l.Done()
	again := elect(t, s, "a")
	if err := s.Beat(t.Context(), again, BeatRecord{At: 1, Leader: "a"}); err != nil {
		t.Errorf("beat after the new election: %v", err)
	}
}

func TestACandidateWhoseKeyIsWipedInTheQueueIsNotElectedByIt(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	a, b := e.dial(), e.dial()
	elect(t, a, "a")
	next := stand(t.Context(), b, Candidate{ID: "b", TTL: 5 * time.Second})
	eventually(t, "the second candidate to stand in the queue", func() bool {
		queue, err := a.client.Get(t.Context(), leaderFolder, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && queue.Count == 2
	})
	del(t, a, Prefix, clientv3.WithPrefix())
	w := <-next
	if w.err != nil {
		t.Fatal(w.err)
	}
	if id := leader(t, a); id != "b" {
		t.Errorf("%q leads in etcd", id)
	}
	if err := b.Beat(t.Context(), w.l, BeatRecord{At: 1, Leader: "b"}); err != nil {
		t.Errorf("beat: %v", err)
	}
	if err := w.l.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}
