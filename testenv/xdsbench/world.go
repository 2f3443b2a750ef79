package xdsbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

const (
	gatewayName = "edge"
	shop        = "shop" // the service whose release is stepped
	live        = "blue"
	candidate   = "green"
	firstWeight = policy.Weight(100)
	batch       = 64 // documents in a transaction
)

// weightKey is what carries the candidate's weight in its layer.
func weightKey() string {
	return envoy.RuntimePrefix(shop) + "." + envoy.CandidateArm(shop, candidate, live)
}

// document is a service's. The plan leaves room for every weight below half, and time enough to stay there.
func document(name, serve, revision string) string {
	return fmt.Sprintf("service: %s\ngateways: [%s]\nhosts: [%s.example.com]\nbackends:\n"+
		"  %s: {revision: \"v1\", endpoints: [\"127.0.0.1:7001\", \"127.0.0.1:7002\"]}\n"+
		"  %s: {revision: %q, endpoints: [\"127.0.0.1:7003\", \"127.0.0.1:7004\"]}\n"+
		"serve: %s\nplan: {steps: [1%%, 50%%, 100%%], warmup: 0s, soak: 24h, bake: 24h, patience: {for: 720h, then: pause}}\n",
		name, gatewayName, name, live, candidate, revision, serve)
}

// load puts S services into etcd, documents and accepted copies alike, as a leader would have left them: what loading costs is not what is measured here.
func load(ctx context.Context, client *clientv3.Client, services, port int) error {
	gateway := fmt.Sprintf("gateway: %s\nlisteners:\n  - {address: 127.0.0.1, port: %d}\n", gatewayName, port)
	parsed, err := policy.ParseGateway("gateways/"+gatewayName, []byte(gateway))
	if err != nil {
		return err
	}
	put, err := client.Put(ctx, store.Key(store.GatewayDoc, gatewayName), gateway)
	if err != nil {
		return fmt.Errorf("load the world: %w", err)
	}
	accepted := policy.ServedGateway{Gateway: parsed.WithDefaults(), Accepted: put.Header.Revision}
	if err := putJSON(ctx, client, store.Key(store.ServedGateway, gatewayName), accepted); err != nil {
		return err
	}
	names := []string{shop}
	for i := 1; i < services; i++ {
		names = append(names, fmt.Sprintf("svc-%05d", i))
	}
	for len(names) > 0 {
		n := min(batch, len(names))
		if err := loadServices(ctx, client, names[:n], parsed.WithDefaults()); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

func loadServices(ctx context.Context, client *clientv3.Client, names []string, gateway policy.Gateway) error {
	var documents []clientv3.Op
	for _, name := range names {
		documents = append(documents, clientv3.OpPut(store.Key(store.ServiceDoc, name), document(name, live, "v1")))
	}
	put, err := client.Txn(ctx).Then(documents...).Commit()
	if err != nil {
		return fmt.Errorf("load services: %w", err)
	}
	var copies []clientv3.Op
	for _, name := range names {
		served, err := acceptedCopy(name, put.Header.Revision, gateway)
		if err != nil {
			return err
		}
		copies = append(copies, clientv3.OpPut(store.Key(store.ServedService, name), string(served)))
	}
	if _, err := client.Txn(ctx).Then(copies...).Commit(); err != nil {
		return fmt.Errorf("load services: %w", err)
	}
	return nil
}

// acceptedCopy is what a leader makes of a first document.
func acceptedCopy(name string, mod int64, gateway policy.Gateway) ([]byte, error) {
	parsed, err := policy.ParseService("services/"+name, []byte(document(name, live, "v1")))
	if err != nil {
		return nil, err
	}
	decision := policy.Decide(policy.Turn{
		Revision: mod, Wish: policy.Wish{Mod: mod, Service: parsed.WithDefaults()},
		Around: policy.Around{Gateways: map[string]policy.Gateway{gatewayName: gateway}},
	})
	if !decision.Served.Serves() {
		return nil, fmt.Errorf("service %s is not accepted: %v", name, decision.Served.Refused)
	}
	return json.Marshal(decision.Served)
}

func putJSON(ctx context.Context, client *clientv3.Client, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, key, string(text)); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// connect makes a client of etcd.
func connect(endpoint string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("reach etcd at %s: %w", endpoint, err)
	}
	return client, nil
}

// served reads what is served of the stepped service.
func served(ctx context.Context, client *clientv3.Client) (*policy.Served, error) {
	answer, err := client.Get(ctx, store.Key(store.ServedService, shop))
	if err != nil {
		return nil, fmt.Errorf("read what is served: %w", err)
	}
	if len(answer.Kvs) == 0 {
		return nil, errors.New("read what is served: nothing is")
	}
	var s policy.Served
	if err := json.Unmarshal(answer.Kvs[0].Value, &s); err != nil {
		return nil, fmt.Errorf("read what is served: %w", err)
	}
	return &s, nil
}
