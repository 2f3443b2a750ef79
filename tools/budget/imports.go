package main

import (
	"slices"
	"strings"
)

const module = "github.com/rampart-proxy/rampart/"

// anything is an entry of the table below: every package of ours but those in cmd.
const anything = "*"

// edge is one row of the table in DESIGN.md §2: a package and what of ours it may import.
type edge struct {
	from string
	to   []string
}

func edges() []edge {
	return []edge{
		{from: "policy", to: []string{"policy/judge"}},
		{from: "policy/judge"},
		{from: "policy/simulation", to: []string{"policy", "policy/judge"}},
		{from: "store", to: []string{"policy"}},
		{from: "xds"},
		{from: "envoy", to: []string{"policy", "policy/judge", "xds"}},
		{from: "queries", to: []string{"policy"}},
		{from: "web", to: []string{"policy", "store"}},
		{from: "replica", to: []string{"policy", "policy/judge", "store", "xds", "envoy", "queries"}},
		{from: "testenv", to: []string{anything}},
		{from: "cmd", to: []string{anything}},
	}
}

// imports compares a file's imports with the table. The longest entry that the file lies in counts.
func (r *report) imports() {
	row, known := r.row()
	for _, i := range r.file.Imports {
		to, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module)
		if !ours {
			continue
		}
		switch {
		case !known:
			r.add(i, "package %s is not in the table of DESIGN.md §2 and may import nothing of ours", r.folder)
		case slices.Contains(row.to, to):
		case slices.Contains(row.to, anything) && !strings.HasPrefix(to, "cmd/"):
		case to == row.from, strings.HasPrefix(to, row.from+"/") && row.from != "policy":
		default:
			r.add(i, "package %s may not import %s (DESIGN.md §2)", r.folder, to)
		}
	}
}

func (r *report) row() (found edge, known bool) {
	for _, e := range edges() {
		if r.within(e.from) && len(e.from) >= len(found.from) {
			found, known = e, true
		}
	}
	return found, known
}
