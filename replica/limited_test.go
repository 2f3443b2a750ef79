package replica

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/xds"
)

func TestWhoIsTurnedAwayIsToldAboutSeldom(t *testing.T) {
	var out bytes.Buffer
	l, now := newLimited(slog.New(slog.NewTextHandler(&out, nil))), time.Unix(1_000_000, 0)
	for range 250 { // 25 s
		l.note(xds.Event{Kind: xds.LimitExceeded, Limit: "names", Node: "edge-1"}, now)
		l.note(xds.Event{Kind: xds.ResponseSent}, now)
		now = now.Add(100 * time.Millisecond)
	}
	l.note(xds.Event{Kind: xds.LimitExceeded, Limit: "streams"}, now)
	got := out.String()
	if strings.Count(got, "--max-names") != 3 || !strings.Contains(got, "proxy=edge-1") || !strings.Contains(got, "--max-names: 100 since") || strings.Count(got, "--max-streams: 1 since") != 1 {
		t.Error(got)
	}
	alarms := l.alarms(now)
	slices.Sort(alarms)
	if len(alarms) != 2 || !strings.Contains(alarms[0], "clients were ended within the last minute: --max-streams") || !strings.Contains(alarms[1], "edge-1 were ended within the last minute: --max-names") {
		t.Errorf("%q", alarms)
	}
	if alarms = l.alarms(now.Add(time.Minute)); len(alarms) > 0 {
		t.Errorf("a minute later: %q", alarms)
	}
}
