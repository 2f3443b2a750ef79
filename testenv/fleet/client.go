package fleet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/net/http2/hpack"
)

// client is one Envoy: its connection, its stream, and what it was sent. Its loop owns it.
type client struct {
	index int
	id    string
	state *state
	fd    int // -1: it has no connection

	losses int       // of streams
	alive  time.Time // until when its layers with a TTL live, if nothing renews them; zero: it has none

	// What follows is of the connection.
	opened   bool     // the connection is there
	interest interest // what it is waited for
	settled  bool
	nonce    []byte     // of the answer that it owes
	marks    []*content // answered, once all that waits to be written is
	headers  *hpack.Decoder
	pingAt   time.Time // when to send a ping, or to give up the connection for want of an answer to the last
	pinged   bool

	// Sending.
	queue         []message // what the windows did not allow yet
	rest          []byte    // what the connection did not take yet
	window        int       // of the connection
	streamWindow  int
	initialWindow int

	// Receiving.
	begun   []byte // of a frame's header, or of a frame that is no DATA
	frame   frame
	left    int    // bytes of the frame's payload that have not come
	prefix  []byte // of a message's length
	body    []byte // of a message that comes in pieces
	missing int    // bytes of it that have not come
	like    *known // what the message has been equal to so far; there is no body then
	own     []byte // its own nonce
	waiting bool   // there is no room for such a message yet
	stash   []byte // what came behind its beginning
	unsaid  int    // bytes read since the last WINDOW_UPDATE
}

// connectedTo forgets what was of another connection.
func (c *client) connectedTo(fd int) {
	*c = client{
		index: c.index, id: c.id, state: c.state, losses: c.losses, alive: c.alive, fd: fd, headers: hpack.NewDecoder(4096, nil), queue: c.queue[:0], marks: c.marks[:0],
		window: firstWindow, streamWindow: firstWindow, initialWindow: firstWindow, begun: c.begun[:0], prefix: c.prefix[:0],
	}
}

var errEnded = errors.New("the server ended the stream")

// take reads what has come. What lies behind a message that there is no room for is kept.
func (l *loop) take(c *client, b []byte) error {
	for len(b) > 0 {
		if c.left == 0 {
			if b = c.takeHeader(b); len(c.begun) > 0 {
				return nil
			}
			if err := l.whole(c); err != nil {
				return err
			}
			continue
		}
		n := min(c.left, len(b))
		if c.frame.kind == dataFrame {
			used, err := l.takeMessages(c, b[:n])
			if err != nil {
				return err
			}
			c.left, b = c.left-used, b[used:]
			if c.waiting {
				c.stash = slices.Clone(b)
				l.parked = append(l.parked, c)
				return nil
			}
			continue
		}
		c.begun, b, c.left = append(c.begun, b[:n]...), b[n:], c.left-n
		if c.left > 0 {
			return nil
		}
		payload := c.begun
		c.begun = c.begun[:0]
		if err := l.control(c, payload); err != nil {
			return err
		}
	}
	return nil
}

// takeHeader reads a frame's header, which may come in pieces: begun is empty when it is whole.
func (c *client) takeHeader(b []byte) []byte {
	if len(c.begun) == 0 && len(b) >= frameHeader {
		c.frame = readFrame(b)
		c.left = c.frame.length
		return b[frameHeader:]
	}
	n := min(frameHeader-len(c.begun), len(b))
	c.begun = append(c.begun, b[:n]...)
	if len(c.begun) == frameHeader {
		c.frame = readFrame(c.begun)
		c.left, c.begun = c.frame.length, c.begun[:0]
	}
	return b[n:]
}

// whole looks at a frame whose header has come.
func (l *loop) whole(c *client) error {
	c.heard()
	switch {
	case c.frame.kind != dataFrame && c.left == 0:
		return l.control(c, nil)
	case c.frame.kind != dataFrame:
		return nil
	case c.frame.flags&flagPadded != 0 || c.frame.stream != onlyStream:
		return fmt.Errorf("a DATA frame with flags %#x on stream %d: a gRPC server sends none", c.frame.flags, c.frame.stream)
	}
	l.read(c, c.frame.length)
	if c.frame.flags&flagEndStream != 0 {
		return errEnded
	}
	return nil
}

// read counts what was read, and says so to the server when half of the window is used up.
func (l *loop) read(c *client, n int) {
	if c.unsaid += n; c.unsaid < streamWindow/2 {
		return
	}
	l.out = appendWindow(l.out, 0, c.unsaid)
	l.out = appendWindow(l.out, onlyStream, c.unsaid)
	c.unsaid = 0
}

// takeMessages reads messages, and returns how many bytes it used: all, unless there is no room.
func (l *loop) takeMessages(c *client, b []byte) (used int, err error) {
	all := len(b)
	for len(b) > 0 {
		switch {
		case c.like != nil:
			b, err = l.compare(c, b)
		case c.body != nil:
			n := min(c.missing, len(b))
			c.body, b, c.missing = append(c.body, b[:n]...), b[n:], c.missing-n
			if c.missing > 0 {
				continue
			}
			err = l.respond(c, c.body)
			l.room.give(c.body)
			c.body = nil
		case len(c.prefix) == 0 && len(b) >= messagePrefix && len(b)-messagePrefix >= messageLength(b):
			end := messagePrefix + messageLength(b)
			err = l.respond(c, b[messagePrefix:end])
			b = b[end:]
		case len(c.prefix) < messagePrefix:
			n := min(messagePrefix-len(c.prefix), len(b))
			c.prefix, b = append(c.prefix, b[:n]...), b[n:]
			if len(c.prefix) == messagePrefix && messageLength(c.prefix) == 0 {
				err = l.respond(c, nil)
				c.prefix = c.prefix[:0]
			}
		default:
			err = l.beginMessage(c)
			if c.waiting {
				return all - len(b), nil
			}
		}
		if err != nil {
			return 0, err
		}
	}
	return all, nil
}

// beginMessage makes ready for a message that comes in pieces. When there is no room for it, the client has to wait.
func (l *loop) beginMessage(c *client) error {
	if c.missing = messageLength(c.prefix); c.missing > mostMessage {
		return fmt.Errorf("a message of %d bytes; at most %d are read", c.missing, mostMessage)
	}
	if c.like = l.known[c.missing]; c.like != nil {
		c.own = c.own[:0]
	} else if c.body = l.room.take(c.missing); c.body == nil {
		c.waiting = true
		return nil
	}
	c.prefix = c.prefix[:0]
	return nil
}

func messageLength(prefix []byte) int { return int(binary.BigEndian.Uint32(prefix[1:messagePrefix])) }

// control acts on a frame that carries no message.
func (l *loop) control(c *client, payload []byte) error {
	f := c.frame
	switch f.kind {
	case settingsFrame:
		if f.flags&flagAck == 0 {
			c.settings(payload)
			l.out = frame{kind: settingsFrame, flags: flagAck}.append(l.out)
			l.sendQueued(c)
		}
	case pingFrame:
		if f.flags&flagAck != 0 {
			c.pinged, c.pingAt = false, time.Now().Add(untilPing())
		} else {
			l.out = append(frame{length: len(payload), kind: pingFrame, flags: flagAck}.append(l.out), payload...)
		}
	case windowFrame:
		if len(payload) != 4 {
			return fmt.Errorf("a WINDOW_UPDATE of %d bytes", len(payload))
		}
		more := int(binary.BigEndian.Uint32(payload) & (1<<31 - 1))
		if f.stream == 0 {
			c.window += more
		} else {
			c.streamWindow += more
		}
		l.sendQueued(c)
	case headersFrame, continuationFrame:
		return c.takeHeaders(payload)
	case resetFrame:
		return errEnded
	case goAwayFrame:
		// Envoy opens no more streams on such a connection and goes on with the one it has, until the server ends it.
		l.fleet.counts.goAways.Add(1)
	}
	return nil
}

func (c *client) settings(payload []byte) {
	for ; len(payload) >= 6; payload = payload[6:] {
		if binary.BigEndian.Uint16(payload) == settingInitialWindow {
			size := int(binary.BigEndian.Uint32(payload[2:]))
			c.streamWindow += size - c.initialWindow
			c.initialWindow = size
		}
	}
}

// takeHeaders reads the response's headers, or the trailers, which say why the server ended the stream.
func (c *client) takeHeaders(payload []byte) error {
	if c.frame.flags&(flagPadded|flagPriority) != 0 && c.frame.kind == headersFrame {
		return fmt.Errorf("a HEADERS frame with flags %#x: a gRPC server sends none", c.frame.flags)
	}
	var why string
	c.headers.SetEmitFunc(func(field hpack.HeaderField) {
		switch field.Name {
		case "grpc-status":
			why = "status " + field.Value + why
		case "grpc-message":
			why += ": " + field.Value
		}
	})
	if _, err := c.headers.Write(payload); err != nil {
		return fmt.Errorf("read headers: %w", err)
	}
	if c.frame.kind == headersFrame && c.frame.flags&flagEndStream != 0 {
		return fmt.Errorf("%w: %s", errEnded, why)
	}
	return nil
}

// respond does about a response what Envoy does.
func (l *loop) respond(c *client, body []byte) error {
	e, err := open(l.seed, body)
	if err != nil {
		return err
	}
	content, err := l.understood(e, body)
	if err != nil {
		return err
	}
	l.know(body, e, content)
	l.answer(c, content, e.nonce, len(body))
	return nil
}

// answer reacts to a response of so many bytes.
func (l *loop) answer(c *client, content *content, nonce []byte, size int) {
	l.fleet.counts.response(content, size)
	c.renew(&l.fleet.counts, content)
	r := l.reaction(c.state, content)
	if r.releases {
		l.sendAck(c, Clusters, c.nonce)
	}
	for _, ask := range r.asks {
		l.send(c, ask)
	}
	if r.holds {
		c.nonce = append(c.nonce[:0], nonce...)
	} else {
		l.sendAck(c, content.typeURL, nonce)
	}
	c.state = r.to
	c.marks = append(c.marks, content)
}

// renew sets the dead-man's clock anew when a response does, and counts a clock that had run out before.
func (c *client) renew(counts *counts, content *content) {
	if content.ttl == 0 {
		return
	}
	now := time.Now()
	if !c.alive.IsZero() && now.After(c.alive) {
		counts.expired.Add(1)
	}
	c.alive = now.Add(content.ttl)
}

// send hands a message over, or lets it wait behind those that the windows do not allow yet.
func (l *loop) send(c *client, m message) {
	if len(c.queue) > 0 || c.room() < len(m)-frameHeader || len(m) > frameHeader+maxFrame {
		c.queue = append(c.queue, m)
		l.sendQueued(c)
		return
	}
	c.spend(len(m) - frameHeader)
	l.out = append(l.out, m...)
}

// heard puts off giving up the connection: an Envoy that waits for the answer to a ping takes any frame for a sign of life (KeepaliveSettings.timeout).
func (c *client) heard() {
	if c.pinged {
		c.pingAt = time.Now().Add(pingTimeout)
	}
}

func (l *loop) sendAck(c *client, typeURL string, nonce []byte) {
	l.fleet.counts.acks.Add(1)
	at := len(l.out)
	l.out = appendAck(l.out, typeURL, nonce)
	if size := len(l.out) - at - frameHeader; len(c.queue) == 0 && c.room() >= size {
		c.spend(size)
		return
	}
	c.queue = append(c.queue, slices.Clone(l.out[at:]))
	l.out = l.out[:at]
}

// room is how much the server lets a client send.
func (c *client) room() int { return min(c.window, c.streamWindow) }

func (c *client) spend(n int) { c.window, c.streamWindow = c.window-n, c.streamWindow-n }

// sendQueued hands over the frames that the windows allow by now.
func (l *loop) sendQueued(c *client) {
	for len(c.queue) > 0 {
		m := c.queue[0]
		for len(m) > 0 {
			size := readFrame(m).length
			if c.room() < size {
				c.queue[0] = m
				return
			}
			c.spend(size)
			l.out = append(l.out, m[:frameHeader+size]...)
			m = m[frameHeader+size:]
		}
		c.queue = slices.Delete(c.queue, 0, 1)
	}
}

// What the bootstrap says of a connection that broke, and of one that may have.
const (
	backOffLeast  = 100 * time.Millisecond
	backOffMost   = 500 * time.Millisecond
	pingEvery     = 10 * time.Second
	pingTimeout   = 10 * time.Second
	pingJitter    = pingEvery * 15 / 100 // Envoy's default
	lookAtPings   = 250 * time.Millisecond
	pingFrameSize = 8
)

func backOff() time.Duration { return backOffLeast + rand.N(backOffMost-backOffLeast) }

func untilPing() time.Duration { return pingEvery + rand.N(pingJitter) }
