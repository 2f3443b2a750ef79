package fleet

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Counts is what a fleet has done since it began.
type Counts struct {
	Connected, Settled int64 // now
	Connects, Losses   int64
	GoAways            int64
	Responses          map[string]int64 // by type
	Beats              int64            // resources without a body
	Expired            int64            // times that a client's layers had no sign of life for longer than their TTL
	ResponseBytes      int64            // of messages
	Received, Sent     int64            // bytes on the wire
	Acks               int64
	LastLoss           string // why a stream was lost last
}

// counts are the same, while they change.
type counts struct {
	connected, settled, settledAt         atomic.Int64
	connects, losses, goAways             atomic.Int64
	beats, bytes, received, sent, acks    atomic.Int64
	expired                               atomic.Int64
	layers, clusters, endpoints, lds, rds atomic.Int64

	mu   sync.Mutex
	last string // guarded by mu
}

func (c *counts) of(typeURL string) *atomic.Int64 {
	switch typeURL {
	case Layers:
		return &c.layers
	case Clusters:
		return &c.clusters
	case Endpoints:
		return &c.endpoints
	case Listeners:
		return &c.lds
	}
	return &c.rds
}

func (c *counts) response(of *content, size int) {
	c.of(of.typeURL).Add(1)
	c.bytes.Add(int64(size))
	if of.beats > 0 {
		c.beats.Add(int64(of.beats))
	}
}

func (c *counts) settle(by int64) {
	c.settledAt.Store(time.Now().UnixNano())
	c.settled.Add(by)
}

func (c *counts) lost(why error) {
	c.losses.Add(1)
	c.mu.Lock()
	c.last = why.Error()
	c.mu.Unlock()
}

func (c *counts) words() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == "" {
		return ""
	}
	return fmt.Sprintf("; %d streams were lost, the last: %s", c.losses.Load(), c.last)
}

// Counts is what the fleet has done so far.
func (f *Fleet) Counts() Counts {
	c := &f.counts
	now := Counts{
		Connected: c.connected.Load(), Settled: c.settled.Load(), Connects: c.connects.Load(), Losses: c.losses.Load(), GoAways: c.goAways.Load(),
		Beats: c.beats.Load(), Expired: c.expired.Load(), ResponseBytes: c.bytes.Load(), Received: c.received.Load(), Sent: c.sent.Load(), Acks: c.acks.Load(), Responses: map[string]int64{},
	}
	for _, typeURL := range []string{Layers, Clusters, Endpoints, Listeners, Routes} {
		now.Responses[typeURL] = c.of(typeURL).Load()
	}
	c.mu.Lock()
	now.LastLoss = c.last
	c.mu.Unlock()
	return now
}
