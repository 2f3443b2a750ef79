package fleet

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"
)

// loop is one goroutine that owns a part of the clients and waits for all of their connections at once.
type loop struct {
	// Fixed after newLoop.
	fleet *Fleet
	poll  *poller
	seed  maphash.Seed

	mu       sync.Mutex
	commands []func() // guarded by mu: to be done by the loop
	closed   bool     // guarded by mu: nobody does them any more

	// Owned by run.
	clients   []*client
	byFD      map[int]*client
	due       []appointment // to connect, the earliest first
	parked    []*client     // that wait for room
	in, out   []byte        // of the client in hand
	room      room
	contents  map[uint64]*content
	known     map[int]*known // large responses, by length
	pingsAt   time.Time      // when to look for pings that are due
	reactions map[encounter]*reaction
	ended     bool
}

// appointment is when a client connects.
type appointment struct {
	at     time.Time
	client *client
}

// encounter is a state that meets a response.
type encounter struct {
	state   *state
	content *content
}

const (
	usualRead = 16 << 10
	largeRead = 256 << 10
	// remembered bounds how many contents and reactions are kept; those that are met again are found out again.
	remembered = 4096
)

func newLoop(f *Fleet) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &loop{
		fleet: f, poll: p, seed: maphash.MakeSeed(), byFD: map[int]*client{}, in: make([]byte, largeRead), room: newRoom(mostRoom),
		contents: map[uint64]*content{}, known: map[int]*known{}, reactions: map[encounter]*reaction{},
	}, nil
}

// do has the loop do something.
func (l *loop) do(command func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.commands = append(l.commands, command)
		l.poll.wake()
	}
}

// run works until it is told to end.
func (l *loop) run() error {
	defer l.close()
	for !l.ended {
		err := l.poll.wait(l.untilDue(), l.happened)
		if err != nil {
			return err
		}
		l.mu.Lock()
		commands := l.commands
		l.commands = nil
		l.mu.Unlock()
		for _, command := range commands {
			command()
		}
		l.connectDue()
		l.resumeParked()
		l.ping(time.Now())
	}
	return nil
}

func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.poll.close()
}

// happened is called for each connection with something to read, or with room for more.
func (l *loop) happened(fd int, e event) {
	c := l.byFD[fd]
	if c == nil {
		return
	}
	l.out = l.out[:0]
	err := l.handle(c, e)
	if err == nil {
		err = l.flush(c)
	}
	if err != nil {
		l.lost(c, err)
	}
}

func (l *loop) handle(c *client, e event) error {
	if !c.opened {
		if err := connected(c.fd); err != nil {
			return err
		}
		l.begin(c)
		return nil
	}
	if !e.readable || c.waiting {
		return nil
	}
	b := l.in[:usualRead]
	if c.body != nil {
		b = l.in
	}
	n, err := syscall.Read(c.fd, b)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	}
	l.fleet.counts.received.Add(int64(n))
	return l.take(c, b[:n])
}

// resumeParked goes on with clients that waited for room, as long as there is some.
func (l *loop) resumeParked() {
	for len(l.parked) > 0 {
		c := l.parked[0]
		if c.waiting && l.known[messageLength(c.prefix)] == nil && !l.room.fits(messageLength(c.prefix)) {
			return
		}
		l.parked = slices.Delete(l.parked, 0, 1)
		if !c.waiting {
			continue // it was disconnected
		}
		stash := c.stash
		c.waiting, c.stash = false, nil
		c.heard() // it was not listening
		l.out = l.out[:0]
		err := l.take(c, stash)
		if err == nil {
			err = l.flush(c)
		}
		if err != nil {
			l.lost(c, err)
		}
	}
}

// begin opens a client's stream: what it asks is what it has asked before.
func (l *loop) begin(c *client) {
	c.opened, c.pingAt = true, time.Now().Add(untilPing())
	c.state = c.state.back()
	l.out = append(l.out, l.fleet.opening...)
	for _, ask := range c.state.requests() {
		framed := ask.framed
		if framed == nil {
			framed = frameMessage(withNode(ask.body, l.fleet.node, c.id, l.fleet.config.Gateway))
		}
		l.send(c, framed)
	}
	l.fleet.counts.connects.Add(1)
	l.fleet.counts.connected.Add(1)
	if !c.state.isFresh() {
		l.settle(c)
	}
}

// flush writes what there is to be written; what was answered by it counts from then on.
func (l *loop) flush(c *client) error {
	b := l.out
	if len(c.rest) > 0 {
		c.rest = append(c.rest, b...)
		b = c.rest
	}
	if len(b) > 0 {
		n, err := syscall.Write(c.fd, b)
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			return err
		}
		l.fleet.counts.sent.Add(int64(max(n, 0)))
		c.rest = append(c.rest[:0], b[max(n, 0):]...) // what the connection did not take
	}
	if err := l.expect(c, interest{read: !c.waiting, write: len(c.rest) > 0}); err != nil {
		return err
	}
	if len(c.rest)+len(c.queue) > 0 {
		return nil
	}
	for _, mark := range c.marks {
		l.fleet.answered(c.index, mark)
	}
	if len(c.marks) > 0 && !c.settled && c.state.settled() {
		l.settle(c)
	}
	c.marks = c.marks[:0]
	return nil
}

// expect changes what a connection is waited for.
func (l *loop) expect(c *client, i interest) error {
	if i == c.interest {
		return nil
	}
	c.interest = i
	return l.poll.change(c.fd, i)
}

func (l *loop) settle(c *client) {
	c.settled = true
	l.fleet.counts.settle(1)
}

// lost closes a connection and has the client come back.
func (l *loop) lost(c *client, why error) {
	l.drop(c)
	c.losses++
	l.fleet.counts.lost(fmt.Errorf("client %s: %w", c.id, why))
	if !l.fleet.config.Once {
		l.connectAt(c, time.Now().Add(backOff()))
	}
}

// drop closes a connection.
func (l *loop) drop(c *client) {
	if c.fd < 0 {
		return
	}
	delete(l.byFD, c.fd)
	closeSocket(c.fd)
	if c.opened {
		l.fleet.counts.connected.Add(-1)
	}
	if c.settled {
		l.fleet.counts.settle(-1)
	}
	if c.body != nil {
		l.room.left += len(c.body) + c.missing
	}
	c.connectedTo(-1)
}

// connectAt has a client connect later.
func (l *loop) connectAt(c *client, at time.Time) {
	i, _ := slices.BinarySearchFunc(l.due, at, func(a appointment, at time.Time) int { return a.at.Compare(at) })
	l.due = slices.Insert(l.due, i, appointment{at, c})
}

func (l *loop) untilDue() time.Duration {
	until := lookAtPings
	if len(l.due) > 0 {
		until = min(until, time.Until(l.due[0].at))
	}
	return max(0, until)
}

// atOnce bounds how many clients connect between two looks at those that are connected.
const atOnce = 64

func (l *loop) connectDue() {
	for range atOnce {
		if len(l.due) == 0 || time.Until(l.due[0].at) > 0 {
			return
		}
		c := l.due[0].client
		l.due = slices.Delete(l.due, 0, 1)
		if err := l.connect(c); err != nil {
			l.lost(c, err)
		}
	}
}

func (l *loop) connect(c *client) error {
	fd, err := dial(l.fleet.servers[c.losses%len(l.fleet.servers)])
	if err != nil {
		return err
	}
	c.connectedTo(fd)
	c.interest = interest{write: true}
	l.byFD[fd] = c
	return l.poll.add(fd, c.interest)
}

// understood returns what a response says; what was met before is known.
func (l *loop) understood(e envelope, body []byte) (*content, error) {
	if known := l.contents[e.same]; known != nil {
		return known, nil
	}
	if len(l.contents) >= remembered {
		clear(l.contents)
	}
	c, err := understand(body)
	if err == nil {
		l.contents[e.same] = c
	}
	return c, err
}

func (l *loop) reaction(s *state, c *content) *reaction {
	met := encounter{s, c}
	if known := l.reactions[met]; known != nil {
		return known
	}
	if len(l.reactions) >= remembered {
		clear(l.reactions)
	}
	r := s.react(c)
	l.reactions[met] = r
	return r
}

// leave disconnects the clients for good.
func (l *loop) leave() {
	for _, c := range l.clients {
		l.drop(c)
	}
	l.due, l.parked, l.ended = nil, nil, true
}

// cut breaks all connections at once; the clients come back by themselves.
func (l *loop) cut() {
	for _, c := range l.clients {
		if c.fd >= 0 {
			l.lost(c, errCut)
		}
	}
}

var errCut = errors.New("cut off")
