//go:build etcdctl

package testenv

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/store"
)

// TestForeignEtcdctlIsAnEqual drives an etcd as rampart runs it with somebody else's etcdctl, such as Debian's 3.4: $ETCDCTL or the one on the PATH. It has a
// build tag of its own, because a newcomer's machine has none, and a test that cannot run has to fail.
func TestForeignEtcdctlIsAnEqual(t *testing.T) {
	e, err := StartEtcd(context.Background(), EtcdConfig{Program: self(t, RoleEtcd), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	s, err := store.Dial(t.Context(), store.Config{Endpoints: []string{e.Endpoint()}, DialTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	ctl := func(input []byte, args ...string) string {
		t.Helper()
		return etcdctl(t, e, input, args...)
	}

	document := []byte("service: shop\n# any bytes: \x00\xff\xfe\r\n")
	ctl(document, "put", "/rampart/v1/services/shop")
	view, err := s.Service(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(view.Doc.Value, document) {
		t.Errorf("put %q, the store reads %q", document, view.Doc.Value)
	}
	if got := ctl(nil, "get", "--print-value-only", "/rampart/v1/services/shop"); got != string(document)+"\n" {
		t.Errorf("put %q, it gets %q", document, got)
	}
	if err := s.PutOrder(t.Context(), "shop", "promote"); err != nil {
		t.Fatal(err)
	}
	if got := ctl(nil, "get", "--print-value-only", "/rampart/v1/orders/shop"); got != "promote\n" {
		t.Errorf("the order reads %q", got)
	}
	ctl(nil, "put", "/rampart/v1/permits/shop/green-12", "")
	// The emergency brake of the README.
	if got := ctl(nil, "del", "--prefix", "/rampart/v1/permits/shop/"); strings.TrimSpace(got) != "1" {
		t.Errorf("%q permits were deleted", got)
	}
	if view, err = s.Service(t.Context(), "shop"); err != nil || len(view.Permits) != 0 {
		t.Errorf("permits are %v, %v", view.Permits, err)
	}
	change := fmt.Sprintf("mod(\"/rampart/v1/services/shop\") = \"%d\"\n\nput /rampart/v1/pauses/shop by-hand\n\n\n", view.Doc.Mod)
	if got := ctl([]byte(change), "txn"); !strings.HasPrefix(got, "SUCCESS") {
		t.Errorf("the transaction says %q", got)
	}
	if view, err = s.Service(t.Context(), "shop"); err != nil || string(view.Pause.Value) != "by-hand" {
		t.Errorf("the pause is %q, %v", view.Pause.Value, err)
	}
	if got := ctl(nil, "endpoint", "health"); strings.Contains(got, "unhealthy") {
		t.Error(got)
	}
}

// etcdctl runs the foreign client against an etcd and returns what it prints.
func etcdctl(t *testing.T, e *Etcd, input []byte, args ...string) string {
	t.Helper()
	path := os.Getenv("ETCDCTL")
	if path == "" {
		path = "etcdctl"
	}
	cmd := exec.CommandContext(within(t, 20*time.Second), path, args...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=http://"+e.Endpoint())
	cmd.Stdin = bytes.NewReader(input)
	var output, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", path, strings.Join(args, " "), err, problems.String())
	}
	return output.String()
}
