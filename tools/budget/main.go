// Command budget checks what STYLE.md and DESIGN.md promise of the code and no linter knows: lengths of functions, width of interfaces, package state,
// clocks, sleeps and skips, names, and which package may import which.
//
//	budget FOLDER
//
// It reads the sources below FOLDER, prints a line per problem, and exits with 1 if there is one.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: budget FOLDER")
		os.Exit(2)
	}
	os.Exit(run(os.Args[1], os.Stdout, os.Stderr))
}

// run checks a tree and returns the exit status.
func run(folder string, out, problems io.Writer) int {
	files, err := read(folder)
	if err != nil {
		fmt.Fprintln(problems, "budget:", err)
		return 2
	}
	found, sum := inspect(files)
	for _, p := range found {
		fmt.Fprintln(problems, p)
	}
	if len(found) > 0 {
		return 1
	}
	fmt.Fprintf(out, "%d functions of %.1f lines on average, %d files\n", sum.functions, sum.mean(), len(files))
	return 0
}
