package xds

import (
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc/peer"
)

// companions are the streams of other services than discovery, by connection: a proxy that is sent to another server is to take them along.
type companions struct {
	mu sync.Mutex
	of map[net.Addr][]*leash // guarded by mu: by the connection's RemoteAddr, see strangers
}

// come notes a stream until gone is called.
func (c *companions) come(one *leash) (gone func()) {
	addr := one.conn()
	if addr == nil {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	put(&c.of, addr, append(c.of[addr], one))
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if left := slices.DeleteFunc(c.of[addr], func(other *leash) bool { return other == one }); len(left) > 0 {
			c.of[addr] = left
		} else {
			delete(c.of, addr)
		}
	}
}

// end ends the streams over the same connection.
func (c *companions) end(one *leash) {
	c.mu.Lock()
	all := slices.Clone(c.of[one.conn()])
	c.mu.Unlock()
	for _, other := range all {
		other.end()
	}
}

// conn tells connections apart; nil: not known.
func (l *leash) conn() net.Addr {
	if p, there := peer.FromContext(l); there {
		return p.Addr
	}
	return nil
}
