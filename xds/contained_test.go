package xds

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// lines hands what a server logs to a function.
type lines struct {
	slog.Handler

	each func(message string)
}

func (l lines) Enabled(context.Context, slog.Level) bool { return true }

func (l lines) Handle(_ context.Context, r slog.Record) error {
	l.each(r.Message)
	return nil
}

func logged(each func(message string)) *slog.Logger {
	return slog.New(lines{slog.DiscardHandler, each})
}

// sound is the log of a server that must not run into a bug of its own: it would end that stream only, and nothing else would tell of it.
func sound(t interface{ Errorf(string, ...any) }) *slog.Logger {
	return logged(func(message string) {
		if strings.Contains(message, "panicked") {
			t.Errorf("the server logged: %s", message)
		}
	})
}

// Whoever is told of events may have a bug: no stream counts for longer than it lives, and the server goes on.
func TestAPanicOfWhoIsToldOfEventsCostsNothing(t *testing.T) {
	var told atomic.Int64
	change := func(c *Config) {
		c.Events = func(Event) { told.Add(1); panic("a bug") }
	}
	inBubble(t, change, func(r *rig) {
		r.s.Open()
		r.set(11, cluster("a", "1"))
		silent, other := r.client("silent"), r.client("other")
		for _, c := range []*client{silent, other} {
			c.ask(ClusterType)
		}
		silent.expect("Cluster a=1")
		other.take("Cluster a=1")
		time.Sleep(Limits{}.WithDefaults().Silence * 2)
		wantEnd(t, silent, codes.DeadlineExceeded, "")
		other.hangUp()
		synctest.Wait()
		if now := r.s.Proxies(); len(now) > 0 || r.s.open > 0 || told.Load() < 5 {
			t.Errorf("%d events were told, and it still has %+v", told.Load(), now)
		}
	})
}

// broken is a stream whose first message hits a bug in what reads it.
type broken struct{ *fake }

func (broken) RecvMsg(any) error { panic("a bug") }

func TestAPanicWhileAFirstMessageIsReadEndsItsOwnStreamOnly(t *testing.T) {
	opened(t, func(r *rig) {
		if err := r.s.discover(broken{newFake(r.t.Context())}, Delta); status.Code(err) != codes.Internal {
			t.Errorf("ended with %v", err)
		}
		good := r.client("good")
		good.ask(ClusterType, "a")
		good.take("Cluster -a")
	})
}

// A log may be slow, or hang, as the file or pipe behind it does; weights must not wait for it.
func TestARejectionIsLoggedWhileNothingIsLocked(t *testing.T) {
	var s *Server
	var rejections atomic.Int64
	change := func(c *Config) {
		c.Log = logged(func(message string) {
			if message == "a proxy rejected a response" {
				rejections.Add(int64(len(s.Proxies())))
			}
		})
	}
	inBubble(t, change, func(r *rig) {
		s = r.s
		r.s.Open()
		r.set(11, cluster("a", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		c.nack(c.expect("Cluster a=1"), "no")
		synctest.Wait()
		if rejections.Load() != 1 {
			t.Errorf("%d rejections were logged", rejections.Load())
		}
	})
}
