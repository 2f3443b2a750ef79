package fleet

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// poller waits for many connections at once (epoll(7), level-triggered: a connection that was read from once and has more is told of again).
type poller struct {
	epoll  int
	pipe   [2]int
	events []syscall.EpollEvent
}

// interest is what a connection is waited for.
type interest struct{ read, write bool }

// event is what happened on a connection. One that broke is readable: reading tells how.
type event struct{ readable, writable bool }

func newPoller() (*poller, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	p := &poller{epoll: epoll, events: make([]syscall.EpollEvent, 256)}
	if err := syscall.Pipe2(p.pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), syscall.Close(epoll))
	}
	return p, p.add(p.pipe[0], interest{read: true})
}

func (i interest) events() uint32 {
	var events uint32
	if i.read {
		events |= syscall.EPOLLIN
	}
	if i.write {
		events |= syscall.EPOLLOUT
	}
	return events
}

func (p *poller) add(fd int, i interest) error {
	return syscall.EpollCtl(p.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: i.events(), Fd: int32(fd)})
}

func (p *poller) change(fd int, i interest) error {
	return syscall.EpollCtl(p.epoll, syscall.EPOLL_CTL_MOD, fd, &syscall.EpollEvent{Events: i.events(), Fd: int32(fd)})
}

// wait waits until something happens or timeout has passed; below 0 is for ever. It calls happened for each connection.
func (p *poller) wait(timeout time.Duration, happened func(int, event)) error {
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := syscall.EpollWait(p.epoll, p.events, ms)
	if err != nil {
		if errors.Is(err, syscall.EINTR) {
			return nil
		}
		return fmt.Errorf("wait for connections: %w", err)
	}
	for _, e := range p.events[:n] {
		if int(e.Fd) == p.pipe[0] {
			var b [64]byte
			_, _ = syscall.Read(p.pipe[0], b[:]) // whatever is left is told of again
			continue
		}
		broken := e.Events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0
		happened(int(e.Fd), event{readable: broken || e.Events&syscall.EPOLLIN != 0, writable: e.Events&syscall.EPOLLOUT != 0})
	}
	return nil
}

// wake ends a wait.
func (p *poller) wake() { _, _ = syscall.Write(p.pipe[1], []byte{0}) } // a pipe that is full wakes as well

func (p *poller) close() {
	for _, fd := range []int{p.epoll, p.pipe[0], p.pipe[1]} {
		_ = syscall.Close(fd)
	}
}

// receiveBuffer bounds what the kernel holds of what a client has not read: left to itself it is megabytes a connection, and thousands would starve the machine.
const receiveBuffer = 128 << 10

// dial begins to connect and does not wait.
func dial(server netip.AddrPort) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	// A connection that is closed leaves nothing behind: ten thousand would use up the ports.
	if err == nil {
		err = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	}
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
	}
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()})
	}
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		closeSocket(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// connected tells whether a connection came about.
func connected(fd int) error {
	number, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err == nil && number != 0 {
		err = syscall.Errno(number)
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

func closeSocket(fd int) { _ = syscall.Close(fd) }
