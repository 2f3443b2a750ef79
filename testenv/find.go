package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// oldestEnvoy is the oldest release that keeps rampart's promises (1.<this>).
const oldestEnvoy = 38

var (
	errNoEnvoy      = errors.New("find an Envoy: neither $ENVOY nor an envoy of at least 1.38 on the PATH nor one in .build; `make envoy` fetches it")
	errNoOldest     = errors.New("find the oldest Envoy that is served: neither $ENVOY_OLDEST nor one in .build; `make envoy` fetches it")
	errNoPrometheus = errors.New("find a Prometheus: neither $PROMETHEUS nor a prometheus on the PATH nor one in .build; `make prometheus` fetches it")
)

// FindEnvoy is the path of the Envoy to use: $ENVOY, an envoy of at least 1.38 on the PATH, or the one that `make envoy` fetched, looked for in .build of
// the working folder, of the folder of our own binary, and of the folders above them.
func FindEnvoy() (string, error) {
	if os.Getenv("ENVOY") != "" {
		return named("ENVOY")
	}
	if path, err := exec.LookPath("envoy"); err == nil && recent(path) {
		return filepath.Abs(path)
	}
	if path := fetched(filepath.Join("envoy", "*", "envoy")); path != "" {
		return path, nil
	}
	return "", errNoEnvoy
}

// FindOldestEnvoy is the path of an Envoy of the oldest release that rampart serves: $ENVOY_OLDEST, or the one that `make envoy` fetched, looked for as FindEnvoy does.
func FindOldestEnvoy() (string, error) {
	if os.Getenv("ENVOY_OLDEST") != "" {
		return named("ENVOY_OLDEST")
	}
	if path := fetched(filepath.Join("envoy-oldest", "*", "envoy")); path != "" {
		return path, nil
	}
	return "", errNoOldest
}

// named is the program that a variable of the environment names.
func named(variable string) (string, error) {
	found, err := exec.LookPath(os.Getenv(variable))
	if err != nil {
		return "", fmt.Errorf("find what $%s names: %w", variable, err)
	}
	return filepath.Abs(found)
}

// FindPrometheus is the path of the Prometheus to use: $PROMETHEUS, one on the PATH, or the one that `make prometheus` fetched, looked for as FindEnvoy does.
func FindPrometheus() (string, error) {
	if os.Getenv("PROMETHEUS") != "" {
		return named("PROMETHEUS")
	}
	if path, err := exec.LookPath("prometheus"); err == nil {
		return filepath.Abs(path)
	}
	if path := fetched(filepath.Join("prometheus", "*", "prometheus")); path != "" {
		return path, nil
	}
	return "", errNoPrometheus
}

// fetched looks for a program in .build of the working folder, of the folder of our own binary, and of the folders above them; "" is none.
func fetched(pattern string) string {
	var starts []string
	if folder, err := os.Getwd(); err == nil {
		starts = append(starts, folder)
	}
	if path, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(path))
	}
	for _, start := range starts {
		if path := fetchedAbove(start, pattern); path != "" {
			return path
		}
	}
	return ""
}

// fetchedAbove looks for a program in .build of a folder and of all above it.
func fetchedAbove(folder, pattern string) string {
	for {
		// A pattern that is well formed cannot fail, and only one version is there at a time.
		found, _ := filepath.Glob(filepath.Join(folder, ".build", pattern))
		if len(found) > 0 {
			return found[len(found)-1]
		}
		above := filepath.Dir(folder)
		if above == folder {
			return ""
		}
		folder = above
	}
}

// recent asks an Envoy for its version; one that does not answer is not recent.
func recent(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	said, err := exec.CommandContext(ctx, path, "--version").Output()
	return err == nil && recentVersion(string(said))
}

// recentVersion reads what `envoy --version` says, such as "envoy  version: 3a1b…/1.40.0/Clean/RELEASE/BoringSSL".
func recentVersion(said string) bool {
	parts := regexp.MustCompile(`/(\d+)\.(\d+)\.\d+`).FindStringSubmatch(said)
	if parts == nil {
		return false
	}
	major, _ := strconv.Atoi(parts[1]) // digits, as the expression says
	minor, _ := strconv.Atoi(parts[2])
	return major > 1 || major == 1 && minor >= oldestEnvoy
}
