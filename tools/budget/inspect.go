package main

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"unicode"
)

// The budgets of STYLE.md that are counted here; tools/revive.toml has the others.
const (
	longestFunction = 60 // lines between the braces
	longestMean     = 15 // of them, over all functions
	widestInterface = 3  // methods
)

// lengths add up the functions' lines.
type lengths struct{ functions, lines int }

func (l lengths) mean() float64 { return float64(l.lines) / float64(max(l.functions, 1)) }

// report collects the problems of one file.
type report struct {
	source
	sleeper  bool // a test whose clock is synctest's
	lengths  lengths
	problems []string
}

func (r *report) add(n ast.Node, format string, args ...any) {
	r.problems = append(r.problems, r.at(n)+": "+fmt.Sprintf(format, args...))
}

// inspect returns the problems of all files and the lengths of all functions outside tests.
func inspect(files []source) ([]string, lengths) {
	var problems []string
	var sum lengths
	fake := fakeClocks(files)
	for _, s := range files {
		r := report{source: s, sleeper: s.test() && fake[s.folder]}
		r.calls()
		if !s.test() {
			r.imports()
			r.declarations()
		}
		problems = append(problems, r.problems...)
		sum.functions += r.lengths.functions
		sum.lines += r.lengths.lines
	}
	if sum.mean() > longestMean {
		problems = append(problems, fmt.Sprintf("functions have %.1f lines on average, the budget is %d", sum.mean(), longestMean))
	}
	return problems, sum
}

// fakeClocks are the folders whose tests run under testing/synctest: sleeping costs no time there and is exact. The call often stands in another file than
// the import, so the whole folder is trusted.
func fakeClocks(files []source) map[string]bool {
	fake := map[string]bool{}
	for _, s := range files {
		if s.test() && s.importing("testing/synctest") {
			fake[s.folder] = true
		}
	}
	return fake
}

func (r *report) declarations() {
	for _, d := range r.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			r.function(d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				r.spec(d, spec)
			}
		}
	}
}

func (r *report) function(f *ast.FuncDecl) {
	name := f.Name.Name
	if name == "init" && f.Recv == nil {
		r.add(f, "init: what happens at start is called by main")
	}
	if rest, get := strings.CutPrefix(name, "Get"); get && rest != "" && unicode.IsUpper(rune(rest[0])) {
		r.add(f, "%s: what is returned is its name, without Get", name)
	}
	r.noun(f, name)
	if f.Body == nil {
		return
	}
	lines := r.set.Position(f.Body.Rbrace).Line - r.set.Position(f.Body.Lbrace).Line - 1
	lines = max(lines, 1)
	r.lengths.functions++
	r.lengths.lines += lines
	if lines > longestFunction {
		r.add(f, "%s has %d lines, the budget is %d", name, lines, longestFunction)
	}
}

// noun refuses names that say nothing.
func (r *report) noun(n ast.Node, name string) {
	for _, empty := range []string{"Manager", "Handler", "Helper", "Util", "Utils", "Impl", "Info", "Data"} {
		if strings.HasSuffix(name, empty) {
			r.add(n, "%s: %s says nothing, use the operator's word", name, empty)
		}
	}
}

func (r *report) spec(d *ast.GenDecl, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		r.noun(s, s.Name.Name)
		if i, ok := s.Type.(*ast.InterfaceType); ok && methods(i) > widestInterface {
			r.add(s, "interface %s has %d methods, the budget is %d", s.Name.Name, methods(i), widestInterface)
		}
	case *ast.ValueSpec:
		if d.Tok.String() == "var" && !r.allowed(d, s) {
			r.add(s, "package variable %s: only errors, embedded files and the version may be ones", s.Names[0].Name)
		}
	}
}

// methods counts an embedded interface as one: what is in it is its own package's budget.
func methods(i *ast.InterfaceType) int {
	n := 0
	for _, field := range i.Methods.List {
		n += max(len(field.Names), 1)
	}
	return n
}

// allowed tells the package variables that nobody changes: errors, embedded files, what the linker sets, and assertions about types.
func (r *report) allowed(d *ast.GenDecl, s *ast.ValueSpec) bool {
	embedded := func(c *ast.CommentGroup) bool {
		return c != nil && slices.ContainsFunc(c.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
	}
	name := s.Names[0].Name
	switch {
	case name == "_", embedded(d.Doc), embedded(s.Doc):
		return true
	case isIdent(s.Type, "error"):
		return true
	case isIdent(s.Type, "string") && len(s.Values) == 0 && r.file.Name.Name == "main":
		return true
	}
	return len(s.Values) > 0 && !slices.ContainsFunc(s.Values, func(e ast.Expr) bool { return !makesError(e) })
}

func makesError(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && (isSelector(call.Fun, "errors", "New") || isSelector(call.Fun, "fmt", "Errorf"))
}

func isIdent(e ast.Expr, name string) bool {
	i, ok := e.(*ast.Ident)
	return ok && i.Name == name
}

func isSelector(e ast.Expr, from, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && isIdent(s.X, from) && s.Sel.Name == name
}
