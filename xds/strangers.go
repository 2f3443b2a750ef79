package xds

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/peer"
)

// strangers are connections that may not have said hello yet. A grpc.Server that is to end, gracefully or not, first waits until all have, or for helloTimeout: one port
// scan, or a client that hangs, would hold up an end within seconds.
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

// Accept lets a connection in.
func (d door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err == nil {
		d.strangers.come(conn)
	}
	return conn, err
}

func (n *strangers) come(conn net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shut {
		_ = conn.Close() // its end is told to grpc.Server by its reads
		return
	}
	put(&n.conns, conn.RemoteAddr(), conn)
	time.AfterFunc(helloTimeout, func() { n.known(conn.RemoteAddr()) })
}

// known forgets a connection: it has said hello, or is gone.
func (n *strangers) known(addr net.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, addr)
}

// greeted forgets the connection of a stream.
func (n *strangers) greeted(ctx context.Context) {
	if p, there := peer.FromContext(ctx); there {
		n.known(p.Addr)
	}
}

// Dismiss closes the connections without any stream, and those that come from now on. A grpc.Server that is ended after it does not wait for them.
func (s *Server) Dismiss() {
	n := &s.strangers
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shut = true
	for _, conn := range n.conns {
		_ = conn.Close()
	}
}
