//go:build !linux

package fleet

import (
	"errors"
	"net/netip"
	"time"
)

var errNoPoller = errors.New("a fleet needs epoll, which only Linux has")

type poller struct{}

type interest struct{ read, write bool }

type event struct{ readable, writable bool }

func newPoller() (*poller, error) { return nil, errNoPoller }

func (*poller) add(int, interest) error { return errNoPoller }

func (*poller) change(int, interest) error { return errNoPoller }

func (*poller) wait(time.Duration, func(int, event)) error { return errNoPoller }

func (*poller) wake() {}

func (*poller) close() {}

func dial(netip.AddrPort) (int, error) { return -1, errNoPoller }

func connected(int) error { return errNoPoller }

func closeSocket(int) {}
