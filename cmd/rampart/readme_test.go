package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/testenv"
)

// fiveMinutes are the commands of the README's section, all blocks in order.
func fiveMinutes(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Five minutes of use\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		commands.WriteString(block[1])
	}
	return commands.String()
}

// The documents that the manual shows are ones that rampart takes, without a warning.
func TestTheManualsDocumentsAreTaken(t *testing.T) {
	text, err := os.ReadFile("../../docs/documents.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Errorf("%d documents, want one of a service and one of a gateway", len(blocks))
	}
	for _, block := range blocks {
		got := rampartWith(t.Context(), block[1], "lint", "-")
		if got.status != 0 || strings.Contains(got.out, "warning") {
			t.Errorf("exit status %d\n%s%s", got.status, got.out, got.err)
		}
	}
}

// The manual's example of a simulation is asked as it stands, for fewer releases, and answers with every line of the table that it shows.
func TestTheManualsSimulationIsAnswered(t *testing.T) {
	text, err := os.ReadFile("../../docs/simulate.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		found := regexp.MustCompile("(?s)```" + kind + "\n(.*?)```").FindStringSubmatch(string(text))
		if found == nil {
			t.Fatalf("no block of %s", kind)
		}
		return found[1]
	}
	args := strings.Fields(strings.Replace(block("sh"), "shop.yaml", "-", 1))
	got := rampartWith(t.Context(), block("yaml"), append(args[1:], "--runs", "2")...)
	if got.status != 0 || args[0] != "rampart" {
		t.Fatalf("%v: exit status %d\n%s", args, got.status, got.err)
	}
	_, shown, _ := strings.Cut(block("text"), "\n\n")
	for line := range strings.Lines(shown) {
		label := regexp.MustCompile(`^ *\S+( \S+)*`).FindString(line)
		contains(t, got.out, "\n"+label)
	}
}

// adapted replaces what a test must not share with others, and lets a script wait where a person would see that it is time. Each of it must be there.
func adapted(t *testing.T, script string, by [][2]string) string {
	t.Helper()
	for _, pair := range by {
		if !strings.Contains(script, pair[0]) {
			t.Fatalf("the README has no %q any more", pair[0])
		}
		script = strings.ReplaceAll(script, pair[0], pair[1])
	}
	return script
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = testenv.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

func writeScript(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// withCurl is the environment with a curl on the PATH. Go, Python and make are all that the tests may expect of a machine; what curl is asked for here is little:
// an answer's text, after its status if the first flags have an i.
func withCurl(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err == nil {
		return os.Environ()
	}
	folder := t.TempDir()
	writeScript(t, filepath.Join(folder, "curl"), `exec python3 -c '
import sys, urllib.request as r
head = dict(a.split(": ") for a in sys.argv if a.startswith("Host: "))
answer = r.urlopen(r.Request(sys.argv[-1], headers=head))
if "i" in sys.argv[1]: print("HTTP/1.1", answer.status, answer.reason)
sys.stdout.write(answer.read().decode())
' "$@"`)
	return append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"))
}

// checkout is a folder in which `make` knows the two targets that the README uses: rampart is this test binary, and the Envoy need not have the machine for itself.
func checkout(t *testing.T) (folder string) {
	t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(makefile), "\nbuild:\n", "-o $(BUILD)/rampart", "\nenvoy:\n")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	envoy, err := testenv.FindEnvoy()
	if err != nil {
		t.Fatal(err)
	}
	// A test's own folder has a name that is too long for sockets.
	if folder, err = os.MkdirTemp("", "rampart-readme-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	scripts := map[string]string{
		"tools/make":     `case "$*" in build) ;; "-s envoy") echo ` + folder + `/tools/envoy ;; *) exit 2 ;; esac`,
		"tools/envoy":    `exec ` + envoy + ` --disable-hot-restart "$@"`,
		".build/rampart": `exec ` + self + ` "$@"`,
	}
	for name, text := range scripts {
		writeScript(t, filepath.Join(folder, name), text)
	}
	return folder
}

// Ports and the plan's times aside, the commands are run as they stand, on a real Envoy and with a real etcd.
func TestTheFiveMinutesOfTheReadmeGoAsTheySay(t *testing.T) {
	ports := freePorts(t, 5)
	users, xds, http := fmt.Sprint(ports[0]), ports[1], ports[2]
	const ask = "curl -s -H 'Host: shop.example.com' http://127.0.0.1:10000/"
	folder := checkout(t)
	script := adapted(t, fiveMinutes(t), [][2]string{
		{"make build", "export PATH=" + folder + `/tools:"$PATH"` + "\nmake build"},
		{"soak: 10s, bake: 10s", "soak: 2s, bake: 2s"},
		{"8081", fmt.Sprint(ports[3])},
		{"8082", fmt.Sprint(ports[4])},
		{"rampart bootstrap", "until rampart get 2> /dev/null; do sleep 0.1; done\n" +
			"printf 'gateway: default\\nlisteners: [{address: 127.0.0.1, port: " + users + "}]\\n' | rampart apply -\nrampart bootstrap"},
		{ask + "   # blue\n", "until " + ask + " | grep -x blue; do sleep 0.1; done\n"},
		{ask + "   # green\n", ask + "\n"},
		{"rampart watch shop", "rampart watch shop > watched & until test -s watched; do sleep 0.1; done; kill -INT $!; wait $!"},
		{"127.0.0.1:10000", "127.0.0.1:" + users},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-euc", script)
	shell.Dir = folder
	shell.Env = append(withCurl(t), "TMPDIR="+folder, fmt.Sprintf("RAMPART_XDS=127.0.0.1:%d", xds), fmt.Sprintf("RAMPART_HTTP=127.0.0.1:%d", http))
	// Whatever goes wrong, nothing of it stays.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	shell.WaitDelay = 5 * time.Second
	output, err := shell.CombinedOutput()
	text := string(output)
	if err != nil {
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL)
		t.Fatalf("%v:\n%s\nof the script\n%s", err, text, script)
	}
	t.Log(text)
	contains(t, text, "shop serves blue v41 from now on", "\nblue\n", "\nOK\n", "shop is paused", "shop goes on", "The release is left alone",
		"shop: green v42 is live\n", "committed: green v42 is live", "\ngreen\n", "Release ", "shop: blue v41 is live\n")
}
