package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// simulated runs `rampart simulate` on a document from standard input.
func simulated(t *testing.T, status int, document, flags string) answer {
	t.Helper()
	got := rampartWith(t.Context(), document, append([]string{"simulate", "-"}, strings.Fields(flags)...)...)
	if got.status != status {
		t.Fatalf("simulate %s: exit status %d, want %d\n%s%s", flags, got.status, status, got.out, got.err)
	}
	return got
}

// cutover is a service whose releases last seconds.
const cutover = "service: shop\nhosts: [shop.example.com]\nserve: green\nplan: {cutover: {}}\n" +
	"backends: {blue: {endpoints: [\"127.0.0.1:1\"]}, green: {endpoints: [\"127.0.0.1:2\"]}}\n"

func TestSimulateAnswersFirstAndSaysHowSure(t *testing.T) {
	got := simulated(t, 0, cutover, "--rate 100 --runs 12")
	first, _, _ := strings.Cut(got.out, "\n")
	contains(t, first, "A release of green that is as good as blue is committed after ", "(90 % within ", "; 0 of 12 were rolled back (below 25 %).")
	contains(t, got.out, "IF GREEN", "ROLLED BACK", "FLAGGER 60 S × 5", "ARGO 60 S × 2", "from the start\n", "  fails half", "  takes 2 × as long", "  hangs",
		"Simulated: 12 releases of each kind, green over blue, at 100 requests/s of which 0.1 % fail, half within 50 ms and 99 % within 250 ms, seed 1.", "-o json has every number")
	contains(t, got.err, "simulate shop: green over blue at 100 requests/s")
	if again := simulated(t, 0, cutover, "--rate 100 --runs 12"); again.out != got.out {
		t.Errorf("the same question has another answer:\n%s\n%s", got.out, again.out)
	}
	if other := simulated(t, 0, cutover, "--rate 100 --runs 12 --seed 2"); other.out == got.out {
		t.Error("another seed has the same answer")
	}
}

func TestSimulateHasEveryNumberForMachines(t *testing.T) {
	var value simulatedValue
	got := simulated(t, 0, cutover, "--rate 200 --errors 1% --runs 4 --bursts 10 --p50 20ms --p99 80ms -o json")
	if err := json.Unmarshal([]byte(got.out), &value); err != nil {
		t.Fatalf("%v: %s", err, got.out)
	}
	half := value.Regressions[4]
	if value.Service != "shop" || value.Traffic.Errors != 0.01 || value.Traffic.Bursts != 10 || value.Releases != 4 || len(value.Peers) != 3 || len(value.Regressions) != 9 ||
		value.Healthy.Committed+value.Healthy.RolledBack != 4 || half.Name != "fails half" || half.Ours.Found != 4 || half.Ours.Bad <= 0 || half.Ours.By["errors"]+half.Ours.By["guard rail"] != 4 {
		t.Errorf("%s", got.out)
	}
	contains(t, simulated(t, 0, cutover, "--rate 200 --runs 2 -o yaml").out, "regressions:\n", "delaySeconds: ")
}

// One document is chosen as by lint: the only service, or the one that is named.
func TestSimulateFindsItsDocument(t *testing.T) {
	two := cutover + "---\n" + strings.NewReplacer("shop", "cart").Replace(cutover)
	contains(t, simulated(t, statusUsage, two, "--rate 1").err, "simulate: there are several services, cart and shop: choose one with --service")
	contains(t, simulated(t, statusUsage, two, "--rate 1 --service till").err, "simulate: there is no document of service till in -")
	contains(t, simulated(t, statusUsage, edgeYAML, "--rate 1").err, "simulate: there is no document of a service in -")
	contains(t, simulated(t, 0, two, "--rate 50 --runs 1 --service cart").err, "simulate cart: green over blue")
	contains(t, simulated(t, 0, strings.Replace(cutover, "serve: green", "serve: blue", 1), "--rate 50 --runs 1").out, "A release of blue that is as good as green")
	alone := "service: shop\nhosts: [shop.example.com]\nserve: green\nplan: {cutover: {}}\nbackends: {green: {}}\n"
	contains(t, simulated(t, 0, alone, "--rate 50 --runs 1").out, "A release of next that is as good as green")
}

func TestSimulateRefusesWhatMakesNoSense(t *testing.T) {
	for flags, says := range map[string]string{
		"":                           "simulate: say how many requests per second there are, such as --rate 100",
		"--rate 0":                   "--rate 0 is not above 0",
		"--rate NaN":                 "--rate NaN is not above 0",
		"--rate -5":                  "--rate -5 is not above 0",
		"--rate 1 --errors 0.1":      `"0.1" is not a percentage such as 5%`,
		"--rate 1 --errors 100%":     "--errors 100% is not below 100%",
		"--rate 1 --p99 10ms":        "--p99 10ms is below --p50 50ms",
		"--rate 1 --p50 0s":          "--p50 0s and --p99 250ms are not from 1ms to 2m",
		"--rate 1 --p99 1h":          "--p50 50ms and --p99 1h0m0s are not from 1ms to 2m",
		"--rate 1 --bursts 0.5":      "--bursts 0.5 is not from 1 to 1000",
		"--rate 1 --runs 0":          "--runs 0 is not from 1 to 1000000",
		"--rate 1 --limit 0s":        "--limit 0s is not above 0",
		"--rate 1 --limit soon":      `--limit "soon": expected a time`,
		"--rate 1 --patience 1":      "unknown flag: --patience; see `rampart simulate --help`",
		"--rate 1 nowhere.yaml":      "simulate: stat nowhere.yaml: no such file or directory",
		"--rate 1 -o xml":            "expected one of [table yaml json]",
		"--rate 1 --seed -1":         `--seed "-1": expected a whole number, not below 0`,
		"--rate 1 --runs 9999999999": "is not from 1 to 1000000",
	} {
		got := simulated(t, statusUsage, cutover, flags)
		if got.out != "" || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, says) {
			t.Errorf("simulate - %s: %q%q, want one line with %q", flags, got.out, got.err, says)
		}
	}
	if got := rampart("simulate", "--rate", "1"); got.status != statusUsage || !strings.Contains(got.err, "simulate: no documents given") {
		t.Errorf("%+v", got)
	}
	contains(t, simulated(t, statusNo, strings.Replace(cutover, "cutover", "cutovr", 1), "--rate 1").err, "stdin:4:", "cutovr", "did you mean `cutover`?")
	contains(t, simulated(t, statusNo, cutover+"---\nservice: cart\nhosts: [shop.example.com]\nserve: a\nbackends: {a: {}}\n", "--rate 1 --service shop").err, "shop.example.com")
}

func TestSimulateIsInterruptedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(path, []byte(strings.Replace(cutover, "cutover: {}", "steps: [1%], soak: 1000h", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, errs, ended := &live{}, &live{}, make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"simulate", path, "--rate", "1", "--runs", "1000"}, streams{in: strings.NewReader(""), out: out, err: errs})
	}()
	eventually(t, "progress is shown", func() bool { return strings.Contains(errs.String(), "simulate shop: green over blue at 1 request/s") })
	cancel()
	if status := <-ended; status != statusNotHere {
		t.Errorf("exit status %d", status)
	}
	contains(t, errs.String(), "simulate shop: interrupted")
	if out.String() != "" {
		t.Errorf("half an answer: %s", out)
	}
}

func TestProgressIsABarOnATerminalAndLinesElsewhere(t *testing.T) {
	p := newApp(streams{}).newProgress("simulate shop")
	if got := p.text(0); got != "simulate shop" {
		t.Errorf("%q", got)
	}
	p.tell(50, 200)
	p.tell(49, 200) // told late by another goroutine
	if got := p.text(30e9); got != "simulate shop, 50 of 200 releases, 1m30s left" {
		t.Errorf("%q", got)
	}
	p.bar = true
	if got := p.text(0); got != "█████                 simulate shop, 50 of 200 releases" {
		t.Errorf("%q", got)
	}
}
