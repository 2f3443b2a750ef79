package xds

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/peer"
)

// strangers are connections that may not have said hello yet. A grpc.Server that is told to end, gracefully or not, first waits until all have, or for helloTimeout: one
// port scan, or a client that hangs, would keep it from sending proxies away, and from ending. One that is gone is among them until helloTimeout is over: to wrap
// connections, so as to hear of it, would cost grpc-go's buffers at rest.
type strangers struct {
	mu    sync.Mutex
	shut  bool                  // guarded by mu: nobody is let in any more
	conns map[net.Addr]net.Conn // guarded by mu: by RemoteAddr, which is the same value for as long as the connection is there
}

// Listen is the listener that the grpc.Server is to be given.
func (s *Server) Listen(on net.Listener) net.Listener { return door{on, &s.strangers} }

type door struct {
	net.Listener
	strangers *strangers
}

// Accept lets a connection in. One that comes after Dismiss is closed, which grpc.Server finds out by reading.
func (d door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err == nil && !d.strangers.come(conn) {
		_ = conn.Close()
	}
	return conn, err
}

// come notes a connection, and reports whether it is let in.
func (n *strangers) come(conn net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shut {
		return false
	}
	put(&n.conns, conn.RemoteAddr(), conn)
	time.AfterFunc(helloTimeout, func() { n.forget(conn.RemoteAddr()) })
	return true
}

// greeted forgets the connection of a stream.
func (n *strangers) greeted(ctx context.Context) {
	if p, there := peer.FromContext(ctx); there {
		n.forget(p.Addr)
	}
}

func (n *strangers) forget(addr net.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, addr)
}

// Dismiss closes connections that may not have said hello yet: the young ones without any stream so far, and those that come from now on. A grpc.Server that is ended
// after it does not wait for them.
func (s *Server) Dismiss() {
	n := &s.strangers
	n.mu.Lock()
	conns := n.conns
	n.shut, n.conns = true, nil
	n.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}
