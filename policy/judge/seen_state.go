package judge

import (
	"encoding"
	"encoding/base64"
	"fmt"
)

const (
	stateOfSeen = 's'
	longestName = 1024
)

var (
	_ encoding.BinaryMarshaler   = (*Seen)(nil)
	_ encoding.BinaryUnmarshaler = (*Seen)(nil)
	_ encoding.TextMarshaler     = (*Seen)(nil)
	_ encoding.TextUnmarshaler   = (*Seen)(nil)
)

// MarshalBinary returns the state of the fleet, for another process to go on from; what single proxies were sent is judged anew there. It does not fail.
func (s *Seen) MarshalBinary() ([]byte, error) {
	state := Seen{settings: s.settings, limit: s.limit, fleet: s.fleet, peak: s.peak, blamed: s.blamed}
	if state.limit == 0 {
		state.begin(state.settings.fit())
	}
	return seal(stateOfSeen, state.code), nil
}

// UnmarshalBinary takes over what MarshalBinary returned, settings included. Anything else is an error and changes nothing.
func (s *Seen) UnmarshalBinary(data []byte) error {
	var state Seen
	err := open(stateOfSeen, data, state.code)
	if err == nil && !state.valid() {
		err = errValue
	}
	if err != nil {
		return fmt.Errorf("read the state of share seen: %w", err)
	}
	*s = state
	return nil
}

// MarshalText is MarshalBinary in base64, so that the state can stand in JSON.
func (s *Seen) MarshalText() ([]byte, error) {
	data, err := s.MarshalBinary()
	return base64.StdEncoding.AppendEncode(nil, data), err
}

// UnmarshalText takes over what MarshalText returned. Anything else is an error and changes nothing.
func (s *Seen) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("read the state of share seen: %w", err)
	}
	return s.UnmarshalBinary(data)
}

func (s *Seen) code(c codec) {
	settings := s.settings
	c.number(&settings.Alpha)
	if s.limit == 0 {
		// Reading: what the body does not hold comes from the settings.
		s.begin(settings.fit())
	}
	f := &s.fleet
	for i := range f.bets {
		c.small(&f.bets[i])
	}
	for _, v := range []*float32{&f.rest, &f.expected, &f.got, &f.climb} {
		c.small(v)
	}
	c.number(&s.peak)
	s.now = s.alone()
	codeFlag(c, &s.blamed.sure)
	codeText(c, &s.blamed.proxy)
	c.number(&s.blamed.expected)
	c.number(&s.blamed.got)
}

// valid reports whether a state that was read can have come from turns.
func (s *Seen) valid() bool {
	ok := s.peak >= 1 && s.fleet.rest <= 1 && s.blamed.expected >= 0 && s.blamed.got >= 0
	for _, bet := range s.fleet.bets {
		ok = ok && bet <= richest
	}
	return ok
}

func codeFlag(c codec, flag *bool) {
	v := uint64(0)
	if *flag {
		v = 1
	}
	c.whole(&v, 1)
	*flag = v == 1
}

// codeText stores a name, or as much of it as names may have.
func codeText(c codec, text *string) {
	bytes := []byte(*text)
	n := uint64(min(len(bytes), longestName))
	c.whole(&n, longestName)
	bytes = append(make([]byte, 0, n), bytes[:min(uint64(len(bytes)), n)]...)[:n]
	for i := range bytes {
		v := uint64(bytes[i])
		c.whole(&v, 255)
		bytes[i] = byte(v)
	}
	*text = string(bytes)
}
