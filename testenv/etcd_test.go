package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/store"
)

func TestAnEtcdThatIsKilledOrPausedComesBackWithItsData(t *testing.T) {
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
	if err := s.SetPause(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	before := e.Pid()
	if err := e.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if e.Pid() == before || running(before) {
		t.Error("the old process is still there")
	}
	if err := e.Pause(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(within(t, 300*time.Millisecond)); err == nil {
		t.Error("a paused etcd answers")
	}
	if err := e.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() (bool, error) {
		view, err := s.Service(t.Context(), "shop")
		return view.Pause.Mod != 0, err
	})
}
