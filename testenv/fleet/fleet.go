package fleet

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says what a fleet is.
type Config struct {
	Server  string   // host:port in numbers
	Others  []string // servers to which a client that lost its stream goes in turn
	Clients int      // how many
	Gateway string   // their node.cluster
	Prefix  string   // of their node ids; "" is sim-
	Layers  []string // of their bootstrap
	Loops   int      // goroutines; 0 is as many as there are processors
	Once    bool     // whoever loses its stream does not come back
}

// Fleet is many clients. Its methods may be called from any goroutine while Run runs.
type Fleet struct {
	// Fixed after New.
	config  Config
	servers []netip.AddrPort
	node    []byte
	opening []byte
	loops   []*loop

	counts counts
	watch  atomic.Pointer[Watch]
}

// New prepares a fleet; nobody connects before Connect.
func New(c Config) (*Fleet, error) {
	if c.Loops <= 0 {
		c.Loops = runtime.GOMAXPROCS(0)
	}
	if c.Prefix == "" {
		c.Prefix = "sim-"
	}
	f := &Fleet{config: c, opening: opening()}
	for _, address := range append([]string{c.Server}, c.Others...) {
		server, err := netip.ParseAddrPort(address)
		if err != nil || !server.Addr().Is4() {
			return nil, fmt.Errorf("prepare a fleet: server %q: expected an IPv4 address and a port", address)
		}
		f.servers = append(f.servers, server)
	}
	var err error
	if f.node, err = loadNode(); err != nil {
		return nil, fmt.Errorf("prepare a fleet: %w", err)
	}
	for range c.Loops {
		l, err := newLoop(f)
		if err != nil {
			return nil, fmt.Errorf("prepare a fleet: %w", err)
		}
		f.loops = append(f.loops, l)
	}
	return f, nil
}

// Run works until ctx ends; then all clients are gone.
func (f *Fleet) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range f.loops {
		group.Go(l.run)
		defer context.AfterFunc(ctx, func() { l.do(l.leave) })()
	}
	return group.Wait()
}

// Connect has all clients connect, spread evenly over a time.
func (f *Fleet) Connect(over time.Duration) {
	now := time.Now()
	for first, l := range f.loops {
		l.do(func() {
			common := fresh(f.config.Layers)
			for i := first; i < f.config.Clients; i += len(f.loops) {
				c := &client{index: i, id: fmt.Sprintf("%s%d", f.config.Prefix, i), fd: -1, state: common}
				l.clients = append(l.clients, c)
				l.connectAt(c, now.Add(over*time.Duration(i)/time.Duration(f.config.Clients)))
			}
		})
	}
}

// Cut breaks all connections at once. The clients come back as Envoys do: after 0.1 to 0.5 s, with what they have.
func (f *Fleet) Cut() {
	for _, l := range f.loops {
		l.do(l.cut)
	}
}

// Settled waits until all clients have been sent and have answered all that they asked at their start; those that came back count as soon as they have asked. It
// returns when the last one had.
func (f *Fleet) Settled(ctx context.Context) (time.Time, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for f.counts.settled.Load() < int64(f.config.Clients) {
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%d of %d clients have all they asked for (%w)%s%s",
				f.counts.settled.Load(), f.config.Clients, context.Cause(ctx), f.counts.words(), f.lacking())
		case <-tick.C:
		}
	}
	return time.Unix(0, f.counts.settledAt.Load()), nil
}

// lacking tells of a client that has not got all it asked for.
func (f *Fleet) lacking() string {
	for _, l := range f.loops {
		words := make(chan string, 1)
		l.do(func() { words <- l.lacking() })
		select {
		case text := <-words:
			if text != "" {
				return text
			}
		case <-time.After(time.Second): // it has ended
		}
	}
	return ""
}

func (l *loop) lacking() string {
	for _, c := range l.clients {
		if !c.settled {
			return fmt.Sprintf("; %s: connection %d, opened %t, %d layers and %d clusters to come, waits for room %t (%d left), %d bytes of a message missing, %d messages to send, windows %d and %d",
				c.id, c.fd, c.opened, len(c.state.cold), len(c.state.warm), c.waiting, l.room.left, c.missing, len(c.queue), c.window, c.streamWindow)
		}
	}
	return ""
}

// Watch is a wait for a value of a layer.
type Watch struct {
	key   string
	value float64
	from  time.Time
	took  []time.Duration // by client, since from; each is written by its loop before left falls
	left  atomic.Int64
	done  chan struct{}

	carrier atomic.Pointer[content] // that the first client answered
}

// Watch begins to wait until every client has answered a response that carries a layer with this value. There is one at a time.
func (f *Fleet) Watch(key string, value float64) *Watch {
	w := &Watch{key: key, value: value, took: make([]time.Duration, f.config.Clients), done: make(chan struct{}), from: time.Now()}
	w.left.Store(int64(f.config.Clients))
	f.watch.Store(w)
	return w
}

// answered notes that a client has answered a response.
func (f *Fleet) answered(client int, c *content) {
	w := f.watch.Load()
	if w == nil || c.values == nil || w.took[client] != 0 {
		return
	}
	if value, there := c.values[w.key]; !there || value != w.value {
		return
	}
	w.took[client] = time.Since(w.from)
	w.carrier.CompareAndSwap(nil, c)
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
}

// Wait waits until all clients have answered, and returns how long each took.
func (w *Watch) Wait(ctx context.Context) ([]time.Duration, error) {
	select {
	case <-w.done:
		return w.took, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%d of %d clients did not get %s = %g (%w)", w.left.Load(), len(w.took), w.key, w.value, context.Cause(ctx))
	}
}

// Carrier is the response that carried the value, as one of the clients got it; nil before any did.
func (w *Watch) Carrier() []byte {
	if c := w.carrier.Load(); c != nil {
		return c.raw
	}
	return nil
}

// Started is when the wait began.
func (w *Watch) Started() time.Time { return w.from }
