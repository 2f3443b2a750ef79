package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// source is a parsed file with the place it has in the module.
type source struct {
	set    *token.FileSet
	file   *ast.File
	folder string // below the module's root, with slashes; "." is the root
	name   string // as problems name it
}

func (s source) test() bool { return strings.HasSuffix(s.name, "_test.go") }

// at is the place of a node, for a problem.
func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(n.Pos()).Line)
}

// read parses all Go files below a folder. Modules within it, folders that begin with a dot, and testdata are not ours.
func read(root string) ([]source, error) {
	var files []source
	err := filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return foreign(root, name)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(name), text)
		files = append(files, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the sources: %w", err)
	}
	return files, nil
}

// foreign skips folders that are not of this module.
func foreign(root, name string) error {
	base := filepath.Base(name)
	if name == "." {
		return nil
	}
	_, err := os.Stat(filepath.Join(root, name, "go.mod"))
	if strings.HasPrefix(base, ".") || base == "testdata" || err == nil {
		return filepath.SkipDir
	}
	return nil
}

func parse(name string, text []byte) (source, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return source{set: set, file: file, folder: path.Dir(name), name: name}, err
}
