package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Source       string // file or key; "" when unknown
	Line, Column int    // counted from 1; 0 when unknown
	Path         string // "plan.steps[2]"; "" is the whole document
	Text         string // what is wrong, then what was expected
}

// Error prints the problem in one line: "shop.yaml:14:3: plan.stepz: unknown field; did you mean `steps`?". What is not known is left out.
func (p Problem) Error() string {
	var out strings.Builder
	out.WriteString(p.Source)
	if p.Line > 0 {
		if p.Source == "" {
			out.WriteString("line ")
		} else {
			out.WriteString(":")
		}
		out.WriteString(strconv.Itoa(p.Line))
		if p.Column > 0 {
			out.WriteString(":" + strconv.Itoa(p.Column))
		}
	}
	if out.Len() > 0 {
		out.WriteString(": ")
	}
	if p.Path != "" {
		out.WriteString(p.Path + ": ")
	}
	out.WriteString(p.Text)
	return out.String()
}

// Problems is all that is wrong with an input, in the order of its lines. It is an error if it is not empty.
type Problems []Problem

// Error prints one problem per line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// mostProblems is how many problems of one document are told. A refusal is stored beside what is served, so its size must be bounded.
const mostProblems = 20

// sorted orders the problems of one document by their place, and cuts what is more than anybody reads.
func (p Problems) sorted() Problems {
	// Stable, so that problems of one place stay in the order in which the document's fields are looked at.
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	if len(p) <= mostProblems {
		return p
	}
	rest := Problem{Source: p[0].Source, Text: fmt.Sprintf("and %d more problems", len(p)-mostProblems)}
	return append(p[:mostProblems:mostProblems], rest)
}

// longest is how much of a value a problem repeats.
const longest = 80

// clip shortens a text of the document for a message, on a character's border.
func clip(text string) string {
	if len(text) <= longest {
		return text
	}
	cut := longest
	for cut > 0 && text[cut]&0xc0 == 0x80 {
		cut--
	}
	return text[:cut] + "…"
}

// quoted shows a value of the document in a message: bounded, in one line, and harmless to a terminal.
func quoted(value string) string { return strconv.Quote(clip(value)) }

// under returns the path of a field within path. A key of the document that could be mistaken in a path is quoted.
func under(path, key string) string {
	odd := func(letter rune) bool { return !unicode.IsPrint(letter) || strings.ContainsRune(` :"'[]{}`, letter) }
	if key == "" || len(key) > longest || strings.ContainsFunc(key, odd) {
		key = quoted(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// item returns the path of a list's item.
func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent returns the path that holds path; "" for the document itself.
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }
