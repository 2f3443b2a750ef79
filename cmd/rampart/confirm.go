package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// consent is a person's yes to what cannot be undone: given with --yes, or asked for.
type consent struct{ given bool }

func (c *consent) register(flags *pflag.FlagSet) {
	flags.BoolVar(&c.given, "yes", false, "do not ask")
}

// ask returns nil only for a yes. Where nobody can answer, the yes must have been given: a script must not hang, nor delete by accident.
func (c consent) ask(ctx context.Context, a *app, question string) error {
	if c.given {
		return nil
	}
	if !a.asks {
		return usage("nobody is there to ask (standard input is no terminal): add --yes")
	}
	// The question goes where answers of programs do not.
	if _, err := fmt.Fprintf(a.err, "%s [y/N] ", question); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	answered := make(chan string, 1)
	go func() {
		// What cannot be read is not a yes.
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil {
			line = ""
		}
		answered <- line
	}()
	// The reader cannot be interrupted: on Ctrl-C it is left behind, and ends with the process.
	select {
	case line := <-answered:
		if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
			return nil
		}
	case <-ctx.Done():
	}
	return refusal("not confirmed; nothing was changed")
}
