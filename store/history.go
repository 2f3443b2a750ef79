package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	keepLines = 500 // of a service's history
	trimEvery = 50  // lines between two trims: at most so many more than keepLines are there
)

// Line is one decision in a service's history, with its numbers.
type Line struct {
	Revision int64              `json:"revision,omitempty"` // of etcd at which it was written; set by History
	Time     time.Time          `json:"time"`
	Release  string             `json:"release,omitempty"`
	Event    string             `json:"event"`
	Text     string             `json:"text"`
	Phase    string             `json:"phase,omitempty"`
	Weight   int                `json:"weight,omitempty"` // the candidate's, in hundredths of a percent
	Numbers  map[string]float64 `json:"numbers,omitempty"`
}

// History returns the last lines of a service's history, oldest first. A line that cannot be read says so in its text.
func (s *Store) History(ctx context.Context, service string, last int) ([]Line, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	newest := clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)
	limit := clientv3.WithLimit(int64(max(1, min(last, keepLines))))
	answer, err := s.client.Get(ctx, historyFolder(service), clientv3.WithPrefix(), newest, limit)
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", service, err)
	}
	lines := make([]Line, len(answer.Kvs))
	for i, kv := range answer.Kvs {
		lines[i] = lineOf(kv)
	}
	slices.Reverse(lines)
	return lines, nil
}

// LastLines returns the newest line of each service's history that has one, by service, in one transaction: of MaxWrites services at most.
func (s *Store) LastLines(ctx context.Context, services []string) (map[string]Line, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	reads := make([]clientv3.Op, len(services))
	for i, service := range services {
		reads[i] = clientv3.OpGet(historyFolder(service), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(1))
	}
	answer, err := s.client.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return nil, fmt.Errorf("read the history of %d services: %w", len(services), err)
	}
	lines := map[string]Line{}
	for i, service := range services {
		for _, kv := range answer.Responses[i].GetResponseRange().Kvs {
			lines[service] = lineOf(kv)
		}
	}
	return lines, nil
}

// lineOf reads a line; one that cannot be read says so.
func lineOf(kv *mvccpb.KeyValue) Line {
	var line Line
	if err := json.Unmarshal(kv.Value, &line); err != nil {
		line = Line{Event: "unreadable", Text: fmt.Sprintf("%s: %v", kv.Key, err)}
	}
	line.Revision = kv.ModRevision
	return line
}

// trimHistory deletes a service's oldest lines now and then; not at its first line of all. Lines that are left too long do no harm, so a failure is logged only.
func (s *Store) trimHistory(ctx context.Context, service string, first bool) {
	s.mu.Lock()
	count := s.lines[service]
	s.lines[service] = (count + 1) % trimEvery
	s.mu.Unlock()
	// The first line of a process trims too: it does not know how many its predecessors left.
	if count != 0 || first {
		return
	}
	if err := s.deleteOldLines(ctx, service); err != nil {
		s.log.Warn("old lines of the history stay for now", "service", service, "err", err)
	}
}

func (s *Store) deleteOldLines(ctx context.Context, service string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	folder := historyFolder(service)
	newest := clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)
	// The oldest line to keep is found from the newest end, however many there are.
	answer, err := s.client.Get(ctx, folder, clientv3.WithPrefix(), clientv3.WithKeysOnly(), newest, clientv3.WithLimit(keepLines))
	if err != nil || len(answer.Kvs) < keepLines {
		return err
	}
	oldest := string(answer.Kvs[len(answer.Kvs)-1].Key)
	_, err = s.client.Delete(ctx, folder, clientv3.WithRange(oldest))
	return err
}
