package xds

import (
	"fmt"
	"strconv"

	"google.golang.org/grpc/mem"
)

// message writes a flight's response. Resources are in it as the bytes that all streams share. The caller holds group.mu.
func (s *session) message(f *flight) *frame {
	m, reached, nonce := newFrame(), s.server.published.Load(), [16]byte{}
	var head []byte
	if s.protocol == StateOfTheWorld {
		head = appendHead(nil, fmt.Sprintf("%s/%016x", reached.text, s.addWorld(m, f)), f.t.url)
	} else {
		s.addDelta(m, f)
		shared := reached.head(f.t.url)
		head = append(make([]byte, 0, len(shared)+longestHead+len(nonce)), shared...)
	}
	head = appendText(head, responseNonce, appendNonce(nonce[:0], f.nonce))
	for _, i := range f.items {
		if i.v == nil && s.protocol == Delta {
			head = appendText(head, responseRemoved, i.name)
		}
	}
	m.finish(head)
	return m
}

// appendHead writes how a response begins.
func appendHead(to []byte, version, url string) []byte {
	return appendText(appendText(to, responseVersion, version), responseType, url)
}

// addDelta adds what changed.
func (s *session) addDelta(m *frame, f *flight) {
	if f.beat {
		m.add(f.items[0].v.beatBytes())
		return
	}
	if f.pack != nil {
		m.add(s.watched(s.group.bytes(f.pack, Delta, f.at)))
	}
	for _, i := range f.items {
		if i.v != nil {
			m.add(i.v.encoded(Delta))
		}
	}
}

// addWorld adds what a response of the state of the world holds: of some types all that the stream is to have, of the others what changed. It returns a hash of what
// it added, the same on every replica.
func (s *session) addWorld(m *frame, f *flight) (total uint64) {
	add := func(v *variant) {
		m.add(v.encoded(StateOfTheWorld))
		total += v.digest()
	}
	t := f.t
	switch {
	case !t.full && f.pack == nil:
		for _, i := range f.items {
			if i.v != nil {
				add(i.v)
			}
		}
	case f.pack != nil || t.base != nothing && t.apart.len() == 0:
		p := s.group.pack(s.server.seeds, t)
		if f.pack != nil {
			p = f.pack
		}
		m.add(s.watched(s.group.bytes(p, StateOfTheWorld, f.at)))
		for _, e := range p.plain {
			total += e.full.digest()
		}
	default:
		for _, v := range s.having(t) {
			add(v)
		}
	}
	return total
}

// having lists all that the stream is to have of a type, ordered by name.
func (s *session) having(t *interest) (all []*variant) {
	if t.base != nothing {
		for _, e := range s.group.pack(s.server.seeds, t).plain {
			if t.apart.get(e.Name) == nil {
				all = append(all, e.full)
			}
		}
	}
	for _, name := range t.apart.names() {
		if h := t.apart.get(name); h.sent != nil {
			all = append(all, h.sent)
		}
	}
	return all
}

// digest is the content as a number.
func (v *variant) digest() uint64 {
	n, err := strconv.ParseUint(v.content[:hashLen], 16, 64)
	if err != nil {
		panic(err) // a hash always reads
	}
	return n
}

// watched is a pack's bytes for this stream, which leaves its place when they were written.
func (s *session) watched(pack mem.Buffer) mem.Buffer {
	if pack.Len() <= streamWindow {
		return pack
	}
	bytes := pack.ReadOnlyData()
	return mem.NewBuffer(&bytes, whenFree(func() { s.server.firsts.written(s) }))
}

// whenFree is called when nobody needs bytes any more: they were written, or will not be.
type whenFree func()

// Get is never called.
func (whenFree) Get(int) *[]byte { panic("bytes are only given back") }

// Put gives bytes back.
func (f whenFree) Put(*[]byte) { f() }
