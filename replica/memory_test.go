package replica

import "testing"

func TestMemoryIsGivenBackOnceAfterEachStorm(t *testing.T) {
	w := weather{given: -storm}
	for i, at := range []struct {
		connected, pending int
		over               bool
		why                string
	}{
		{0, 0, true, "the start is over"},
		{0, 0, true, "once more"},
		{0, 0, false, "nobody came since"},
		{99, 0, false, "they come"},
		{99, 0, false, "too few to be a storm"},
		{1000, 900, false, "they come"},
		{1000, 101, false, "more than a tenth is still being sent what it asked for"},
		{1000, 100, true, "the storm is over"},
		{1000, 0, true, "once more, for those that were pending"},
		{1000, 0, false, "given back already"},
		{1099, 0, false, "they come"},
		{1099, 0, false, "fewer than a tenth have come"},
		{5000, 0, false, "they come"},
		{5000, 0, true, "the next storm is over"},
		{100, 0, false, "they go, before it was given back once more"},
		{100, 0, true, "all but some have gone"},
	} {
		if got := w.calm(at.connected, func() int { return at.pending }); got != at.over {
			t.Errorf("count %d of %d, %d pending: given back is %v: %s", i, at.connected, at.pending, got, at.why)
		}
	}
}
