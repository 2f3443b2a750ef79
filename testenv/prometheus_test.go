package testenv

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPrometheusThatIsKilledComesBackInItsPlace(t *testing.T) {
	folder := t.TempDir()
	p, err := StartPrometheus(context.Background(), PrometheusConfig{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	before, place := p.Pid(), p.URL()
	if err := p.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if p.Pid() == before || running(before) || p.URL() != place {
		t.Errorf("process %d at %s after %d at %s", p.Pid(), p.URL(), before, place)
	}
	if _, err := os.Stat(filepath.Join(folder, "data", "wal")); err != nil {
		t.Error(err)
	}
}

func TestAPrometheusThatRefusesItsConfigurationIsQuoted(t *testing.T) {
	_, err := StartPrometheus(t.Context(), PrometheusConfig{Dir: t.TempDir(), Targets: []string{"no host/at all"}})
	if err == nil || !strings.Contains(err.Error(), "no host/at all") {
		t.Errorf("got %v", err)
	}
}

func TestAMissingPrometheusSaysWhatToDo(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PROMETHEUS", "/nowhere/prometheus")
	if _, err := StartPrometheus(t.Context(), PrometheusConfig{Dir: folder}); err == nil || !strings.Contains(err.Error(), "$PROMETHEUS") {
		t.Errorf("a $PROMETHEUS that is not there gives %v", err)
	}
	t.Setenv("PROMETHEUS", "")
	t.Setenv("PATH", folder)
	t.Chdir(folder)
	if found, err := FindPrometheus(); err == nil || !strings.Contains(err.Error(), "make prometheus") {
		t.Errorf("got %s, %v", found, err)
	}
	fetched := filepath.Join(folder, ".build", "prometheus", "2.42.0+ds-5", "prometheus")
	if err := os.MkdirAll(filepath.Dir(fetched), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fetched, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if found, err := FindPrometheus(); err != nil || found != fetched {
		t.Errorf("got %s, %v", found, err)
	}
	onPath := filepath.Join(folder, "prometheus")
	if err := os.WriteFile(onPath, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if found, err := FindPrometheus(); err != nil || found != onPath {
		t.Errorf("got %s, %v", found, err)
	}
}
