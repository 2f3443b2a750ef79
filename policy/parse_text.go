package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// piece is the text of one document of an input.
type piece struct {
	text   []byte
	before int // lines of the input that come before it
}

// split cuts an input into its documents. YAML allows a line that starts with --- or ... nowhere but between documents, not even in a quoted text, so that
// looking at the starts of lines is exact.
func split(data []byte) []piece {
	var pieces []piece
	current := piece{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		separates, holds := marker(line)
		if !separates {
			current.text = append(current.text, line...)
			continue
		}
		pieces = append(pieces, current)
		current = piece{before: number}
		if holds {
			current = piece{before: number - 1, text: bytes.Clone(line)}
		}
	}
	pieces = append(pieces, current)
	// Separators before the first document and behind the last one are usual.
	kept := pieces[:0]
	for _, p := range pieces {
		if len(bytes.TrimSpace(p.text)) > 0 {
			kept = append(kept, p)
		}
	}
	return kept
}

// marker reports whether a line separates documents, and whether it holds the start of the next one too: "--- {service: shop}".
func marker(line []byte) (separates, holds bool) {
	if len(line) < 3 || (string(line[:3]) != "---" && string(line[:3]) != "...") {
		return false, false
	}
	rest := line[3:]
	if len(rest) > 0 && !bytes.ContainsAny(rest[:1], " \t\r\n") {
		return false, false
	}
	rest = bytes.TrimSpace(rest)
	return true, len(rest) > 0 && rest[0] != '#'
}

// unmarshal reads one document's text into nodes: nil and nil if there is nothing in it. The parser does not follow aliases, and it limits its depth, so its
// time and memory are bounded by the size of the text.
func unmarshal(text []byte) (root *yaml.Node, problem *Problem) {
	// No document may stop a leader, whatever bug it finds in the parser.
	defer func() {
		if bug := recover(); bug != nil {
			root, problem = nil, &Problem{Text: "cannot be read as YAML: the parser failed"}
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(plainJSON(text)))
	// A second document can hide behind a line break that only YAML knows, such as a lone carriage return.
	var document, second yaml.Node
	// A text of comments only ends before it begins.
	err := decoder.Decode(&document)
	if err == io.EOF {
		return nil, nil
	}
	if err != nil {
		return nil, notYAML(err, text)
	}
	if err := decoder.Decode(&second); err != io.EOF {
		return nil, &Problem{Line: second.Line, Text: "more than one document; separate them by lines of ---"}
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, nil
	}
	return document.Content[0], nil
}

// notYAML turns the parser's error into a problem with a line.
func notYAML(err error, text []byte) *Problem {
	parts := regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`).FindStringSubmatch(err.Error())
	if parts == nil {
		return &Problem{Text: "cannot be read as YAML: " + clip(err.Error())}
	}
	line, words := 1, parts[2]
	if parts[1] != "" {
		line, _ = strconv.Atoi(parts[1]) // digits, by the expression
		if strings.HasPrefix(words, "did not find expected") {
			line++ // for these the parser counts lines from 0
		}
	}
	switch {
	case strings.HasPrefix(words, "unknown anchor"):
		line, words = 0, "aliases (*name) are not supported: write the value out"
	case strings.HasPrefix(words, "found character that cannot start any token") && startsWithTab(text, line):
		words = "a tab; YAML is indented with spaces"
	}
	return &Problem{Line: line, Text: "cannot be read as YAML: " + clip(words)}
}

// startsWithTab reports whether a line is indented with a tab: the likeliest reason for the parser's odd words about it.
func startsWithTab(text []byte, line int) bool {
	lines := bytes.SplitN(text, []byte("\n"), line+1)
	return line <= len(lines) && bytes.HasPrefix(bytes.TrimLeft(lines[line-1], " "), []byte("\t"))
}

// plainJSON writes out the two escapes that JSON has and YAML has not: \/ and pairs of surrogates. Everything else of JSON is YAML. Columns behind such an
// escape are a little too small.
func plainJSON(text []byte) []byte {
	// Few documents have such escapes, and only valid JSON may be rewritten: in YAML the same letters can mean something else.
	if !bytes.Contains(text, []byte(`\/`)) && !bytes.Contains(text, []byte(`\u`)) || !json.Valid(text) {
		return text
	}
	// The second half of the expression takes every other escape whole, so that an escaped backslash is not mistaken for the start of one.
	escapes := regexp.MustCompile(`\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|.)`)
	return escapes.ReplaceAllFunc(text, func(escape []byte) []byte {
		var letter string
		if string(escape) != `\/` && len(escape) != len(`\ud83d\ude00`) {
			return escape
		}
		if err := json.Unmarshal(fmt.Appendf(nil, `"%s"`, escape), &letter); err != nil || !utf8.ValidString(letter) {
			return escape
		}
		return []byte(letter)
	})
}
