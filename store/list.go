package store

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pageSize is how many keys one range request of a listing returns. With values of the allowed size a page stays a few megabytes at worst.
const pageSize = 500

// listing is everything in some ranges of keys at one revision.
type listing struct {
	revision int64
	keys     []*mvccpb.KeyValue
}

// list reads the spans page by page, all at the revision of the first page. A compaction in between makes it fail; the caller begins again.
func (s *Store) list(ctx context.Context, spans []span) (listing, error) {
	var all listing
	for _, part := range spans {
		if err := s.listSpan(ctx, part, &all); err != nil {
			return listing{}, err
		}
	}
	return all, nil
}

func (s *Store) listSpan(ctx context.Context, part span, all *listing) error {
	for from, more := part.from, true; more; {
		call, cancel := bounded(ctx)
		page, err := s.client.Get(call, from, clientv3.WithRange(part.end), clientv3.WithLimit(pageSize), clientv3.WithRev(all.revision))
		cancel()
		if err != nil {
			return fmt.Errorf("list %s: %w", part.from, err)
		}
		if err := s.same(page.Header.ClusterId); err != nil {
			return err
		}
		// The first page is read at the newest revision and pins the rest to it.
		if all.revision == 0 {
			all.revision = page.Header.Revision
		}
		all.keys = append(all.keys, page.Kvs...)
		more = page.More
		if more {
			from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		}
	}
	return nil
}

// same fails when another cluster answers than the one this store met first: its revisions and its keys mean something else.
func (s *Store) same(cluster uint64) error {
	if cluster != s.cluster {
		return fmt.Errorf("%w: etcd at %s is cluster %016x now, it was %s", errOtherEtcd, s.where(), cluster, s.ClusterID())
	}
	return nil
}

// Read returns one consistent listing of everything that is watched.
func (s *Store) Read(ctx context.Context) (Batch, error) {
	found, err := s.list(ctx, watchedSpans())
	if err != nil {
		return Batch{}, fmt.Errorf("read etcd: %w", err)
	}
	batch := Batch{Revision: found.revision, Relisted: true}
	for _, kv := range found.keys {
		batch.Changes = append(batch.Changes, changed(kv))
	}
	return batch, nil
}
