package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADataFolderIsInUseByOneProcessAndTheErrorSaysByWhich(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	unlock, err := LockFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("data folder %s is in use by process %d", folder, os.Getpid())
	if _, err := LockFolder(folder); err == nil || err.Error() != want {
		t.Errorf("second lock: %v, want %q", err, want)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = LockFolder(folder)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if found, err := os.Stat(folder); err != nil || found.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v; want 0700", found.Mode(), err)
	}
}

func TestALongDataFolderGetsAShortSocket(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	for length := 1; length < 300; length++ {
		folder := "/" + strings.Repeat("d", length)
		socket := SocketPath(folder)
		if len(peerSocket(socket)) > longestSocket {
			t.Fatalf("%d bytes for a folder of %d", len(peerSocket(socket)), length)
		}
		if inside := strings.HasPrefix(socket, folder+"/"); inside != (length <= 83) {
			t.Fatalf("a folder of %d bytes has its socket at %s", length, socket)
		}
		if other := SocketPath(folder + "e"); other == socket {
			t.Fatalf("%s serves two data folders", socket)
		}
	}
}

func TestASocketFolderThatOthersCanEnterIsClosedOff(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := privateFolder(folder); err != nil {
		t.Fatal(err)
	}
	if found, err := os.Stat(folder); err != nil || found.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v; want 0700", found.Mode(), err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	if err := privateFolder(link); err == nil {
		t.Error("a link that somebody may have planted was accepted")
	}
}
