package store

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
)

// sink is a slog handler that passes each record's reason on.
type sink struct {
	slog.Handler
	take func(reason string)
}

func testSink(take func(string)) *slog.Logger {
	return slog.New(sink{Handler: slog.DiscardHandler, take: take})
}

func (s sink) Enabled(context.Context, slog.Level) bool { return true }

func (s sink) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" {
			s.take(a.Value.String())
		}
		return true
	})
	return nil
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// testWarnings calls heard at the first warning.
func testWarnings(heard func()) *slog.Logger {
	return slog.New(warnings{Handler: slog.DiscardHandler, heard: sync.OnceFunc(heard)})
}

type warnings struct {
	slog.Handler
	heard func()
}

func (w warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w warnings) Handle(context.Context, slog.Record) error {
	w.heard()
	return nil
}
