package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rampart-proxy/rampart/testenv"
)

// procStat is what the kernel says of a process (proc(5), /proc/pid/stat).
type procStat struct {
	parent int
	dead   bool          // it has ended, and nobody has asked how
	cpu    time.Duration // user and system time used so far
	rss    int64         // bytes of memory it holds
}

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on all systems we run on.
const clockTick = 10 * time.Millisecond

// readStat reads a process's state. The name, which may hold anything, ends at the last parenthesis.
func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 22 {
		return procStat{}, fmt.Errorf("look at process %d: its state has %d fields", pid, len(fields))
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // written by the kernel
		return n
	}
	return procStat{
		parent: int(number(1)), dead: fields[0] == "Z",
		cpu: time.Duration(number(11)+number(12)) * clockTick, rss: number(21) * int64(os.Getpagesize()),
	}, nil
}

// childrenOf lists the children of a process.
func childrenOf(parent int) ([]int, error) {
	folders, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the children of process %d: %w", parent, err)
	}
	var children []int
	for _, folder := range folders {
		pid, err := strconv.Atoi(folder.Name())
		if err != nil {
			continue
		}
		// A process that ended since the folder was listed is nobody's child any more.
		if stat, err := readStat(pid); err == nil && stat.parent == parent {
			children = append(children, pid)
		}
	}
	return children, nil
}

// killAndWait ends a process that is not our own child.
func killAndWait(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return testenv.Eventually(ctx, func() (bool, error) {
		stat, err := readStat(pid)
		return err != nil || stat.dead, nil
	})
}
