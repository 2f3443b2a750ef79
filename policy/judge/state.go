package judge

import (
	"encoding"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The stored form is: what it is ('e', 'g' or 'l'), version, body, CRC-32 of all before. Whole numbers are varints, so that it stays small in etcd.
const (
	stateVersion   = 2
	stateOfErrors  = 'e'
	stateOfGuard   = 'g'
	stateOfLatency = 'l'
	stateEnvelope  = 2 + crc32.Size
)

var (
	_ encoding.BinaryMarshaler   = (*Errors)(nil)
	_ encoding.BinaryUnmarshaler = (*Errors)(nil)
	_ encoding.TextMarshaler     = (*Errors)(nil)
	_ encoding.TextUnmarshaler   = (*Errors)(nil)

	_ encoding.BinaryMarshaler   = (*Guard)(nil)
	_ encoding.BinaryUnmarshaler = (*Guard)(nil)
	_ encoding.TextMarshaler     = (*Guard)(nil)
	_ encoding.TextUnmarshaler   = (*Guard)(nil)

	errShort  = errors.New("it ends too early")
	errLong   = errors.New("it goes on after its end")
	errValue  = errors.New("a value is out of its range")
	errDamage = errors.New("its checksum does not match")
	errOther  = errors.New("it is not the state of this type and version")
)

// seal puts the envelope around a body.
func seal(kind byte, body func(c codec)) []byte {
	w := writer{buf: []byte{kind, stateVersion}}
	body(&w)
	return binary.LittleEndian.AppendUint32(w.buf, crc32.ChecksumIEEE(w.buf))
}

// open takes the envelope off and reads the body, all of it.
func open(kind byte, data []byte, body func(c codec)) error {
	if len(data) < stateEnvelope {
		return errShort
	}
	if data[0] != kind || data[1] != stateVersion {
		return errOther
	}
	end := len(data) - crc32.Size
	if crc32.ChecksumIEEE(data[:end]) != binary.LittleEndian.Uint32(data[end:]) {
		return errDamage
	}
	r := reader{buf: data[2:end]}
	body(&r)
	if r.err == nil && len(r.buf) > 0 {
		return errLong
	}
	return r.err
}

// MarshalBinary returns the whole state, for another process to go on from. It does not fail.
func (e *Errors) MarshalBinary() ([]byte, error) {
	state := *e
	if state.limit == 0 {
		state.begin(state.settings)
	}
	return seal(stateOfErrors, state.code), nil
}

// UnmarshalBinary takes over what MarshalBinary returned, settings included. Anything else is an error and changes nothing.
func (e *Errors) UnmarshalBinary(data []byte) error {
	var state Errors
	err := open(stateOfErrors, data, state.code)
	if err == nil && !state.valid() {
		err = errValue
	}
	if err != nil {
		return fmt.Errorf("read the state of the errors: %w", err)
	}
	*e = state
	return nil
}

// MarshalText is MarshalBinary in base64, so that the state can stand in JSON.
func (e *Errors) MarshalText() ([]byte, error) {
	data, err := e.MarshalBinary()
	return base64.StdEncoding.AppendEncode(nil, data), err
}

// UnmarshalText takes over what MarshalText returned. Anything else is an error and changes nothing.
func (e *Errors) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("read the state of the errors: %w", err)
	}
	return e.UnmarshalBinary(data)
}

// MarshalBinary returns the whole state, for another process to go on from. It does not fail.
func (g *Guard) MarshalBinary() ([]byte, error) {
	state := *g
	state.Blip = min(max(state.Blip, 0), burstSpan)
	return seal(stateOfGuard, state.code), nil
}

// UnmarshalBinary takes over what MarshalBinary returned. Anything else is an error and changes nothing.
func (g *Guard) UnmarshalBinary(data []byte) error {
	var state Guard
	if err := open(stateOfGuard, data, state.code); err != nil {
		return fmt.Errorf("read the state of the guard rail: %w", err)
	}
	*g = state
	return nil
}

// MarshalText is MarshalBinary in base64, so that the state can stand in JSON.
func (g *Guard) MarshalText() ([]byte, error) {
	data, err := g.MarshalBinary()
	return base64.StdEncoding.AppendEncode(nil, data), err
}

// UnmarshalText takes over what MarshalText returned. Anything else is an error and changes nothing.
func (g *Guard) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("read the state of the guard rail: %w", err)
	}
	return g.UnmarshalBinary(data)
}
