package main

import (
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/replica"
)

func TestProxiesSaysWhenOneReportedLast(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	found := []proxy{
		{ProxyView: replica.ProxyView{Proxy: "edge-1", LastReport: now.Add(-1500 * time.Millisecond), Connected: now}},
		{ProxyView: replica.ProxyView{Proxy: "edge-2", Connected: now}},
	}
	rows := proxyTable(found, now)
	for i, want := range []string{"LAST REPORT", "1.5 s ago", "–"} {
		if got := rows[i][len(rows[i])-1]; got != want {
			t.Errorf("row %d: last report %q, want %q", i, got, want)
		}
	}
}
