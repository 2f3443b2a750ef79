package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopTimeout is how long the embedded etcd may take to end by itself. Everything it acknowledged is on disk by then.
const stopTimeout = 2 * time.Second

// Embedded is the etcd that rampart brings along, in a process of its own: etcd ends its process when the disk is full or its data are damaged, and that may
// not be ours.
type Embedded struct {
	Dir     string // etcd's own data
	Socket  string // where clients connect; see SocketPath
	Listen  string // one more client address, "http://127.0.0.1:2379"; "" is none
	Log     *slog.Logger
	Command func(args ...string) *exec.Cmd // starts this program again so that it calls EmbeddedMain with args
}

// Run keeps the child running until ctx ends, then stops it. A child that dies is started again, with a growing pause; its data are never touched. It fails
// at once when the child cannot even be started.
func (e Embedded) Run(ctx context.Context) error {
	// A child with a parent death signal dies with the thread that started it, so that thread is kept for as long as the child may live.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	again := newDelays(100*time.Millisecond, 5*time.Second)
	for {
		cmd := e.command()
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start embedded etcd: %w", err)
		}
		// A child that ran for a while did not die of its data or its folder: the next death is a new story.
		steady := time.NewTimer(10 * time.Second)
		err := await(ctx, cmd)
		if ctx.Err() != nil {
			steady.Stop()
			return nil
		}
		if !steady.Stop() {
			again.reset()
		}
		e.logger().Error("embedded etcd ended, it is started again", "err", err)
		if !sleep(ctx, again.take()) {
			return nil
		}
	}
}

func (e Embedded) logger() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

func (e Embedded) command() *exec.Cmd {
	args := []string{"--dir", e.Dir, "--socket", e.Socket}
	if e.Listen != "" {
		args = append(args, "--listen", e.Listen)
	}
	cmd := e.Command(args...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// Out of the terminal's process group: ctrl-C is for us, and etcd has to outlive our last writes.
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr)
	if cmd.Stderr == nil {
		cmd.Stderr = &lineLogger{log: e.logger()}
	}
	return cmd
}

// await returns when the child has ended, which it is made to do when ctx ends.
func await(ctx context.Context, cmd *exec.Cmd) error {
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case err := <-exited:
		return endOf(err)
	case <-ctx.Done():
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-exited:
	case <-timer.C:
		_ = cmd.Process.Kill()
		<-exited
	}
	return nil
}

// endOf makes an end without an error an error: the child has no reason to end.
func endOf(err error) error {
	if err == nil {
		return errors.New("it ended by itself")
	}
	return err
}

// Ready waits until the embedded etcd answers or ctx ends.
func (e Embedded) Ready(ctx context.Context) error {
	s, err := Dial(ctx, Config{Endpoints: []string{"unix://" + e.Socket}, DialTimeout: time.Minute})
	if err != nil {
		return fmt.Errorf("wait for embedded etcd: %w", err)
	}
	return s.Close()
}

// lineLogger logs each line that the child writes. It is owned by the goroutine that copies the child's output.
type lineLogger struct {
	log  *slog.Logger
	rest []byte
}

// Write logs whole lines and keeps what follows them. A line without end is cut at 64 KiB.
func (l *lineLogger) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole && len(l.rest) < 64<<10 {
			return len(p), nil
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			l.log.Warn("embedded etcd says", "reason", string(line))
		}
		l.rest = rest
	}
}
