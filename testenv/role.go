package testenv

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/rampart-proxy/rampart/store"
)

// The roles that a binary which calls RunRole can be started in, with Self(RoleEtcd) and Self(RoleModel).
const (
	RoleEtcd  = "testenv-etcd"
	RoleModel = "testenv-model"
)

// RunRole is called first in a test binary's TestMain, so that the binary can also be the processes the tests run on: when its first argument is a role, the
// process plays it to its end and does not come back.
func RunRole() {
	if len(os.Args) < 2 {
		return
	}
	roles := map[string]func(context.Context, []string) error{RoleEtcd: store.EmbeddedMain, RoleModel: ModelMain}
	body, known := roles[os.Args[1]]
	if !known {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := body(ctx, os.Args[2:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
