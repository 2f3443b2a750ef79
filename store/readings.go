package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// keptReleases is of how many releases of a service the readings are kept, the running one included.
const keptReleases = 3

// Recorded names a release whose readings are kept, or a piece of them, and when it begins.
type Recorded struct {
	Service, Release string
	From             time.Time
}

// SaveReadings adds a piece of a release's readings. Pieces are read back in the order of their times, which must differ. It is not fenced: a leader writes its last piece
// when its term has ended, and what is recorded decides nothing.
func (s *Store) SaveReadings(ctx context.Context, piece Recorded, data []byte) error {
	if err := fits(piece.key(), data); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := s.client.Put(ctx, piece.key(), string(data)); err != nil {
		return fmt.Errorf("put %s: %w", piece.key(), err)
	}
	return nil
}

// Readings returns the pieces of a release's readings, oldest first; none if none are kept.
func (s *Store) Readings(ctx context.Context, service, release string) ([][]byte, error) {
	found, err := s.list(ctx, []span{folderSpan(readingsFolder(service) + release + "/")})
	if err != nil {
		return nil, fmt.Errorf("read the readings of %s %s: %w", service, release, err)
	}
	pieces := make([][]byte, len(found.keys))
	for i, kv := range found.keys {
		pieces[i] = kv.Value
	}
	return pieces, nil
}

// RecordedReleases lists the releases of a service whose readings are kept, oldest first.
func (s *Store) RecordedReleases(ctx context.Context, service string) ([]Recorded, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := s.client.Get(ctx, readingsFolder(service), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("list the readings of %s: %w", service, err)
	}
	var found []Recorded
	for _, kv := range answer.Kvs {
		release, at, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), readingsFolder(service)), "/")
		known := slices.ContainsFunc(found, func(r Recorded) bool { return r.Release == release })
		if ms, err := strconv.ParseInt(at, 10, 64); err == nil && !known {
			found = append(found, Recorded{Service: service, Release: release, From: time.UnixMilli(ms)})
		}
	}
	slices.SortFunc(found, func(a, b Recorded) int { return a.From.Compare(b.From) })
	return found, nil
}

// TrimReadings deletes the readings of all but the newest releases of a service.
func (s *Store) TrimReadings(ctx context.Context, service string) error {
	kept, err := s.RecordedReleases(ctx, service)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	for _, old := range kept[:max(0, len(kept)-keptReleases)] {
		if _, err := s.client.Delete(ctx, readingsFolder(service)+old.Release+"/", clientv3.WithPrefix()); err != nil {
			return fmt.Errorf("delete the readings of %s %s: %w", service, old.Release, err)
		}
	}
	return nil
}

func readingsFolder(service string) string { return Prefix + "readings/" + service + "/" }

// key pads the time so that a release's pieces sort by it.
func (r Recorded) key() string {
	return fmt.Sprintf("%s%s/%015d", readingsFolder(r.Service), r.Release, r.From.UnixMilli())
}
