package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Write is one document to put, if its key is still as it was read.
type Write struct {
	Kind  Kind // ServiceDoc or GatewayDoc
	Name  string
	Value []byte
	Mod   int64 // mod revision it was compared with; 0: there was none
}

// Entry is one key as it stands. Mod 0 means that it is not there.
type Entry struct {
	Value  []byte
	Mod    int64
	Create int64
}

// ServiceView is everything about one service at one revision.
type ServiceView struct {
	Name     string
	Revision int64 // of the reading
	Doc      Entry
	Served   Entry
	Pause    Entry
	Order    Entry
	Permits  map[string]Entry // by release
}

// Service reads everything about one service in one transaction. A service that does not exist has no Mod anywhere.
func (s *Store) Service(ctx context.Context, name string) (ServiceView, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	view := ServiceView{Name: name, Permits: map[string]Entry{}}
	singles := []struct {
		kind Kind
		into *Entry
	}{{ServiceDoc, &view.Doc}, {ServedService, &view.Served}, {Pause, &view.Pause}, {Order, &view.Order}}
	reads := []clientv3.Op{clientv3.OpGet(permitKey(name, ""), clientv3.WithPrefix())}
	for _, single := range singles {
		reads = append(reads, clientv3.OpGet(Key(single.kind, name)))
	}
	answer, err := s.client.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return view, fmt.Errorf("read service %s: %w", name, err)
	}
	view.Revision = answer.Header.Revision
	for _, kv := range answer.Responses[0].GetResponseRange().Kvs {
		release := strings.TrimPrefix(string(kv.Key), permitKey(name, ""))
		view.Permits[release] = Entry{Value: kv.Value, Mod: kv.ModRevision, Create: kv.CreateRevision}
	}
	for i, single := range singles {
		for _, kv := range answer.Responses[i+1].GetResponseRange().Kvs {
			*single.into = Entry{Value: kv.Value, Mod: kv.ModRevision, Create: kv.CreateRevision}
		}
	}
	return view, nil
}

// Put writes all documents in one transaction, or none: it fails with ErrStale, and names the keys, when one of them is no longer as it was read.
func (s *Store) Put(ctx context.Context, writes []Write) error {
	if len(writes) > MaxWrites {
		return fmt.Errorf("put %d documents: more than %d do not go into one transaction", len(writes), MaxWrites)
	}
	// Everything is looked at before the first byte is sent: one bad document stops all.
	d := draft{}
	for _, w := range writes {
		if w.Kind != ServiceDoc && w.Kind != GatewayDoc {
			return fmt.Errorf("put %s %s: only documents are put", w.Kind, w.Name)
		}
		if !proper(w.Name) {
			return fmt.Errorf("put %s %q: it is no name", w.Kind, w.Name)
		}
		key := Key(w.Kind, w.Name)
		if err := fits(key, w.Value); err != nil {
			return err
		}
		d.checks = append(d.checks, unchanged(key, w.Mod))
		d.writes = append(d.writes, clientv3.OpPut(key, string(w.Value)))
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := s.client.Txn(ctx).If(d.compares()...).Then(d.writes...).Else(d.reads()...).Commit()
	if err != nil {
		return fmt.Errorf("put documents: %w", err)
	}
	if !answer.Succeeded {
		return fmt.Errorf("put documents: %w", stale(d.checks, answer))
	}
	return nil
}

// stale names every key that is not as it was read.
func stale(checks []check, answer *clientv3.TxnResponse) error {
	var all []error
	for i, c := range checks {
		if create, mod := found(answer, i); !c.met(create, mod) {
			all = append(all, fmt.Errorf("%s %w (%s; it is at revision %d)", c.key, ErrStale, c.expected, mod))
		}
	}
	return errors.Join(all...)
}

// found returns the revisions of the i-th key that a refused transaction read; 0 if it is not there.
func found(answer *clientv3.TxnResponse, i int) (create, mod int64) {
	if kvs := answer.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0].CreateRevision, kvs[0].ModRevision
	}
	return 0, 0
}

// Delete deletes a document, pause or order. Deleting what is not there is no error.
func (s *Store) Delete(ctx context.Context, kind Kind, name string) error {
	switch kind {
	// The rest is the replicas' own: deleting a served copy by hand would only raise an alarm.
	case ServiceDoc, GatewayDoc, Pause, Order:
	default:
		return fmt.Errorf("delete %s %s: operators delete documents, pauses and orders", kind, name)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := s.client.Delete(ctx, Key(kind, name)); err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	return nil
}

// SetPause pauses a service's climb until ClearPause.
func (s *Store) SetPause(ctx context.Context, service string) error {
	return s.put(ctx, place{kind: Pause, name: service}, "paused")
}

// ClearPause ends a pause. Without one it does nothing.
func (s *Store) ClearPause(ctx context.Context, service string) error {
	return s.Delete(ctx, Pause, service)
}

// PutOrder gives an order such as "promote" or "promote green-12". It replaces one that has not been obeyed yet.
func (s *Store) PutOrder(ctx context.Context, service, order string) error {
	return s.put(ctx, place{kind: Order, name: service}, order)
}

// Adopt tells all replicas to accept what is gone as gone, and why.
func (s *Store) Adopt(ctx context.Context, reason string) error {
	return s.put(ctx, place{kind: Adopt}, reason)
}

func (s *Store) put(ctx context.Context, at place, value string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := s.client.Put(ctx, at.key(), value); err != nil {
		return fmt.Errorf("put %s %s: %w", at.kind, at.name, err)
	}
	return nil
}
