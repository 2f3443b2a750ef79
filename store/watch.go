package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	progressEvery = 2 * time.Second // how often etcd is asked how far the watch is
	silentAfter   = 6 * time.Second // a silent watch looks exactly like a healthy one (reliability.md, point 12)
)

var (
	errOtherEtcd = errors.New("this is not the etcd that was followed")
	errSilent    = errors.New("nothing was heard from etcd for too long")
	errEnded     = errors.New("etcd ended the watch")
)

// Change is one key's newest state.
type Change struct {
	Kind    Kind
	Name    string // service or gateway; a Stray's whole key
	Release string // of a permit
	Value   []byte
	Mod     int64 // revision of this change; of a deletion that a relist found, the listing's
	Create  int64 // revision at which the key was created; 0 for a deletion
	Deleted bool
}

// Batch is everything that one etcd revision changed, or a listing.
type Batch struct {
	Revision int64
	Changes  []Change
	Relisted bool // the changes make the follower equal to a listing; deletions are synthesised
	More     bool // more has arrived already: as a rule another batch follows at once
}

// Watch follows the documents, their served copies, permits, pauses, orders, the beat and strays, and calls each with one batch per revision, in order:
// first a listing, then every change after it. A lost connection is taken up where it broke; after a compaction the difference to a new listing is
// delivered. It returns nil when ctx ends and otherwise only each's error, or that another etcd, or an older state of this one, answers now: going on would
// hand out revisions twice.
func (s *Store) Watch(ctx context.Context, each func(Batch) error) error {
	f := &follower{store: s, spans: watchedSpans(), prefix: Prefix, each: each}
	f.wanted = func(k Kind) bool { return k != aside && k != replicaReport }
	return f.run(ctx)
}

// follower keeps one consumer equal to a part of the key space. It is owned by the goroutine that calls run.
type follower struct {
	store  *Store
	spans  []span          // what is listed
	prefix string          // what is watched, by one etcd watch, so that a transaction arrives whole
	wanted func(Kind) bool // what of it is delivered
	each   func(Batch) error

	known    map[string]int64 // mod revision of every key delivered and not deleted; nil before the first listing
	revision int64            // everything up to here has been delivered
	relist   bool             // the watch cannot be taken up again: revisions in between were compacted
	told     error            // what each returned
	lost     bool             // the interruption has been logged
}

func (f *follower) run(ctx context.Context) error {
	again := newDelays(50*time.Millisecond, time.Second)
	for {
		// A listing or a batch that came through ends the series of failures.
		before := f.revision
		err := f.follow(ctx)
		switch {
		case f.told != nil:
			return f.told
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errOtherEtcd):
			return fmt.Errorf("watch %s: %w", f.prefix, err)
		}
		if f.revision > before {
			again.reset()
		}
		if !f.lost {
			f.store.log.Warn("the watch of etcd is interrupted", "rev", f.revision, "err", err)
			f.lost = true
		}
		if !sleep(ctx, again.take()) {
			return nil
		}
	}
}

// follow lists if it must, then watches until something breaks.
func (f *follower) follow(ctx context.Context) error {
	if f.known == nil || f.relist {
		if err := f.list(ctx); err != nil {
			return err
		}
	} else if err := f.check(ctx); err != nil {
		return err
	}
	if f.lost {
		f.store.log.Info("the watch of etcd goes on", "rev", f.revision)
		f.lost = false
	}
	return f.watch(ctx)
}

// check makes sure, by a linearizable read, that this is the etcd that was followed and that it has not gone back: a watch from a revision that does not
// exist yet would wait for it in silence.
func (f *follower) check(ctx context.Context) error {
	call, cancel := bounded(ctx)
	defer cancel()
	answer, err := f.store.client.Get(call, Key(Beat, ""), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if err := f.store.same(answer.Header.ClusterId); err != nil {
		return err
	}
	return f.notBack(answer.Header.Revision)
}

func (f *follower) notBack(revision int64) error {
	if revision < f.revision {
		return fmt.Errorf("%w: it went back from revision %d to %d (restored from a backup?)", errOtherEtcd, f.revision, revision)
	}
	return nil
}

// list delivers the difference between what is known and what is there.
func (f *follower) list(ctx context.Context) error {
	found, err := f.store.list(ctx, f.spans)
	if err != nil {
		return err
	}
	if err := f.notBack(found.revision); err != nil {
		return err
	}
	// A key that is as it was is left out; one that went and came back has another mod revision, so it is in.
	batch := Batch{Revision: found.revision, Relisted: true}
	there := make(map[string]int64, len(found.keys))
	for _, kv := range found.keys {
		there[string(kv.Key)] = kv.ModRevision
		if f.known[string(kv.Key)] != kv.ModRevision {
			batch.Changes = append(batch.Changes, changed(kv))
		}
	}
	for _, key := range sortedKeys(f.known) {
		if _, still := there[key]; !still {
			batch.Changes = append(batch.Changes, deleted(key, found.revision))
		}
	}
	f.known, f.revision, f.relist = there, found.revision, false
	return f.hand(batch)
}

// watch delivers what happens after f.revision.
func (f *follower) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	from := f.revision + 1
	answers := queued(ctx, func() clientv3.WatchChan {
		return f.store.client.Watch(ctx, f.prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	})
	ask := time.NewTicker(progressEvery)
	defer ask.Stop()
	silence := time.NewTimer(silentAfter)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silence.C:
			return errSilent
		case <-ask.C:
			f.askProgress(ctx)
		case answer, open := <-answers:
			if !open {
				return errEnded
			}
			silence.Reset(silentAfter)
			if err := f.take(answer, len(answers) > 0); err != nil {
				return err
			}
		}
	}
}

// queueSize is how many answers of a watch are taken from the client before they are looked at. It only has to tell one from many.
const queueSize = 64

// queued takes answers as they come, so that it can be seen whether more of them are there. To begin a watch may take for ever, too: that is no less a silence.
func queued(ctx context.Context, watch func() clientv3.WatchChan) <-chan clientv3.WatchResponse {
	to := make(chan clientv3.WatchResponse, queueSize)
	go func() {
		defer close(to)
		for answer := range watch() {
			select {
			case to <- answer:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}

// askProgress makes etcd say how far the watch is. It does not wait for a stream that is being opened anew: silence is noticed by its own timer.
func (f *follower) askProgress(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_ = f.store.client.RequestProgress(short)
}

// take delivers one answer of the watch: none, one or many revisions, each whole. More says that another answer is there.
func (f *follower) take(answer clientv3.WatchResponse, more bool) error {
	if answer.CompactRevision != 0 {
		f.relist = true
	}
	if err := answer.Err(); err != nil {
		return err
	}
	if err := f.store.same(answer.Header.ClusterId); err != nil {
		return err
	}
	if err := f.notBack(answer.Header.Revision); err != nil {
		return err
	}
	for events := answer.Events; len(events) > 0; {
		revision := events[0].Kv.ModRevision
		end := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != revision })
		if end < 0 {
			end = len(events)
		}
		batch := Batch{Revision: revision, More: more || end < len(events)}
		if err := f.takeRevision(batch, events[:end]); err != nil {
			return err
		}
		events = events[end:]
	}
	// A progress notification only proves that etcd lives. What has been delivered is counted by deliveries alone: etcd servers have been seen to announce
	// revisions ahead of their events (reliability.md, 1.1).
	return nil
}

func (f *follower) takeRevision(batch Batch, events []*clientv3.Event) error {
	revision := batch.Revision
	if revision <= f.revision {
		// etcd promises not to repeat itself; what has been delivered is not delivered again in any case.
		return nil
	}
	for _, event := range events {
		key := string(event.Kv.Key)
		if !f.wanted(parse(key).kind) {
			continue
		}
		if event.Type == mvccpb.Event_DELETE {
			delete(f.known, key)
			batch.Changes = append(batch.Changes, deleted(key, revision))
			continue
		}
		f.known[key] = revision
		batch.Changes = append(batch.Changes, changed(event.Kv))
	}
	f.revision = revision
	return f.hand(batch)
}

// hand calls the consumer. The first listing is handed over even when it is empty: it says that there is nothing.
func (f *follower) hand(batch Batch) error {
	if len(batch.Changes) == 0 && !batch.Relisted {
		return nil
	}
	f.told = f.each(batch)
	return f.told
}

func changed(kv *mvccpb.KeyValue) Change {
	at := parse(string(kv.Key))
	return Change{Kind: at.kind, Name: at.name, Release: at.release, Value: kv.Value, Mod: kv.ModRevision, Create: kv.CreateRevision}
}

func deleted(key string, revision int64) Change {
	at := parse(key)
	return Change{Kind: at.kind, Name: at.name, Release: at.release, Mod: revision, Deleted: true}
}

func sortedKeys(m map[string]int64) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
