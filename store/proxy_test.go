package store

import (
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// proxy stands between a store and an etcd, and can be told to misbehave.
type proxy struct {
	socket string

	mu     sync.Mutex
	target string            // guarded by mu: "" refuses
	conns  map[net.Conn]bool // guarded by mu
	deaf   bool              // guarded by mu: what etcd answers is swallowed
	frozen chan struct{}     // guarded by mu: not nil: bytes wait until it is closed
	wait   sync.WaitGroup
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	socket := filepath.Join(shortFolder(t), "p.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := serveProxy(t, listener, target)
	p.socket = socket
	return p
}

// serveProxy passes what comes from a listener to a unix socket until the test ends.
func serveProxy(t *testing.T, listener net.Listener, target string) *proxy {
	p := &proxy{target: target, conns: map[net.Conn]bool{}}
	p.wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.serve(conn)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.thaw()
		p.cut("")
		p.wait.Wait()
	})
	return p
}

func (p *proxy) endpoint() string { return "unix://" + p.socket }

func (p *proxy) serve(client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.target == "" {
		_ = client.Close()
		return
	}
	server, err := net.Dial("unix", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.conns[client], p.conns[server] = true, true
	p.wait.Go(func() { p.pipe(server, client, false) })
	p.wait.Go(func() { p.pipe(client, server, true) })
}

func (p *proxy) pipe(to, from net.Conn, answers bool) {
	defer func() { _ = errors.Join(to.Close(), from.Close()) }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		frozen, swallow := p.frozen, answers && p.deaf
		p.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if n > 0 && !swallow {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections and sends new ones to target; "" refuses them.
func (p *proxy) cut(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.deaf = target, false
	for conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

// swallow loses everything that etcd answers on the connections there are.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

// freeze lets connections live but nothing pass, like a machine that vanished.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}
