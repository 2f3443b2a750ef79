package fleet

import (
	"bytes"
	"errors"
	"time"
)

// known is a large response that came before. One of the same length is compared with it while it comes, so that a fleet that connects to a large world needs no memory for
// what is the same for all.
type known struct {
	raw     []byte
	nonceAt int
	nonce   int // bytes of it
	content *content
}

const (
	largeMessage = 64 << 10
	mostKnown    = 16
)

// know keeps a large response.
func (l *loop) know(body []byte, e envelope, c *content) {
	if before := l.known[len(body)]; len(body) < largeMessage || before != nil && before.content == c {
		return
	}
	if len(l.known) >= mostKnown {
		clear(l.known)
	}
	l.known[len(body)] = &known{raw: bytes.Clone(body), nonceAt: e.at, nonce: len(e.nonce), content: c}
}

// compare goes on with a message that has been equal to a known one so far, and returns what lies behind it. When it differs it becomes a message like any other.
func (l *loop) compare(c *client, b []byte) ([]byte, error) {
	k := c.like
	at, n := len(k.raw)-c.missing, min(c.missing, len(b))
	end, same := at+n, true
	from, to := max(at, k.nonceAt), min(end, k.nonceAt+k.nonce)
	if from < to {
		same = bytes.Equal(b[:from-at], k.raw[at:from]) && bytes.Equal(b[to-at:n], k.raw[to:end])
	} else {
		same = bytes.Equal(b[:n], k.raw[at:end])
	}
	if !same {
		l.room.left -= len(k.raw)
		c.body = append(make([]byte, 0, len(k.raw)), k.raw[:at]...)
		copy(c.body[min(at, k.nonceAt):], c.own)
		c.like = nil
		return b, nil
	}
	if from < to {
		c.own = append(c.own, b[from-at:to-at]...)
	}
	if c.missing -= n; c.missing == 0 {
		c.like = nil
		l.answer(c, k.content, c.own, len(k.raw))
	}
	return b[n:], nil
}

var errNoAnswer = errors.New("no answer to a ping")

// ping sends the pings that are due, and gives up connections whose last one was not answered.
func (l *loop) ping(now time.Time) {
	if now.Before(l.pingsAt) {
		return
	}
	l.pingsAt = now.Add(lookAtPings)
	for _, c := range l.clients {
		if !c.opened || c.waiting || now.Before(c.pingAt) {
			continue
		}
		if c.pinged {
			l.lost(c, errNoAnswer)
			continue
		}
		c.pinged, c.pingAt = true, now.Add(pingTimeout)
		var opaque [pingFrameSize]byte
		l.out = append(frame{length: len(opaque), kind: pingFrame}.append(l.out[:0]), opaque[:]...)
		if err := l.flush(c); err != nil {
			l.lost(c, err)
		}
	}
}
