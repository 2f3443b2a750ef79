package policy

import (
	"encoding"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader walks the nodes of one document, fills a Service or a Gateway, and notes every problem with its place. It lives for one document.
type reader struct {
	source   string
	before   int                   // lines of the input before this document
	places   map[string]*yaml.Node // where each path's value stands
	wrong    map[string]bool       // paths that have a problem already: what follows from it is not told
	problems Problems
}

// spot is a node and its path.
type spot struct {
	node *yaml.Node
	path string
}

// reading reads one value from its spot to where it belongs.
type reading func(spot)

// field is a row of the tables in decode_fields.go.
type field struct {
	name string
	read reading
}

// bad notes a problem at a node.
func (r *reader) bad(s spot, format string, args ...any) {
	r.wrong[s.path] = true
	r.problems = append(r.problems, Problem{
		Source: r.source, Line: s.node.Line + r.before, Column: s.node.Column, Path: s.path, Text: fmt.Sprintf(format, args...),
	})
}

// add takes a problem that was found by looking at the finished value, gives it the place of its path, or of the nearest path around it, and leaves it out
// when the path could not be read in the first place.
func (r *reader) add(p Problem) {
	at := p.Path
	// A value inside one that could not be read was never read either.
	for {
		if r.wrong[at] {
			return
		}
		if at == "" {
			break
		}
		at = parent(at)
	}
	for at = p.Path; r.places[at] == nil && at != ""; {
		at = parent(at)
	}
	p.Source = r.source
	if node := r.places[at]; node != nil {
		p.Line, p.Column = node.Line+r.before, node.Column
	}
	r.problems = append(r.problems, p)
}

// expect notes the place of a value and reports whether it is of a kind; if not, it says what was expected.
func (r *reader) expect(s spot, kind yaml.Kind, expected string) bool {
	r.places[s.path] = s.node
	switch {
	case s.node.Kind == yaml.AliasNode || s.node.Anchor != "":
		// Without aliases a document is as big as its text: there is no bomb.
		r.bad(s, "anchors and aliases (&, *) are not supported: write the value out")
	case s.node.Style&yaml.TaggedStyle != 0:
		r.bad(s, "tags (%s) are not supported; expected %s", clip(s.node.Tag), expected)
	case s.node.Tag == "!!null":
		r.bad(s, "no value; expected %s", expected)
	case s.node.Kind != kind:
		r.bad(s, "%s; expected %s", kindWords(s.node), expected)
	default:
		return true
	}
	return false
}

// kindWords says what stands where something else was expected.
func kindWords(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return quoted(node.Value)
}

// entries calls each for every entry of a mapping, after having refused odd and repeated keys.
func (r *reader) entries(s spot, each func(key string, at spot, value spot)) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(s.node.Content); i += 2 {
		// A mapping node holds its keys and values in turn.
		key, value := s.node.Content[i], s.node.Content[i+1]
		at := spot{key, under(s.path, key.Value)}
		switch {
		case key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0:
			r.bad(spot{key, s.path}, "%s as a key; expected a plain name", kindWords(key))
		case key.Tag == "!!merge":
			r.bad(at, "merging (<<) is not supported: write the fields out")
		case key.Tag != "!!str":
			r.bad(at, "a key that is no text; quote it: %s", quoted(key.Value))
		case seen[key.Value]:
			r.bad(at, "given twice")
		default:
			seen[key.Value] = true
			each(key.Value, at, spot{value, at.path})
		}
	}
}

// mapping reads a mapping with the fields that a table names, and nothing else.
func (r *reader) mapping(s spot, expected string, fields []field) {
	if !r.expect(s, yaml.MappingNode, expected) {
		return
	}
	// The names of known fields that unknown ones were probably meant to be.
	var missed []string
	given := map[string]bool{}
	r.entries(s, func(key string, at, value spot) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			missed = append(missed, r.unknown(at, key, fields))
			return
		}
		given[key] = true
		fields[i].read(value)
	})
	// A misspelled field is told once, not again as a missing one.
	for _, name := range missed {
		if name != "" && !given[name] {
			r.wrong[under(s.path, name)] = true
		}
	}
}

// unknown notes an unknown field and returns the known one that was probably meant.
func (r *reader) unknown(at spot, key string, fields []field) (meant string) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	if len(r.problems) < mostProblems { // further ones are only counted, and comparing takes time
		meant = nearest(key, names)
	}
	if meant != "" {
		r.bad(at, "unknown field; did you mean `%s`?", meant)
		return meant
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	r.bad(at, "unknown field; expected %s", strings.Join(names, ", "))
	return ""
}

// text reads a text. What YAML takes for a number, a date or a truth value is refused, because it may not be what was written: 1.10 would be 1.1.
func (r *reader) text(to *string, example string) reading {
	return func(s spot) {
		if !r.expect(s, yaml.ScalarNode, "a text such as "+example) {
			return
		}
		if s.node.Tag != "!!str" {
			word := map[string]string{"!!int": "a number", "!!float": "a number", "!!bool": "true or false", "!!timestamp": "a date"}[s.node.Tag]
			r.bad(s, "%s is %s to YAML; quote it: %s", clip(s.node.Value), word, r.quotedField(s))
			return
		}
		*to = s.node.Value
	}
}

// quotedField shows a text as it should have been written.
func (r *reader) quotedField(s spot) string {
	// An item of a list has no name to show.
	name := s.path[strings.LastIndexByte(s.path, '.')+1:]
	if strings.HasSuffix(name, "]") {
		return quoted(s.node.Value)
	}
	return name + ": " + quoted(s.node.Value)
}

// measured reads a percentage, a duration or the like.
func (r *reader) measured(to encoding.TextUnmarshaler, expected string) reading {
	return func(s spot) {
		if !r.expect(s, yaml.ScalarNode, expected) {
			return
		}
		// The types quote what they refuse, so that a long text must not reach them.
		if len(s.node.Value) > longest {
			r.bad(s, "%s; expected %s", quoted(s.node.Value), expected)
		} else if err := to.UnmarshalText([]byte(s.node.Value)); err != nil {
			r.bad(s, "%s", err)
		}
	}
}

// weight, share and duration read the types of weight.go.
func (r *reader) weight(to *Weight) reading { return r.measured(to, "a percentage such as 5%") }

// share reads a part of a whole, finer than a weight.
func (r *reader) share(to *Share) reading { return r.measured(to, "a percentage such as 0.5%") }

// duration reads a time, as Go writes it.
func (r *reader) duration(to *Duration) reading { return r.measured(to, "a duration such as 30s") }

// boolean reads true or false.
func (r *reader) boolean(to *bool) reading {
	return func(s spot) {
		const expected = "true or false"
		if !r.expect(s, yaml.ScalarNode, expected) {
			return
		}
		if s.node.Tag != "!!bool" {
			r.bad(s, "%s; expected %s", quoted(s.node.Value), expected)
			return
		}
		*to = strings.EqualFold(s.node.Value, "true")
	}
}

// integer and decimal read numbers as people write them: YAML's octal and hexadecimal ones are refused.
func (r *reader) integer(to *int, example string) reading {
	return func(s spot) {
		r.number(s, example, func(text string) (err error) { *to, err = strconv.Atoi(text); return err })
	}
}

// decimal reads a number with or without a fraction.
func (r *reader) decimal(to *float64, example string) reading {
	return func(s spot) {
		r.number(s, example, func(text string) (err error) { *to, err = strconv.ParseFloat(text, 64); return err })
	}
}

// number reads what YAML took for a number, unless people and YAML may disagree about it.
func (r *reader) number(s spot, example string, parse func(string) error) {
	expected := "a number such as " + example
	if !r.expect(s, yaml.ScalarNode, expected) {
		return
	}
	value := s.node.Value
	// To YAML 1.1, 010 is eight. Written by a program, very small and very large numbers have an exponent.
	octal := len(value) > 1 && value[0] == '0' && value[1] != '.'
	numeric := s.node.Tag == "!!int" || s.node.Tag == "!!float"
	if !numeric || octal || strings.Trim(value, "0123456789.-+eE") != "" || parse(value) != nil {
		r.bad(s, "%s; expected %s", quoted(value), expected)
	}
}

// nonzero reads a value of which zero means its default, so that a zero that was written must be refused.
func nonzero[T comparable](r *reader, to *T, read reading) reading {
	return func(s spot) {
		read(s)
		zero := *new(T)
		switch {
		case *to != zero || r.wrong[s.path]:
		case s.node.Value == "":
			r.bad(s, "empty; leave the field out instead")
		default:
			r.bad(s, "%s; expected more than 0", clip(s.node.Value))
		}
	}
}

// optional reads a value that is nil when it is not given.
func optional[T any](to **T, read func(*T) reading) reading {
	return func(s spot) {
		*to = new(T)
		read(*to)(s)
	}
}

// list reads a list, which may be empty.
func list[T any](r *reader, to *[]T, expected string, read func(*T) reading) reading {
	return func(s spot) {
		if !r.expect(s, yaml.SequenceNode, "a list such as "+expected) {
			return
		}
		*to = make([]T, len(s.node.Content))
		for i, node := range s.node.Content {
			read(&(*to)[i])(spot{node, item(s.path, i)})
		}
	}
}

// filled reads a list in which an item must stand: an empty one would mean nothing, where leaving the field out means its default.
func filled[T any](r *reader, to *[]T, expected string, read func(*T) reading) reading {
	return func(s spot) {
		list(r, to, expected, read)(s)
		if len(*to) == 0 && !r.wrong[s.path] {
			r.bad(s, "an empty list; expected one such as %s", expected)
		}
	}
}

// named reads a mapping whose keys are names.
func named[T any](r *reader, to *map[string]T, expected string, read func(*T) reading) reading {
	return func(s spot) {
		if !r.expect(s, yaml.MappingNode, "a mapping such as "+expected) {
			return
		}
		*to = map[string]T{}
		r.entries(s, func(key string, _, value spot) {
			var one T
			read(&one)(value)
			(*to)[key] = one
		})
		if len(*to) == 0 && !r.wrong[s.path] {
			r.bad(s, "an empty mapping; expected one such as %s", expected)
		}
	}
}
