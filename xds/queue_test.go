package xds

import (
	"slices"
	"testing"
)

// A stream that a sender has when weights are to be taken back, and one that only has more to send, wait again: the first before all others, the second behind them.
func TestAStreamGoesBackWhereItBelongs(t *testing.T) {
	q := newQueue(1)
	urgent, longer, other := &session{node: "urgent"}, &session{node: "longer"}, &session{node: "other"}
	q.add(false, urgent, longer)
	taken := q.take(make([]*session, 0, 2))
	q.add(false, other)
	q.add(true, urgent)
	q.add(false, urgent)
	q.add(false, longer)
	for _, s := range taken {
		if !q.rest(s) {
			t.Errorf("%s rests, though it is to be looked at once more", s.node)
		}
	}
	q.back(longer, urgent)
	if got, want := q.take(make([]*session, 0, 4)), []*session{urgent, other, longer}; !slices.Equal(got, want) {
		t.Errorf("then it is the turn of %v", nodes(got))
	}
	for _, s := range []*session{urgent, longer, other} {
		if q.rest(s) || s.turn != resting {
			t.Errorf("%s does not rest", s.node)
		}
	}
}

// The senders have their shares, however many streams wait.
func TestASenderLeavesTheOthersTheirShare(t *testing.T) {
	q := newQueue(2)
	for range 10 {
		q.add(false, &session{})
	}
	for i, want := range []int{5, 3, 1, 1} {
		if got := len(q.take(make([]*session, 0, together))); got != want {
			t.Errorf("the %dth to take has %d streams, not %d", i+1, got, want)
		}
	}
}

func nodes(streams []*session) (names []string) {
	for _, s := range streams {
		names = append(names, s.node)
	}
	return names
}
