package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
)

// BeatRecord is the value of beat: every replica's proof that etcd and the leader live.
type BeatRecord struct {
	At     int64  `json:"at"` // unix milliseconds by the leader's clock
	Leader string `json:"leader"`
}

// Report is what one replica tells the leader: the value of replicas/<id>.
type Report struct {
	ID       string                   `json:"id"`
	HTTP     string                   `json:"http"`     // where its own pages are
	Applied  int64                    `json:"applied"`  // newest etcd revision it has published
	At       int64                    `json:"at"`       // unix milliseconds by its own clock
	Releases map[string]ReleaseReport `json:"releases"` // by service
	Proxies  int                      `json:"proxies"`
	Alarms   []string                 `json:"alarms,omitempty"` // what someone must look at, in words
}

// ReleaseReport is what one replica's proxies have accepted of a running release.
type ReleaseReport struct {
	Release   string       `json:"release"`
	Moved     int64        `json:"moved"` // etcd revision at which what proxies get of the service last changed
	Fleet     policy.Fleet `json:"fleet"`
	Reporting int          `json:"reporting"` // proxies whose load reports it reads
}

// Beat writes the leader's sign of life, fenced.
func (s *Store) Beat(ctx context.Context, l *Leadership, record BeatRecord) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	return s.fencedPut(ctx, l, Key(Beat, ""), value)
}

// SaveEvidence writes what the judge has accumulated about a service's release, fenced.
func (s *Store) SaveEvidence(ctx context.Context, l *Leadership, service string, evidence []byte) error {
	return s.fencedPut(ctx, l, evidenceKey(service), evidence)
}

func (s *Store) fencedPut(ctx context.Context, l *Leadership, key string, value []byte) error {
	// Our own clock is stricter than etcd's fence, which would let a lease count that is about to expire.
	if l.ended() {
		return fmt.Errorf("put %s: %w", key, ErrNotLeader)
	}
	if err := fits(key, value); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := s.client.Txn(ctx).If(fence(l).compare).Then(clientv3.OpPut(key, string(value))).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("put %s: %w", key, err)
	case !answer.Succeeded:
		l.end()
		return fmt.Errorf("put %s: %w", key, ErrNotLeader)
	}
	return nil
}

// Evidence returns what SaveEvidence or Save wrote last, nil if nothing was.
func (s *Store) Evidence(ctx context.Context, service string) ([]byte, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := s.client.Get(ctx, evidenceKey(service))
	if err != nil {
		return nil, fmt.Errorf("read the evidence of %s: %w", service, err)
	}
	if len(answer.Kvs) == 0 {
		return nil, nil
	}
	return answer.Kvs[0].Value, nil
}

// PublishReport writes a replica's report under a lease of this process, which lasts ttl beyond the end of the connection. The lease is made by the first
// report of an id and kept for as long as the Store is open.
func (s *Store) PublishReport(ctx context.Context, id string, ttl time.Duration, report Report) error {
	value, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("publish the report of %s: %w", id, err)
	}
	key := place{kind: replicaReport, name: id}.key()
	if err := fits(key, value); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.putReport(ctx, key, ttl, value)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		// It expired while etcd was away. The next one is made at once.
		s.forgetLease(key, 0)
		err = s.putReport(ctx, key, ttl, value)
	}
	if err != nil {
		return fmt.Errorf("publish the report of %s: %w", id, err)
	}
	return nil
}

func (s *Store) putReport(ctx context.Context, key string, ttl time.Duration, value []byte) error {
	lease, err := s.reportLease(ctx, key, ttl)
	if err != nil {
		return err
	}
	_, err = s.client.Put(ctx, key, string(value), clientv3.WithLease(lease))
	return err
}

// reportLease returns the lease of a report, made and kept alive from the first call on.
func (s *Store) reportLease(ctx context.Context, key string, ttl time.Duration) (clientv3.LeaseID, error) {
	s.mu.Lock()
	lease, found := s.reports[key]
	s.mu.Unlock()
	if found {
		return lease, nil
	}
	grant, err := s.client.Grant(ctx, int64(math.Ceil(ttl.Seconds())))
	if err != nil {
		return 0, err
	}
	kept, err := s.client.KeepAlive(s.client.Ctx(), grant.ID)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.reports[key] = grant.ID
	s.mu.Unlock()
	go func() {
		// The client keeps the lease; its answers only have to be taken. It ends with the client or with the lease.
		for range kept {
		}
		s.forgetLease(key, grant.ID)
	}()
	return grant.ID, nil
}

// forgetLease makes the next report ask for a new lease, unless another one than this has been made since; 0 is any.
func (s *Store) forgetLease(key string, lease clientv3.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lease == 0 || s.reports[key] == lease {
		delete(s.reports, key)
	}
}

// WatchReplicas follows the replicas' reports and calls each with all of them, by replica id, at the start and after every change. A report that cannot be
// read is left out. It returns like Watch.
func (s *Store) WatchReplicas(ctx context.Context, each func(map[string]Report) error) error {
	folder := Prefix + replicaReport.folder()
	f := &follower{store: s, spans: []span{folderSpan(folder)}, prefix: folder}
	f.wanted = func(k Kind) bool { return k == replicaReport }
	// The map belongs to the follower's goroutine; the consumer gets copies that it may keep.
	reports := map[string]Report{}
	f.each = func(b Batch) error {
		for _, c := range b.Changes {
			s.noteReport(reports, c)
		}
		return each(maps.Clone(reports))
	}
	return f.run(ctx)
}

func (s *Store) noteReport(reports map[string]Report, c Change) {
	if c.Deleted {
		delete(reports, c.Name)
		return
	}
	var report Report
	if err := json.Unmarshal(c.Value, &report); err != nil {
		s.log.Warn("a replica's report cannot be read", "rev", c.Mod, "err", err)
		delete(reports, c.Name)
		return
	}
	reports[c.Name] = report
}
