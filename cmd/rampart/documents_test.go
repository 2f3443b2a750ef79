package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

const edgeYAML = "gateway: edge\nlisteners:\n- {address: 127.0.0.1, port: 8080}\n"

// blueYAML is the first document of shop.
func blueYAML() string { return strings.Replace(shopYAML, "serve: green", "serve: blue", 1) }

func TestADocumentOnStandardInputMayHoldMany(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	got := rampartWith(t.Context(), edgeYAML+"---\n"+blueYAML(), "--data", e.folder, "apply", "-f", "-")
	if got.status != 0 {
		t.Fatalf("exit status %d\n%s%s", got.status, got.out, got.err)
	}
	golden(t, "apply-first.golden", got.out)
	contains(t, e.expect(0, "get", "shop", "-o", "yaml").out, "service: shop", `endpoints: ["127.0.0.1:8001"]`)
	contains(t, e.expect(0, "get", "shop", "-o", "yaml", "--defaults").out, "holdback: 5%", "keep: 1h")
	contains(t, e.expect(0, "get", "gateways", "edge", "-o", "yaml", "--defaults").out, "deadman: 15s")
	golden(t, "get-gateways.golden", e.expect(0, "get", "gateways").out)
}

func TestApplyShowsWhatItChangesAndWhatHasBegun(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", blueYAML()))
	green := e.file("shop.yaml", shopYAML)
	dry := e.expect(0, "apply", "--dry-run", green)
	contains(t, dry.out, "shop: serve blue → green", "Nothing was changed. (dry run)")
	golden(t, "apply-release.golden", e.expect(0, "apply", green).out)
	golden(t, "get-release.golden", e.expect(0, "get").out)

	before := e.dump()
	again := e.expect(0, "apply", e.file("shop.yaml", "# the same, written differently\n"+shopYAML))
	contains(t, again.out, "shop: nothing changes")
	if after := e.dump(); after != before {
		t.Errorf("apply wrote although nothing changes:\n%s\n%s", before, after)
	}
	golden(t, "apply-back.golden", e.expect(0, "apply", e.file("shop.yaml", blueYAML())).out)
}

// UX: without a plan a release is as fast as the evidence allows, and apply and wait say so.
func TestTheDefaultPlanIsSaidInWords(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	planless := func(document string) string { return document[:strings.Index(document, "plan:")] }
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", planless(blueYAML())))
	got := e.expect(0, "apply", e.file("shop.yaml", planless(shopYAML)))
	contains(t, got.out, "has begun: 1 % → 100 % as fast as the evidence allows, on 3 proxies of edge.")
	contains(t, e.expect(0, "get", "shop", "-o", "yaml", "--defaults").out, "plan:\n  evidence:\n    from: 1%\n  warmup: 30s\n  bake: 5s\n")

	p := still(t)
	byEvidence(&p)
	p.service.served.Release.Phase, p.service.served.Release.Weight = policy.Gated, 0
	if got := progressText(p.service); got != "shop: green v42 gated at 0 %, then 1 % → 100 % as fast as the evidence allows" {
		t.Errorf("wait says %q", got)
	}
}

func TestAFolderIsItsDocuments(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	folder := t.TempDir()
	for name, text := range map[string]string{"1.yaml": edgeYAML, "2.yml": blueYAML(), "README.md": "no document"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	contains(t, e.expect(0, "apply", "-f", folder).out, "gateway edge: new gateway", "shop: new service")
}

// DESIGN §9: apply checks all documents; any error writes none.
func TestOneErrorInOneDocumentWritesNone(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", blueYAML()))
	before := e.dump()
	other := strings.NewReplacer("service: shop", "service: other", "shop.example.com", "other.example.com").Replace(blueYAML())
	for _, c := range []struct{ name, document, says string }{
		{"unparsable YAML", "service: [shop\n", "cannot be read as YAML"},
		{"an unknown field", strings.Replace(blueYAML(), "plan: {steps", "plan: {stepz", 1), "did you mean `steps`?"},
		{"a wrong type", strings.Replace(blueYAML(), "[shop.example.com]", "7", 1), ":3:"},
		{"steps that do not rise", strings.Replace(blueYAML(), "5%, 25%", "25%, 5%", 1), "is not above the step before it"},
		{"an endpoint that is no address", strings.Replace(blueYAML(), "127.0.0.1:8001", "nowhere", 1), "nowhere"},
		{"a revision that is a number", strings.Replace(blueYAML(), "revision: v41", "revision: 1.10", 1), "quote it"},
		{"a value of 1 MiB", blueYAML() + "# " + strings.Repeat("x", 1<<20) + "\n", "KiB"},
		{"binary garbage", "\x00\x01\x02\xff\xfe", ":1:"},
		{"a host that is served already", strings.Replace(other, "other.example.com", "shop.example.com", 1), "shop.example.com"},
		{"a missing gateway", strings.Replace(other, "[edge]", "[nowhere]", 1), "nowhere"},
		{"a new revision of what is live", strings.Replace(blueYAML(), "v41", "v40", 1), "another backend"},
		{"the same name twice", blueYAML() + "---\n" + blueYAML(), "already given"},
		{"neither service nor gateway", "a: 1\n", ":1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := strings.NewReplacer("service: shop", "service: good", "shop.example.com", "good.example.com").Replace(blueYAML())
			got := e.rampart("apply", e.file("good.yaml", good), e.file("bad.yaml", c.document))
			if got.status != statusNo || !strings.Contains(got.err, "bad.yaml") || !strings.Contains(got.err, c.says) ||
				!strings.HasSuffix(got.err, "\nNothing was changed.\n") || strings.ContainsRune(got.err, 0) || !utf8.ValidString(got.err) {
				t.Errorf("exit status %d, %q, want %d and %q", got.status, got.err, statusNo, c.says)
			}
			if after := e.dump(); after != before {
				t.Errorf("something was changed:\n%s\n%s", before, after)
			}
		})
	}
}

func TestADocumentThatOnlyTheLeaderCanRefuseIsReported(t *testing.T) {
	e := startEtcd(t)
	l := e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", blueYAML()))
	// A key that holds another service's document comes from elsewhere than apply.
	e.put(store.ServiceDoc, "web", strings.Replace(shopYAML, "plan:", "plann:", 1))
	eventually(t, "the leader refuses it", func() bool { return strings.Contains(e.rampart("get", "web").out, "newest document refused") })
	got := e.expect(0, "why", "web")
	contains(t, got.out, "web serves nothing: its first document is refused.", "plann")
	if got := e.expect(statusNo, "wait", "web"); !strings.HasPrefix(got.err, "wait web: the document is refused: ") {
		t.Errorf("wait: %q", got.err)
	}
	_ = l
}

// DESIGN §9: apply waits up to 10 s for the document to be accepted.
func TestWithoutALeaderADocumentIsStoredAndNotYetAccepted(t *testing.T) {
	e := startEtcd(t)
	got := e.expect(statusNotHere, "apply", e.file("shop.yaml", strings.Replace(blueYAML(), "gateways: [edge]\n", "", 1)))
	contains(t, got.err, "Stored; waiting for a leader", "apply: the documents are stored, but no leader has accepted them within 10 s")
	contains(t, e.expect(0, "get").out, "not accepted yet")
	contains(t, e.expect(0, "why", "shop").out, "shop is not served yet: no leader has looked at its document.", "No replica leads")
	contains(t, e.expect(statusNotHere, "wait", "shop", "--timeout", "100ms").err, "wait shop: not over within 100ms: no leader has accepted its document yet")
}

func TestLintFindsWithoutAServerWhatApplyWould(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.yaml", shopYAML)
	if got := rampart("lint", good); got.status != 0 || got.out != "1 document, no problems.\n" {
		t.Errorf("a good document: %d %q%q", got.status, got.out, got.err)
	}
	bad := file("bad.yaml", "service: other\nhosts: [shop.example.com]\nbackends: {blue: {revision: v1}}\nserve: blue\nplan: {soaak: 1s}\n")
	got := rampart("lint", good, bad)
	if got.status != statusNo {
		t.Errorf("a bad document: %d %q%q", got.status, got.out, got.err)
	}
	contains(t, got.err, "bad.yaml:5:8: plan.soaak: unknown field; did you mean `soak`?")
	clash := file("clash.yaml", strings.Replace(blueYAML(), "service: shop", "service: other", 1))
	if got := rampart("lint", good, clash); got.status != statusNo || !strings.Contains(got.err, "shop.example.com") {
		t.Errorf("two documents with one host: %d %q", got.status, got.err)
	}
	partial := file("partial.yaml", strings.Replace(shopYAML, "backends:", "routes: [{match: {prefix: /api}}]\nbackends:", 1))
	if got := rampart("lint", partial); got.status != 0 || !strings.Contains(got.out, "warning: ") {
		t.Errorf("routes without a catch-all: %d %q%q", got.status, got.out, got.err)
	}
	if got := rampartWith(t.Context(), shopYAML, "lint", "-"); got.status != 0 {
		t.Errorf("standard input: %d %q", got.status, got.err)
	}
}

// DESIGN §9: delete asks, or needs --yes; it is refused while a release runs.
func TestDeletingAsksAndIsRefusedWhileAReleaseRuns(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML), e.file("shop.yaml", blueYAML()))
	before := e.dump()
	contains(t, e.expect(statusUsage, "delete", "shop").err, "delete shop: nobody is there to ask (standard input is no terminal): add --yes")
	contains(t, e.expect(statusNo, "delete", "gateway", "edge", "--yes").err, "delete gateway edge: it serves shop")
	contains(t, e.expect(statusNo, "delete", "nothing", "--yes").err, "delete nothing: there is no service nothing; there are: shop")
	if after := e.dump(); after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
	e.expect(0, "apply", e.file("shop.yaml", shopYAML))
	contains(t, e.expect(statusNo, "delete", "shop", "--yes").err, "delete shop: its release of green v42 runs (gated at 0 %)")
	e.expect(0, "rollback", "shop")
	contains(t, e.expect(0, "delete", "shop", "--yes").out, "shop is no longer served.")
	contains(t, e.expect(0, "delete", "gateway", "edge", "--yes").out, "Gateway edge is gone.")
	e.etcdctl("put", "/rampart/v1/servces/shop", "mistyped")
	got := e.expect(0, "get")
	contains(t, got.out, "There are no services.")
	contains(t, got.err, "get: /rampart/v1/servces/shop does not belong under rampart's keys; it is ignored")
	contains(t, e.expect(0, "history", "shop").out, "stopped: ")
}

func TestAPersonMaySayNo(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\n": true, "n\n": false, "\n": false, "": false, "shop\n": false} {
		out := &live{}
		a := newApp(streams{in: strings.NewReader(answer), out: out, err: out})
		a.asks = true
		if err := (consent{}).ask(t.Context(), a, "Stop serving shop?"); (err == nil) != want {
			t.Errorf("%q: %v", answer, err)
		}
		contains(t, out.String(), "Stop serving shop? [y/N]")
	}
}

// A pipe that never says anything must not hold up a pipeline that wants to end.
func TestReadingDocumentsEndsWhenItIsInterrupted(t *testing.T) {
	silent, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	for _, command := range []string{"lint", "apply"} {
		ctx, cancel := context.WithCancel(t.Context())
		errs := &live{}
		ended := make(chan int, 1)
		go func() { ended <- run(ctx, []string{command, "-"}, streams{in: silent, out: &live{}, err: errs}) }()
		cancel()
		if status := <-ended; status != statusNotHere || !strings.Contains(errs.String(), "interrupted while reading stdin") {
			t.Errorf("%s: status %d, %q", command, status, errs)
		}
	}
}

// An etcd that lost everything must not look as if nothing had ever been served.
func TestWhatReplicasMissIsSaidWhereEtcdHasNothing(t *testing.T) {
	e := startEtcd(t)
	l := e.lead()
	l.set(func(l *leader) {
		l.alarms = []string{"shop: its served key is gone", "gateway edge: its document is gone"}
	})
	eventually(t, "get tells of it", func() bool { return strings.Contains(e.rampart("get").out, "  shop: its served key is gone\n") })
	contains(t, e.expect(statusNo, "why", "shop").err, "why shop: etcd has no service shop, and replicas raise alarms: shop: its served key is gone")
}

func TestAServiceWhoseOnlyDocumentWasRefusedCanBeDeleted(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	e.put(store.ServiceDoc, "shop", "service: [")
	eventually(t, "it is refused", func() bool { return strings.Contains(e.rampart("get").out, "newest document refused") })
	e.expect(0, "delete", "shop", "--yes")
	contains(t, e.expect(0, "get").out, "There are no services")
}

func TestApplyTakesMoreDocumentsThanOneTransaction(t *testing.T) {
	e := startEtcd(t)
	e.lead()
	e.expect(0, "apply", e.file("edge.yaml", edgeYAML))
	var all []string
	for i := range 2*store.MaxWrites + 1 {
		name := fmt.Sprintf("s%d", i)
		all = append(all, strings.NewReplacer("service: shop", "service: "+name, "shop.example.com", name+".example.com").Replace(blueYAML()))
	}
	got := e.expect(0, "apply", e.file("many.yaml", strings.Join(all, "---\n")))
	contains(t, got.out, "s0 serves blue", fmt.Sprintf("s%d serves blue", 2*store.MaxWrites))
}

func TestOfManyDocumentsItIsSaidHowManyWereWrittenBeforeOneWasRefused(t *testing.T) {
	e := startEtcd(t)
	var changes []change
	for i := range store.MaxWrites + 1 {
		doc := policy.Document{Name: fmt.Sprintf("s%d", i), Service: &policy.Service{}, Text: []byte("service")}
		changes = append(changes, change{doc: doc})
	}
	changes[store.MaxWrites].before.Mod = 1 // it has gone since
	err := put(t.Context(), e.store, changes)
	if err == nil || !strings.Contains(err.Error(), "64 of 65 documents were written") {
		t.Errorf("%v", err)
	}
}
