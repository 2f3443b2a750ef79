package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// longestSocket is the most bytes a unix socket's path may have on the systems we know: 103 on BSDs, 107 on Linux, the final zero not counted.
const longestSocket = 103

// SocketPath returns where the embedded etcd of a data folder is reached. It lies in the data folder, or, when that path is too long for the system, in a
// short folder whose name is derived from it.
func SocketPath(dataDir string) string {
	full, err := filepath.Abs(dataDir)
	if err != nil {
		full = dataDir
	}
	path := filepath.Join(full, "run", "etcd.sock")
	if len(peerSocket(path)) <= longestSocket {
		return path
	}
	sum := sha256.Sum256([]byte(full))
	name := "rampart-" + strconv.Itoa(os.Getuid()) + "-" + hex.EncodeToString(sum[:6])
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = os.TempDir()
	}
	return filepath.Join(base, name, "etcd.sock")
}

// peerSocket is where the embedded etcd listens for other members, which never come: without a path of its own it would listen on an abstract socket, which
// every user of the machine can open.
func peerSocket(client string) string { return client + ".peer" }

// privateFolder makes a folder that only this user can enter, and refuses one that somebody else may have put in its place.
func privateFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make private folder: %w", err)
	}
	found, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("make private folder: %w", err)
	}
	owner, known := found.Sys().(*syscall.Stat_t)
	switch {
	case !found.IsDir():
		return fmt.Errorf("make private folder %s: it is no folder", path)
	case known && int(owner.Uid) != os.Getuid():
		return fmt.Errorf("make private folder %s: it belongs to user %d", path, owner.Uid)
	case found.Mode().Perm()&0o077 != 0:
		return os.Chmod(path, 0o700)
	}
	return nil
}
