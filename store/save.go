package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// settleTimeout is how long a save of unknown outcome is looked into.
const settleTimeout = time.Second

// Seen is the mod revisions of what a save was decided on; 0 means that the key was absent.
type Seen struct {
	Served, Wish int64
	Pause, Order int64 // of services only
}

// newest is the revision a save compared: no two saves of a service that succeed have the same, and it rises.
func (s Seen) newest() int64 { return max(s.Served, s.Wish, s.Pause, s.Order) }

// Save is one decision about one service or gateway, written in one transaction or not at all.
type Save struct {
	Kind  Kind // ServedService or ServedGateway
	Name  string
	Value any // becomes JSON; nil deletes the served key
	Seen  Seen

	// AnyWish saves although the document may have changed since: one that changes faster than it can be decided about would never be accepted.
	AnyWish bool

	NeedPermit   string // release whose permit must exist; "" is none
	CreatePermit string // release whose permit is created; it must not exist
	DeletePermit string // release whose permit is deleted, if it is there
	DropOrder    bool
	Evidence     []byte // nil leaves it as it is
	History      *Line  // services only
}

// Save writes a leader's decision and returns the revision that carries it. It fails with ErrNotLeader when l no longer leads, and with ErrStale when
// something the decision was made on has changed. After any other error nothing has been saved as far as could be found out; should the write come through
// after all, the next save is stale.
func (s *Store) Save(ctx context.Context, l *Leadership, save Save) (int64, error) {
	return s.SaveAll(ctx, l, []Save{save})
}

// MaxSaves is how many decisions SaveAll takes: etcd allows 128 comparisons and as many writes in a transaction, and a decision has four and up to five.
const MaxSaves = 24

// SaveAll writes several decisions, each about another service or gateway, in one transaction or not at all, as Save does.
func (s *Store) SaveAll(ctx context.Context, l *Leadership, saves []Save) (int64, error) {
	what := fmt.Sprintf("save %d decisions", len(saves))
	if len(saves) == 1 {
		what = fmt.Sprintf("save %s %s", saves[0].Kind, saves[0].Name)
	}
	// By its own clock a leader steps down before etcd would let another one in.
	if l.ended() {
		return 0, fmt.Errorf("%s: %w", what, ErrNotLeader)
	}
	all := draft{checks: []check{fence(l)}}
	for _, save := range saves {
		one, err := draftOf(save)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
		all.add(one)
	}
	revision, err := s.commit(ctx, all, l)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	for _, save := range saves {
		if save.History != nil {
			s.trimHistory(ctx, save.Name, save.Seen.Served == 0)
		}
	}
	return revision, nil
}

// commit carries a transaction out.
func (s *Store) commit(ctx context.Context, d draft, l *Leadership) (int64, error) {
	call, cancel := bounded(ctx)
	defer cancel()
	answer, err := s.client.Txn(call).If(d.compares()...).Then(d.writes...).Else(d.reads()...).Commit()
	switch {
	case err != nil:
		revision, done := s.settle(ctx, d, err)
		if !done {
			return 0, err
		}
		return revision, nil
	case !answer.Succeeded:
		return 0, d.refusal(answer, l)
	}
	return answer.Header.Revision, nil
}

// add puts another decision into the transaction. Whether it took place is told by the first one's key.
func (d *draft) add(one draft) {
	if d.served == "" {
		d.served, d.seen, d.value = one.served, one.seen, one.value
	}
	d.checks = append(d.checks, one.checks...)
	d.writes = append(d.writes, one.writes...)
}

// draft is a fenced transaction before it is sent.
type draft struct {
	served string // the key it is about
	seen   int64  // the mod revision that key had
	value  []byte // nil: it is deleted
	checks []check
	writes []clientv3.Op
}

// check is one thing that must be as it was read.
type check struct {
	key      string
	compare  clientv3.Cmp
	met      func(create, mod int64) bool // the same comparison, on what etcd returns when it refuses
	expected string                       // in words, for the error
}

func unchanged(key string, mod int64) check {
	expected := fmt.Sprintf("decided on revision %d of it", mod)
	if mod == 0 {
		expected = "decided without it"
	}
	return check{
		key: key, compare: clientv3.Compare(clientv3.ModRevision(key), "=", mod), expected: expected,
		met: func(_, found int64) bool { return found == mod },
	}
}

func created(key string, revision int64, expected string) check {
	return check{
		key: key, compare: clientv3.Compare(clientv3.CreateRevision(key), "=", revision), expected: expected,
		met: func(found, _ int64) bool { return found == revision },
	}
}

func absent(key string) check { return created(key, 0, "it must not exist") }

func exists(key string) check {
	return check{
		key: key, compare: clientv3.Compare(clientv3.CreateRevision(key), ">", 0), expected: "it must exist",
		met: func(found, _ int64) bool { return found > 0 },
	}
}

// fence is true for as long as nobody else can have been elected.
func fence(l *Leadership) check { return created(l.key, l.revision, "elected") }

func draftOf(save Save) (draft, error) {
	d := draft{served: Key(save.Kind, save.Name), seen: save.Seen.Served}
	// A decision takes part in a race with operators: whatever they touched since it was read makes it void.
	wish := Key(ServiceDoc, save.Name)
	switch save.Kind {
	case ServedService:
	case ServedGateway:
		wish = Key(GatewayDoc, save.Name)
	default:
		return d, fmt.Errorf("a %s is not saved", save.Kind)
	}
	d.checks = []check{unchanged(d.served, save.Seen.Served)}
	if !save.AnyWish {
		d.checks = append(d.checks, unchanged(wish, save.Seen.Wish))
	}
	if save.Kind == ServedService {
		d.checks = append(d.checks, unchanged(Key(Pause, save.Name), save.Seen.Pause), unchanged(Key(Order, save.Name), save.Seen.Order))
	}
	if err := d.serve(save.Value); err != nil {
		return d, err
	}
	d.permits(save)
	return d, d.records(save)
}

// serve adds what becomes of the served key.
func (d *draft) serve(value any) error {
	if value == nil {
		d.writes = append(d.writes, clientv3.OpDelete(d.served))
		return nil
	}
	var err error
	if d.value, err = json.Marshal(value); err != nil {
		return err
	}
	if string(d.value) == "null" {
		// A typed nil pointer is a slip, not a wish to stop serving.
		return errors.New("its value is null")
	}
	d.writes = append(d.writes, clientv3.OpPut(d.served, string(d.value)))
	return fits(d.served, d.value)
}

func (d *draft) permits(save Save) {
	if save.NeedPermit != "" {
		d.checks = append(d.checks, exists(permitKey(save.Name, save.NeedPermit)))
	}
	if save.CreatePermit != "" {
		key := permitKey(save.Name, save.CreatePermit)
		d.checks = append(d.checks, absent(key))
		d.writes = append(d.writes, clientv3.OpPut(key, "{}"))
	}
	if save.DeletePermit != "" {
		d.writes = append(d.writes, clientv3.OpDelete(permitKey(save.Name, save.DeletePermit)))
	}
}

// records adds what goes with the decision: the order it obeyed, the evidence, a line of history.
func (d *draft) records(save Save) error {
	if save.DropOrder {
		d.writes = append(d.writes, clientv3.OpDelete(Key(Order, save.Name)))
	}
	if save.Evidence != nil {
		key := evidenceKey(save.Name)
		if err := fits(key, save.Evidence); err != nil {
			return err
		}
		d.writes = append(d.writes, clientv3.OpPut(key, string(save.Evidence)))
	}
	if save.History == nil {
		return nil
	}
	if save.Kind != ServedService {
		return errors.New("only services have a history")
	}
	line, err := json.Marshal(save.History)
	if err != nil {
		return err
	}
	// The revision of this save is not known yet; the one it compared is as good a name.
	key := historyKey(save.Name, save.Seen.newest())
	d.writes = append(d.writes, clientv3.OpPut(key, string(line)))
	return fits(key, line)
}

func (d draft) compares() []clientv3.Cmp {
	compares := make([]clientv3.Cmp, len(d.checks))
	for i, c := range d.checks {
		compares[i] = c.compare
	}
	return compares
}

// reads fetches, when the transaction is refused, what the keys are at, to say which of them was not as expected.
func (d draft) reads() []clientv3.Op {
	reads := make([]clientv3.Op, len(d.checks))
	for i, c := range d.checks {
		reads[i] = clientv3.OpGet(c.key, clientv3.WithKeysOnly())
	}
	return reads
}

// refusal says why the transaction was not carried out. A leader that was fenced off is told so through its leadership too.
func (d draft) refusal(answer *clientv3.TxnResponse, l *Leadership) error {
	for i, c := range d.checks {
		if create, mod := found(answer, i); c.key == l.key && !c.met(create, mod) {
			l.end()
			return ErrNotLeader
		}
	}
	return stale(d.checks, answer)
}

// settle finds out whether a transaction took place whose answer did not come. The value of a decision contains its times, so no other one is equal.
func (s *Store) settle(ctx context.Context, d draft, cause error) (int64, bool) {
	if errors.Is(cause, rpctypes.ErrNoSpace) || errors.Is(cause, rpctypes.ErrRequestTooLarge) {
		return 0, false
	}
	// The caller's context may be what ended the call.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	answer, err := s.client.Get(ctx, d.served)
	if err != nil {
		return 0, false
	}
	if len(answer.Kvs) == 0 {
		return answer.Header.Revision, d.value == nil && d.seen != 0
	}
	found := answer.Kvs[0]
	return found.ModRevision, d.value != nil && found.ModRevision > d.seen && bytes.Equal(found.Value, d.value)
}

// fits refuses a value that is too long before etcd or a reader does.
func fits(key string, value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("%s: %d bytes are more than the %d that a value may have", key, len(value), MaxValue)
	}
	return nil
}
