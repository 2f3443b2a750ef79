package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/clipperhouse/displaywidth"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"
)

// screen is what standard output is connected to. The zero value is a file: no colours, no redrawing, lines as long as they are.
type screen struct {
	live   bool // a terminal that lines can be redrawn on
	colour bool
	width  int // cells of a line; 0: unlimited
	file   *os.File
}

// colour is a meaning rather than a hue; the words say the same without it.
type colour string

const (
	plain colour = ""
	bold  colour = "1"
	good  colour = "32"
	alert colour = "31"
	waits colour = "33"
	faint colour = "2"
)

// isTerminal is false for everything that is no file, which is what tests and other programs give.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// screenOf looks at what out is. NO_COLOR, set to anything, and TERM=dumb turn colours off.
func screenOf(out io.Writer) screen {
	s := screen{}
	if isTerminal(out) {
		s.file, _ = out.(*os.File)
		s.live = os.Getenv("TERM") != "dumb"
		s.colour = s.live && os.Getenv("NO_COLOR") == ""
	}
	s.width = s.widthNow()
	return s
}

// widthNow is the width at this moment: terminals are resized. COLUMNS speaks for what is no terminal.
func (s screen) widthNow() int {
	if s.file != nil {
		if width, _, err := term.GetSize(int(s.file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	width, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err != nil || width < 20 {
		return 0
	}
	return width
}

// heightNow is how many lines the screen shows; 0: unlimited.
func (s screen) heightNow() int {
	if s.file == nil {
		return 0
	}
	_, height, err := term.GetSize(int(s.file.Fd()))
	if err != nil {
		return 0
	}
	return height
}

// paint colours a text on terminals that show colours.
func (s screen) paint(c colour, text string) string {
	if !s.colour || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// fit shortens a line to the screen, which an ellipsis shows.
func (s screen) fit(line string) string {
	if s.width == 0 || displaywidth.String(line) <= s.width {
		return line
	}
	return displaywidth.TruncateString(line, s.width, "…")
}

// clean makes text that others wrote safe to print: control characters could redraw the terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Bidi_Control, r) {
			return '·'
		}
		return r
	}, text)
}

// table is rows of cells, the first of them the heading.
type table [][]string

// lines aligns the columns by what terminals show of them, not by bytes, and keeps to the width by shortening the last column.
func (t table) lines(s screen) []string {
	var widths []int
	for _, row := range t {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], displaywidth.String(clean(cell)))
		}
	}
	lines := make([]string, 0, len(t))
	for n, row := range t {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(pad(clean(cell), widths[i]) + "  ")
		}
		text := s.fit(strings.TrimRight(line.String(), " "))
		if n == 0 {
			text = s.paint(bold, text)
		}
		lines = append(lines, text)
	}
	return lines
}

// pad fills up to a width in cells.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-displaywidth.String(text)))
}

// padLeft aligns numbers.
func padLeft(text string, width int) string {
	return strings.Repeat(" ", max(0, width-displaywidth.String(text))) + text
}

// wrap breaks a paragraph into lines of the screen's width, the second and later ones indented.
func (s screen) wrap(text, indent string) string {
	if s.width == 0 || displaywidth.String(text) <= s.width {
		return text
	}
	lead := text[:len(text)-len(strings.TrimLeft(text, " "))]
	var lines []string
	line := lead
	for _, word := range strings.Fields(text) {
		candidate := line + " " + word
		if strings.TrimSpace(line) == "" {
			candidate = line + word
		}
		if displaywidth.String(candidate) > s.width && strings.TrimSpace(line) != "" {
			lines = append(lines, line)
			candidate = indent + word
		}
		line = candidate
	}
	return strings.Join(append(lines, line), "\n")
}

func (a *app) printTable(t table) {
	for _, line := range t.lines(a.screen) {
		a.say("%s", line)
	}
}

// format is how an answer is printed.
type format string

const (
	asTable format = "table"
	asYAML  format = "yaml"
	asJSON  format = "json"
)

// outputFlag adds -o to a command.
func outputFlag(c *cobra.Command, f *format, allowed ...format) {
	*f = allowed[0]
	names := make([]string, len(allowed))
	for i, one := range allowed {
		names[i] = string(one)
	}
	c.Flags().VarP(formatFlag{f, allowed}, "output", "o", strings.Join(names, ", "))
	// The only error is a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

type formatFlag struct {
	into    *format
	allowed []format
}

// String is also called on a zero value, to find out whether there is a default.
func (f formatFlag) String() string {
	if f.into == nil {
		return ""
	}
	return string(*f.into)
}

func (f formatFlag) Type() string { return "format" }

func (f formatFlag) Set(text string) error {
	if !slices.Contains(f.allowed, format(text)) {
		return fmt.Errorf("expected one of %v", f.allowed)
	}
	*f.into = format(text)
	return nil
}

// printValue writes any value as JSON or as YAML with the same names.
func (a *app) printValue(f format, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", f, err)
	}
	if f == asYAML {
		if data, err = yamlOf(data); err != nil {
			return fmt.Errorf("write %s: %w", f, err)
		}
	}
	a.say("%s", strings.TrimRight(string(data), "\n"))
	return nil
}

// yamlOf turns JSON into YAML in block style, fields in their order.
func yamlOf(data []byte) ([]byte, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil {
		return nil, err
	}
	unflow(&node)
	return yaml.Marshal(&node)
}

// unflow takes the flow style off the collections, and off the strings the quotes that YAML does not need; Marshal puts back those it does.
func unflow(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		unflow(child)
	}
}

// errEnough ends a watch that has seen what it waited for.
var errEnough = errors.New("enough seen")
