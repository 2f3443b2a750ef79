package judge

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"time"
)

var (
	_ encoding.BinaryMarshaler   = (*Latency)(nil)
	_ encoding.BinaryUnmarshaler = (*Latency)(nil)
	_ encoding.TextMarshaler     = (*Latency)(nil)
	_ encoding.TextUnmarshaler   = (*Latency)(nil)
)

// MarshalBinary returns the whole state, for another process to go on from. It does not fail.
func (l *Latency) MarshalBinary() ([]byte, error) {
	state := *l
	state.ready()
	return seal(stateOfLatency, state.code), nil
}

// UnmarshalBinary takes over what MarshalBinary returned, settings included. Anything else is an error and changes nothing.
func (l *Latency) UnmarshalBinary(data []byte) error {
	var state Latency
	err := open(stateOfLatency, data, state.code)
	if err == nil && !state.valid() {
		err = errValue
	}
	if err != nil {
		return fmt.Errorf("read the state of the latency: %w", err)
	}
	*l = state
	return nil
}

// MarshalText is MarshalBinary in base64, so that the state can stand in JSON.
func (l *Latency) MarshalText() ([]byte, error) {
	data, err := l.MarshalBinary()
	return base64.StdEncoding.AppendEncode(nil, data), err
}

// UnmarshalText takes over what MarshalText returned. Anything else is an error and changes nothing.
func (l *Latency) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("read the state of the latency: %w", err)
	}
	return l.UnmarshalBinary(data)
}

func (l *Latency) code(c codec) {
	c.number(&l.settings.Alpha)
	c.number(&l.settings.Ratio)
	codeTime(c, &l.settings.Limit, time.Hour)
	if l.limit == 0 {
		// Reading: what the body does not hold comes from the settings.
		l.begin(l.settings.fit())
	}
	n := uint64(l.n)
	c.whole(&n, aims)
	l.n = int(n)
	for i := range l.n {
		l.aims[i].code(c)
	}
	if l.settings.Limit > 0 {
		l.ceiling.code(c)
	}
	c.whole(&l.next, mostEver)
	c.number(&l.now)
	c.number(&l.peak)
	l.codeFlags(c)
	l.usual.code(c)
	codeTime(c, &l.idle, mostIdle)
	codeTime(c, &l.waited, mostIdle)
	l.all.code(c)
	l.step.code(c)
	l.recent.code(c)
}

// codeFlags stores what is a word or a yes as a small number.
func (l *Latency) codeFlags(c codec) {
	words := [...]string{"", byLatency, byP99}
	flags := uint64(0)
	for i, word := range words {
		if l.by == word {
			flags = uint64(i)
		}
	}
	if l.fixed {
		flags += uint64(len(words))
	}
	c.whole(&flags, uint64(2*len(words)-1))
	l.by = words[flags%uint64(len(words))]
	l.fixed = flags >= uint64(len(words))
}

func (a *aim) code(c codec) {
	for _, bound := range []*int{&a.live, &a.candidate} {
		v := uint64(*bound)
		c.whole(&v, Buckets-2)
		*bound = int(v)
	}
	for i := range a.bets.wealth {
		c.number(&a.bets.wealth[i])
	}
	c.number(&a.bets.rest)
	c.number(&a.bets.now)
	c.number(&a.bets.peak)
	a.noise.short.trials, a.noise.long.trials = true, true
	a.noise.code(c)
	c.number(&a.terms.usual)
	c.number(&a.terms.phi)
	codeArms(c, &a.waiting, mostEver)
}

func (t *times) code(c codec) {
	t.live.code(c)
	t.candidate.code(c)
}

func (l *lately) code(c codec) {
	for i := range l.slots {
		l.slots[i].code(c)
	}
	newest := uint64(l.newest)
	c.whole(&newest, lateSlots-1)
	l.newest = int(newest)
	codeTime(c, &l.filled, lateSlot)
}

// code stores the buckets from the first that is not empty to the last.
func (h *Histogram) code(c codec) {
	first, end := uint64(0), uint64(Buckets)
	for first < end && h[first] == 0 {
		first++
	}
	for end > first && h[end-1] == 0 {
		end--
	}
	c.whole(&first, Buckets)
	c.whole(&end, Buckets)
	for i := first; i < end; i++ {
		c.whole(&h[i], mostEver)
	}
}

// valid reports whether a state that was read can have come from turns: nothing in it may turn into something that is not a number later.
func (l *Latency) valid() bool {
	// What waits, waits at all thresholds.
	ok := l.peak >= l.now && l.peak >= 0 && l.peak <= mostNoise && l.now >= never
	for i := range l.n {
		ok = ok && l.aims[i].valid() && l.aims[i].waiting.finished() == l.waiting()
	}
	return ok && (l.settings.Limit == 0 || l.ceiling.valid())
}

func (a *aim) valid() bool {
	if a.waiting.finished() > 0 && !(a.terms.usual > 0 && a.terms.usual < 1 && a.terms.phi >= 1 && a.terms.phi <= phiMost) {
		return false
	}
	return a.noise.valid() && wealthy(a.bets.wealth[:], a.bets.rest) && a.bets.peak >= 0 && a.bets.peak >= a.bets.now && a.bets.peak <= mostNoise
}
