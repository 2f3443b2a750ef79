package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever follows a service learns that nothing can be followed at the moment, rather than that nothing happens.
func TestWatchSaysWhenTheServerIsGoneAndWhenItIsBack(t *testing.T) {
	folder := shortFolder(t)
	document := filepath.Join(folder, "shop.yaml")
	if err := os.WriteFile(document, []byte(strings.ReplaceAll(shopYAML, "edge", "default")), 0o600); err != nil {
		t.Fatal(err)
	}
	first := serveOn(t, folder)
	if got := rampart("--data", folder, "apply", document); got.status != 0 {
		t.Fatal(got)
	}
	e := &etcd{t: t, folder: folder}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, errs, ended := e.start(ctx, "watch", "shop", "-o", "json")
	eventually(t, "it watches", func() bool { return out.String() != "" })
	if told := errs.String(); told != "" {
		t.Fatalf("before anything happened: %s", told)
	}
	first.cancel()
	<-first.ended
	eventually(t, "it says that etcd is gone", func() bool { return strings.Contains(errs.String(), "watch: etcd has not answered since ") })
	serveOn(t, folder)
	eventually(t, "it says that all is well again", func() bool {
		return strings.Contains(errs.String(), "watch: etcd answers, and a replica leads again\n")
	})
	cancel()
	if status := <-ended; status != 0 {
		t.Errorf("exit status %d: %s", status, errs)
	}
	if n := strings.Count(errs.String(), "etcd has not answered"); n != 1 {
		t.Errorf("told %d times: %s", n, errs)
	}
}
