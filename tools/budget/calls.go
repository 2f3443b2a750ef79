package main

import (
	"go/ast"
	"slices"
	"strings"
)

// calls looks for clocks, sleeps and skips, whether they are called or passed on.
func (r *report) calls() {
	ast.Inspect(r.file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		from, ok := s.X.(*ast.Ident)
		if !ok {
			return true
		}
		r.selector(s, from.Name, s.Sel.Name)
		return true
	})
}

func (r *report) selector(n ast.Node, from, name string) {
	switch {
	case from == "time" && name == "Sleep":
		if !r.sleeper {
			r.add(n, "time.Sleep: wait for a condition, or test under testing/synctest")
		}
	case from == "time" && slices.Contains([]string{"Now", "Since", "Until"}, name):
		if !r.test() && !r.within("cmd", "replica", "testenv") {
			r.add(n, "time.%s: take the time, or a clock, from the caller", name)
		}
	case r.test() && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, name):
		if slices.Contains([]string{"t", "b", "f", "tb"}, from) {
			r.add(n, "%s.%s: a test that cannot run has to fail", from, name)
		}
	}
}

func (s source) importing(path string) bool {
	return slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return strings.Trim(i.Path.Value, `"`) == path })
}

// within tells whether the file lies in one of the folders or below it.
func (r *report) within(folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return r.folder == f || strings.HasPrefix(r.folder, f+"/") })
}
