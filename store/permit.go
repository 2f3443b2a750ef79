package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// RollbackRecord says who took a release back, when and on what evidence: the value of rollbacks/<service>/<release>.
type RollbackRecord struct {
	Release string             `json:"release"` // filled in by the store
	At      time.Time          `json:"at"`
	Reason  string             `json:"reason"`
	Replica string             `json:"replica"`
	Numbers map[string]float64 `json:"numbers,omitempty"`
}

// DeletePermit takes a release back. It only deletes, so it works when etcd is out of space, and it may be repeated.
func (s *Store) DeletePermit(ctx context.Context, service, release string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := s.client.Delete(ctx, permitKey(service, release)); err != nil {
		return fmt.Errorf("delete the permit of %s %s: %w", service, release, err)
	}
	return nil
}

// RecordRollback writes down why a release was taken back. The first record of a release stays: a later one is dropped without an error.
func (s *Store) RecordRollback(ctx context.Context, service, release string, record RollbackRecord) error {
	record.Release = release
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record the rollback of %s %s: %w", service, release, err)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	key := rollbackKey(service, release)
	if _, err := s.client.Txn(ctx).If(absent(key).compare).Then(clientv3.OpPut(key, string(value))).Commit(); err != nil {
		return fmt.Errorf("record the rollback of %s %s: %w", service, release, err)
	}
	return nil
}

// Rollbacks returns the records of a service's rollbacks, oldest first. A record that cannot be read is there with its release only.
func (s *Store) Rollbacks(ctx context.Context, service string) ([]RollbackRecord, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	folder := rollbackKey(service, "")
	answer, err := s.client.Get(ctx, folder, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return nil, fmt.Errorf("read the rollbacks of %s: %w", service, err)
	}
	records := make([]RollbackRecord, len(answer.Kvs))
	for i, kv := range answer.Kvs {
		if json.Unmarshal(kv.Value, &records[i]) != nil {
			records[i] = RollbackRecord{}
		}
		records[i].Release = strings.TrimPrefix(string(kv.Key), folder)
	}
	return records, nil
}
