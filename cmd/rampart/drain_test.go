package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/store"
	simulation "github.com/rampart-proxy/rampart/testenv/fleet"
)

// promisedDrain is how long a server may take to end that has to send its proxies away.
const promisedDrain = 10 * time.Second

// However many proxies it has, and however long it may take to send them away: a server that is told to end has ended in time, with status 0, and its proxies are with the
// other one.
func TestAServerWithProxiesEndsInTime(t *testing.T) {
	etcd := freeAddress(t)
	stays := serveOn(t, shortFolder(t), "--etcd-listen", etcd)
	goes := serveOn(t, shortFolder(t), "--etcd", etcd, "--drain", "6s")
	eventually(t, "the servers know of each other", func() bool {
		reports := rampart("--etcd", etcd, "etcdctl", "get", "--prefix", store.Prefix+"replicas/", "--keys-only").out
		return strings.Count(reports, "replicas/") == 2
	})
	const proxies = 200
	sims := simulatedFleet(t, simulation.Config{Server: goes.xds, Others: []string{stays.xds}, Clients: proxies, Gateway: "default"})
	silent, err := net.Dial("tcp", goes.xds) // and somebody who never says anything
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	eventually(t, "the fleet has its layers", func() bool { return sims.Counts().Responses[simulation.Layers] >= proxies })
	goes.cancel()
	timer := time.NewTimer(promisedDrain)
	defer timer.Stop()
	select {
	case status := <-goes.ended:
		if status != 0 {
			t.Errorf("exit status %d, want 0:\n%s", status, goes.log)
		}
	case <-timer.C:
		t.Errorf("not ended %s after it was asked to:\n%s", promisedDrain, goes.log)
	}
	eventually(t, "the fleet is with the other server", func() bool {
		c := sims.Counts()
		return c.Connected == proxies && c.Connects == 2*proxies
	})
	if strings.Count(goes.log.String(), "drains") != 1 {
		t.Errorf("it did not drain:\n%s", goes.log)
	}
	if c := sims.Counts(); c.GoAways < proxies || c.Losses != proxies {
		t.Errorf("want each proxy told to go, and each to have lost one stream: %+v", c)
	}
}

// simulatedFleet connects proxies that are no Envoys but ask as they do.
func simulatedFleet(t *testing.T, c simulation.Config) *simulation.Fleet {
	t.Helper()
	for i := range envoy.Layers {
		c.Layers = append(c.Layers, fmt.Sprintf("ramp-%02d", i))
	}
	sims, err := simulation.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sims.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	sims.Connect(0)
	return sims
}
