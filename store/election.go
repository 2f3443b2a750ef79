package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// leaderFolder holds the candidates' keys; the one created first leads.
const leaderFolder = Prefix + "leader"

// Candidate is who stands for election.
type Candidate struct {
	ID        string
	TTL       time.Duration // of the lease; etcd counts whole seconds and grants no less than 1.5 election timeouts
	LeaseFile string        // "" is none; else a file in a folder that no other process uses
}

// Leadership is the proof of having been elected. It never changes; whether it still counts, etcd decides in every fenced transaction.
type Leadership struct {
	// Fixed after Campaign.
	key      string // the candidate's key
	revision int64  // at which it was created: the fence
	lease    clientv3.LeaseID
	store    *Store
	done     <-chan struct{}
	end      context.CancelFunc // ends the keeping of the lease, and with it the leadership as far as its holder knows
	kept     *sync.WaitGroup    // the keeping of the lease
}

// Campaign stands for election until it is won or ctx ends; what fails meanwhile is logged and tried again. ctx bounds the leadership as well: when it
// ends the lease is no longer kept. The caller ends every leadership with Resign.
func (s *Store) Campaign(ctx context.Context, c Candidate) (*Leadership, error) {
	again := newDelays(100*time.Millisecond, time.Second)
	for {
		l, err := s.campaign(ctx, c)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("stand for election as %s: %w", c.ID, ctx.Err())
		}
		s.log.Warn("the election failed, trying again", "err", err)
		if !sleep(ctx, again.take()) {
			return nil, fmt.Errorf("stand for election as %s: %w", c.ID, ctx.Err())
		}
	}
}

func (s *Store) campaign(ctx context.Context, c Candidate) (*Leadership, error) {
	s.revokeOld(ctx, c.LeaseFile)
	// A client of its own: a second session on a shared one believes for DialTimeout + 1 s in a lease that is gone (reliability.md, point 4).
	client, err := s.connect(c.TTL / 3)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(ctx)
	// Closing the client is also what ends an election that is cancelled while etcd is away: it tidies up without a deadline of its own.
	context.AfterFunc(life, func() { _ = client.Close() })
	// The term of trust is counted from before the lease is asked for.
	term, drop := context.WithTimeout(life, trust(c.TTL))
	grant, err := client.Grant(term, int64(math.Ceil(c.TTL.Seconds())))
	if err != nil {
		drop()
		end()
		return nil, fmt.Errorf("get a lease: %w", err)
	}
	l := &Leadership{lease: grant.ID, store: s, done: life.Done(), end: end, kept: &sync.WaitGroup{}}
	if err := writeLease(c.LeaseFile, grant.ID); err != nil {
		s.log.Warn("after a crash this replica will lead only when its old lease has expired", "err", err)
	}
	keeper := keeper{client: client, lease: grant.ID, ttl: c.TTL, life: life}
	l.kept.Go(func() {
		defer end()
		keeper.run(term, drop)
	})
	if err := l.elect(life, client, c.ID); err != nil {
		l.abandon(ctx)
		return nil, err
	}
	return l, nil
}

// elect waits to be the first in the queue.
func (l *Leadership) elect(life context.Context, client *clientv3.Client, id string) error {
	session, err := concurrency.NewSession(client, concurrency.WithLease(l.lease), concurrency.WithContext(life))
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	// We keep the lease ourselves, by our own clock; the session is only needed for its lease and client.
	session.Orphan()
	election := concurrency.NewElection(session, leaderFolder)
	if err := election.Campaign(life, id); err != nil {
		return fmt.Errorf("wait to be elected: %w", err)
	}
	l.key, l.revision = election.Key(), election.Rev()
	// The queue moves on when keys vanish, ours included.
	found, err := client.Get(life, l.key)
	if err != nil {
		return fmt.Errorf("make sure of the election: %w", err)
	}
	if len(found.Kvs) == 0 || found.Kvs[0].CreateRevision != l.revision {
		return fmt.Errorf("make sure of the election: the key %s has vanished", l.key)
	}
	return nil
}

// trust is how long after a renewal was sent a lease is relied on: TTL/2.5 less than it lasts at least.
func trust(ttl time.Duration) time.Duration { return ttl * 3 / 5 }

// keeper renews a lease until life ends or the lease may be lost.
type keeper struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
	ttl    time.Duration
	life   context.Context
}

// run returns when the lease can no longer be relied on. The term in force ends by itself; each renewal that etcd answers puts a new one in its place,
// counted from before the request was sent. Drop releases the term in force.
func (k keeper) run(term context.Context, drop context.CancelFunc) {
	defer func() { drop() }()
	tick := time.NewTicker(k.ttl / 6)
	defer tick.Stop()
	for {
		select {
		case <-term.Done():
			return
		case <-tick.C:
		}
		next, dropNext := context.WithTimeout(k.life, trust(k.ttl))
		err := k.renew(term)
		if err == nil {
			drop()
			term, drop = next, dropNext
			continue
		}
		dropNext()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return
		}
	}
}

func (k keeper) renew(term context.Context) error {
	// One answer that is lost must not use up the whole term.
	call, cancel := context.WithTimeout(term, k.ttl/4)
	defer cancel()
	_, err := k.client.KeepAliveOnce(call, k.lease)
	return err
}

// Done is closed when the lease may be lost by this process's own clock, some time before it can be; when a fenced transaction was refused; and when the
// context of Campaign ended.
func (l *Leadership) Done() <-chan struct{} { return l.done }

func (l *Leadership) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Resign ends the leadership and gives the lease back, so that the next candidate leads at once. It may be called more than once.
func (l *Leadership) Resign(ctx context.Context) error {
	l.end()
	l.kept.Wait()
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := l.store.client.Revoke(ctx, l.lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("resign as leader: %w", err)
	}
	return nil
}

// abandon gives up a candidacy. What cannot be revoked now expires.
func (l *Leadership) abandon(ctx context.Context) {
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := l.Resign(short); err != nil {
		l.store.log.Debug("a candidate's lease is left to expire", "err", err)
	}
}

// Leader returns the id of the replica that leads, and whether there is one.
func (s *Store) Leader(ctx context.Context) (string, bool, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := s.client.Get(ctx, leaderFolder+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", false, fmt.Errorf("read the leader: %w", err)
	}
	if len(answer.Kvs) == 0 {
		return "", false, nil
	}
	return string(answer.Kvs[0].Value), true, nil
}

// revokeOld gives back the lease of this process's predecessor. Whoever holds the folder of the file knows that the predecessor is dead.
func (s *Store) revokeOld(ctx context.Context, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	id, err := strconv.ParseInt(strings.TrimSpace(string(text)), 16, 64)
	if err != nil {
		s.log.Warn("the file of the old lease cannot be read", "err", err)
		return
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := s.client.Revoke(ctx, clientv3.LeaseID(id)); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.log.Warn("the old lease is left to expire", "err", err)
	}
}

func writeLease(file string, lease clientv3.LeaseID) error {
	if file == "" {
		return nil
	}
	fresh := filepath.Clean(file) + ".new"
	if err := os.WriteFile(fresh, []byte(strconv.FormatInt(int64(lease), 16)+"\n"), 0o600); err != nil {
		return fmt.Errorf("note the lease: %w", err)
	}
	if err := os.Rename(fresh, file); err != nil {
		return fmt.Errorf("note the lease: %w", err)
	}
	return nil
}
