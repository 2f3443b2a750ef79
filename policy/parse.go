package policy

import (
	"fmt"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxDocument is how many bytes a document may have; bigger ones are refused unread.
const MaxDocument = 256 << 10

// Kind tells the two kinds of documents apart. It is the name of the field that holds the document's name.
type Kind string

// The kinds of documents.
const (
	ServiceDocument Kind = "service"
	GatewayDocument Kind = "gateway"
)

// Document is one parsed document. Either Service or Gateway is set, without defaults.
type Document struct {
	Kind    Kind
	Name    string
	Source  string // file or key it came from
	Text    []byte // its own bytes, as they should be stored in etcd: ParseService or ParseGateway reads them to the same value
	Service *Service
	Gateway *Gateway
	Line    int // where it starts in Source
}

// ParseDocuments reads one or many documents, YAML (separated by lines of ---) or JSON. Empty ones are left out, so the result may be empty. The error is
// Problems, with the problems of all documents; then no document is returned.
func ParseDocuments(source string, data []byte) ([]Document, error) {
	if p, unreadable := firstUnreadable(data); unreadable {
		p.Source = source
		return nil, Problems{p}
	}
	var documents []Document
	var problems Problems
	for _, piece := range split(data) {
		document, found := parsePiece(source, piece)
		problems = append(problems, found...)
		if document != nil && len(found) == 0 {
			documents = append(documents, *document)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return documents, nil
}

// ParseService reads exactly one service document, strictly: whatever is not known is a problem. No defaults are filled. The error is Problems.
func ParseService(source string, data []byte) (Service, error) {
	document, err := parseOne(source, data, ServiceDocument)
	if err != nil {
		return Service{}, err
	}
	return *document.Service, nil
}

// ParseGateway reads exactly one gateway document, as ParseService reads a service's.
func ParseGateway(source string, data []byte) (Gateway, error) {
	document, err := parseOne(source, data, GatewayDocument)
	if err != nil {
		return Gateway{}, err
	}
	return *document.Gateway, nil
}

// parseOne reads data that must hold one document of one kind.
func parseOne(source string, data []byte, kind Kind) (Document, error) {
	// The size is looked at first: nothing else about a value that is far too big is worth the time.
	if len(data) > MaxDocument {
		return Document{}, Problems{tooBig(source, 0, len(data))}
	}
	documents, err := ParseDocuments(source, data)
	if err != nil {
		return Document{}, err
	}
	if len(documents) != 1 {
		return Document{}, Problems{{Source: source, Text: fmt.Sprintf("%d documents; expected one, of a %s", len(documents), kind)}}
	}
	document := documents[0]
	if document.Kind != kind {
		text := fmt.Sprintf("this is the document of a %s; expected one of a %s", document.Kind, kind)
		return Document{}, Problems{{Source: source, Line: document.Line, Column: 1, Text: text}}
	}
	return document, nil
}

// tooBig is the problem of a document over the limit. Its column says nothing, so that it has none.
func tooBig(source string, line, size int) Problem {
	return Problem{Source: source, Line: line, Text: fmt.Sprintf("%d bytes; a document may have %d (256 KiB)", size, MaxDocument)}
}

// parsePiece reads one document. It returns nil for an empty one.
func parsePiece(source string, p piece) (*Document, Problems) {
	if len(p.text) > MaxDocument {
		return nil, Problems{tooBig(source, p.before+1, len(p.text))}
	}
	root, problem := unmarshal(p.text)
	if problem != nil {
		problem.Source = source
		if problem.Line > 0 {
			problem.Line += p.before
		}
		return nil, Problems{*problem}
	}
	if root == nil {
		return nil, nil
	}
	// The nodes are walked by hand: decoding into structs would lose the columns, and tell of one problem where there are ten.
	r := &reader{source: source, before: p.before, places: map[string]*yaml.Node{}, wrong: map[string]bool{}}
	document := Document{Source: source, Text: p.text, Line: root.Line + p.before}
	r.document(spot{node: root}, &document)
	return &document, r.problems.sorted()
}

// firstUnreadable looks for what no document may hold, so that a file of another kind gets a clear word instead of a YAML parser's.
func firstUnreadable(data []byte) (Problem, bool) {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if len(data) >= 2 && string(data[:2]) == mark {
			return Problem{Line: 1, Column: 1, Text: "UTF-16 text; save it as UTF-8"}, true
		}
	}
	// Columns count characters, as the YAML parser does.
	line, column := 1, 1
	for i := 0; i < len(data); {
		letter, size := utf8.DecodeRune(data[i:])
		if text := unreadable(letter, size); text != "" {
			return Problem{Line: line, Column: column, Text: text}, true
		}
		column++
		if letter == '\n' {
			line, column = line+1, 1
		}
		i += size
	}
	return Problem{}, false
}

// unreadable says why a character may not stand in a document; "" if it may.
func unreadable(letter rune, size int) string {
	switch {
	case letter == utf8.RuneError && size == 1:
		return "not UTF-8 text; expected a YAML or JSON document"
	case letter == '\ufeff':
		return "a byte order mark; save the document as UTF-8 without one"
	case letter == 0:
		return "binary data (a NUL byte); expected a YAML or JSON document"
	// The parser refuses these too, but with a line of its own making; U+0080 to U+009F could steer a terminal that shows the document.
	case letter < ' ' && letter != '\t' && letter != '\n' && letter != '\r', letter >= 0x7f && letter < 0xa0, letter == '\ufffe', letter == '\uffff':
		return fmt.Sprintf("a control character (U+%04X); expected a YAML or JSON document", letter)
	}
	return ""
}
