package replica_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/store"
)

// bulk puts as many documents of services besides shop, in a few transactions.
func (r *rig) bulk(documents int) {
	r.t.Helper()
	var puts []clientv3.Op
	for i := range documents {
		name := fmt.Sprint("bulk", i)
		text := strings.NewReplacer("service: shop", "service: "+name, "shop.example.com", name+".example.com").Replace(r.document("blue"))
		puts = append(puts, clientv3.OpPut(store.Prefix+"services/"+name, text))
	}
	for some := range slices.Chunk(puts, 100) {
		if _, err := r.raw.Txn(r.ctx).Then(some...).Commit(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// accepted is how many services are served.
func (r *rig) accepted() int {
	r.t.Helper()
	return int(must[*clientv3.GetResponse](r.t)(r.raw.Get(r.ctx, store.Prefix+"served/services/", clientv3.WithPrefix(), clientv3.WithCountOnly())).Count)
}

// Whatever else is accepted, rendered and sent at the moment: traffic that is to go back goes first.
func TestARollbackOvertakesAThousandDocuments(t *testing.T) {
	const documents = 1000
	r := newRigIn(t, world{deadman: "15s"})
	r.put("services/shop", slow(r.document("blue"))+"analysis: {latency: off}\n")
	sims := r.simulated(*simulatedSize)
	release := r.begin().Release.ID
	r.put("orders/shop", "advance")
	r.at(5000)
	r.bulk(documents)
	r.until("some of them accepted", func() (bool, error) { return r.accepted() > documents/100, nil })
	back := sims.Watch("ramp.shop.shop/green|blue", 0)
	r.del("permits/shop/" + release)
	took, err := back.Wait(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := r.accepted()
	t.Logf("%d proxies were back %s after the permit was deleted; %d of %d documents were accepted by then", *simulatedSize, slices.Max(took).Round(time.Millisecond), n, documents)
	if n > documents {
		t.Errorf("it waited until all %d documents were accepted", documents)
	}
}
