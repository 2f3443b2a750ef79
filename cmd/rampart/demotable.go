package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// summary is a result in one line.
func (r result) summary() string {
	if r.Kept {
		return "kept. " + r.Measured
	}
	return "MISSED: " + r.Why
}

// beside is the indent of what belongs to an act.
const beside = "          "

// resultLines is what is printed at the end: for each act what was promised and what was measured.
func resultLines(results []result, s screen) []string {
	lines := []string{""}
	for _, r := range results {
		mark, paint := "kept", good
		if !r.Kept {
			mark, paint = "MISSED", alert
		}
		heading := s.wrap(fmt.Sprintf("%s  %d. %s", mark, r.Act, r.Title), beside)
		lines = append(lines, s.paint(paint, mark)+s.paint(bold, strings.TrimPrefix(heading, mark)))
		lines = append(lines, s.wrap(beside+"promised "+r.Promise, beside+"  "))
		lines = append(lines, s.wrap(beside+"measured "+r.Measured, beside+"  "))
		if !r.Kept {
			lines = append(lines, s.wrap(beside+"missed   "+clean(r.Why), beside+"  "))
		}
	}
	lines = append(lines, "")
	return append(lines, figures(results).lines(s)...)
}

// figures is the table of what `--output json` has for machines.
func figures(results []result) table {
	t := table{{"ACT", "OUTCOME", "SECONDS", "REQUESTS", "FAILED", "ONSET TO LAST BAD", "ONSET TO LAST ACK", "STEPS", "PROMISE"}}
	for _, r := range results {
		verdict := "kept"
		if !r.Kept {
			verdict = "MISSED"
		}
		t = append(t, []string{
			fmt.Sprint(r.Act), r.Outcome, fmt.Sprintf("%.1f", r.Seconds), fmt.Sprint(r.Requests), fmt.Sprint(r.Failed),
			msText(r.OnsetToLastBadMs), msText(r.OnsetToLastAckMs), fmt.Sprint(r.StepsConfirmed), verdict,
		})
	}
	return t
}

// stayVersion is what can be released while the demo stays: a version of which nothing is known yet. The way back to the one before would be a cutover.
const stayVersion = "v8"

// stay keeps the fleet and its load up until ctx ends, and says what can be tried.
func (s *stage) stay(ctx context.Context) error {
	if err := s.fleet.deploy(ctx, s.fleet.idle(), stayVersion); err != nil {
		return err
	}
	path := filepath.Join(s.fleet.folder, demoService+".yaml")
	if err := os.WriteFile(path, s.fleet.document(script{serve: s.fleet.live, plan: demoPlan()}), 0o600); err != nil {
		return fmt.Errorf("write a document to try: %w", err)
	}
	lines := s.fleet.suggestions(path)
	s.mu.Lock()
	for _, line := range lines {
		s.print(line)
	}
	s.mu.Unlock()
	<-ctx.Done()
	return nil
}

// suggestions are commands that work while the fleet is up.
func (f *fleet) suggestions(document string) []string {
	return []string{
		"", "Everything keeps running, users included, until Ctrl-C. In another terminal:", "",
		"  alias rampart=" + f.self,
		"  export RAMPART_DATA=" + f.data(),
		fmt.Sprintf("  curl -si -H 'Host: %s' http://%s/", demoHost, loopback(f.ports.users)),
		"  rampart why " + demoService,
		"  rampart proxies",
		"  rampart history " + demoService,
		fmt.Sprintf("  sed 's/^serve:.*/serve: %s/' %s | rampart etcdctl put /rampart/v1/services/%s", f.idle(), document, demoService),
		"  rampart watch " + demoService,
		"  rampart rollback " + demoService,
		"  rampart etcdctl get --prefix --keys-only /rampart/v1/",
		fmt.Sprintf("  etcdctl --endpoints %s get /rampart/v1/served/services/%s", loopback(f.ports.etcd), demoService),
		"  curl -s http://" + loopback(f.ports.http) + "/metrics", "",
	}
}
