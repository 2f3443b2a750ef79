package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// AdminAddress is host:port of the Envoy's admin interface.
func (e *Envoy) AdminAddress() string { return e.admin }

// Admin reads a path of the admin interface. Any status but 200 is an error.
func (e *Envoy) Admin(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy %s: %w", e.ID, err)
	}
	answer, err := e.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy %s: %w", e.ID, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy %s for %s: %w", e.ID, path, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask Envoy %s for %s: %s: %s", e.ID, path, answer.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// Ready waits until the Envoy serves: it has its first configuration, or gave up waiting for it.
func (e *Envoy) Ready(ctx context.Context) error {
	return during(ctx, e.Proc, func(ctx context.Context) error {
		return Eventually(ctx, func() (bool, error) {
			_, err := e.Admin(ctx, "/ready")
			return err == nil, err
		})
	})
}

// ConfigDump is what the Envoy says it is configured with, as JSON.
func (e *Envoy) ConfigDump(ctx context.Context) ([]byte, error) {
	return e.Admin(ctx, "/config_dump?include_eds")
}

// Runtime is the final value of every runtime key: what routing goes by, whatever layer it comes from.
func (e *Envoy) Runtime(ctx context.Context) (map[string]string, error) {
	body, err := e.Admin(ctx, "/runtime")
	if err != nil {
		return nil, err
	}
	var said struct {
		Entries map[string]struct {
			Final string `json:"final_value"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return nil, fmt.Errorf("read the runtime of Envoy %s: %w", e.ID, err)
	}
	values := make(map[string]string, len(said.Entries))
	for key, entry := range said.Entries {
		values[key] = entry.Final
	}
	return values, nil
}

// Stats are the counters and gauges whose names begin with prefix.
func (e *Envoy) Stats(ctx context.Context, prefix string) (map[string]int64, error) {
	body, err := e.Admin(ctx, "/stats?filter="+url.QueryEscape("^"+regexp.QuoteMeta(prefix)))
	if err != nil {
		return nil, err
	}
	stats := map[string]int64{}
	for line := range strings.Lines(string(body)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		// Histograms and texts are no numbers.
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			stats[name] = n
		}
	}
	return stats, nil
}
