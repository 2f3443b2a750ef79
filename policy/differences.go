package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Differences tells in the operator's words what changes from old to new: "backends.green.revision v41 → v42", "serve blue → green", "hosts + a.example.com".
// None means that both ask for the same; the order of hosts, gateways, endpoints and methods asks for nothing. Both must have their defaults, or neither.
func Differences(old, new Service) []string {
	// Backends that come and go are named with their revisions, not with all their endpoints.
	var words []string
	for _, name := range slices.Sorted(maps.Keys(new.Backends)) {
		if _, there := old.Backends[name]; !there {
			words = append(words, fmt.Sprintf("backends + %s", Ref{name, new.Backends[name].Revision}))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.Backends)) {
		if _, there := new.Backends[name]; !there {
			words = append(words, fmt.Sprintf("backends − %s", Ref{name, old.Backends[name].Revision}))
		}
	}
	d := differ{words: words}
	d.compare("", nodeOf(old), nodeOf(new))
	return d.words
}

// differ collects differences while it walks two trees.
type differ struct{ words []string }

// say adds one difference.
func (d *differ) say(format string, args ...any) {
	d.words = append(d.words, fmt.Sprintf(format, args...))
}

// compare tells two values of one path apart. Few fields may be of two kinds: a mapping, or a word such as off.
func (d *differ) compare(path string, a, b *yaml.Node) {
	switch {
	case a.Kind != b.Kind:
		d.became(path, a, b)
	case b.Kind == yaml.ScalarNode:
		if a.Value != b.Value {
			d.became(path, a, b)
		}
	case b.Kind == yaml.MappingNode:
		d.mappings(path, a, b)
	case unordered(path):
		d.sets(path, a, b)
	case slices.Contains([]string{"routes", "analysis.quality", "analysis.queries"}, path):
		d.items(path, a, b)
	case line(a) != line(b):
		d.became(path, a, b)
	}
}

// became says what one value turned into, as far as it is shown.
func (d *differ) became(path string, a, b *yaml.Node) {
	before, after := inline(a), inline(b)
	if before == after {
		d.say("%s changes behind %s", path, after)
		return
	}
	d.say("%s %s → %s", path, before, after)
}

// unordered reports whether the order of a list says nothing.
func unordered(path string) bool {
	return slices.Contains([]string{"gateways", "hosts", "endpoints", "methods", "grpc"}, path[strings.LastIndexByte(path, '.')+1:])
}

// mappings compares field by field, in the order of the document; what is gone comes last.
func (d *differ) mappings(path string, a, b *yaml.Node) {
	for i := 0; i < len(b.Content); i += 2 {
		key, value := b.Content[i].Value, b.Content[i+1]
		switch before := entry(a, key); {
		case before != nil:
			d.compare(under(path, key), before, value)
		case path != "backends":
			d.say("%s + %s", under(path, key), inline(value))
		}
	}
	for i := 0; i < len(a.Content); i += 2 {
		if key := a.Content[i].Value; entry(b, key) == nil && path != "backends" {
			d.say("%s − %s", under(path, key), inline(a.Content[i+1]))
		}
	}
}

// entry returns a mapping's value for a key, or nil.
func entry(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// sets compares lists whose order says nothing.
func (d *differ) sets(path string, a, b *yaml.Node) {
	before, after := values(a), values(b)
	for _, node := range b.Content {
		if !before[node.Value] {
			d.say("%s + %s", path, inline(node))
		}
	}
	for _, node := range a.Content {
		if !after[node.Value] {
			d.say("%s − %s", path, inline(node))
		}
	}
}

// values are the texts in a list.
func values(list *yaml.Node) map[string]bool {
	found := map[string]bool{}
	for _, node := range list.Content {
		found[node.Value] = true
	}
	return found
}

// items compares lists whose order matters, one place after the other.
func (d *differ) items(path string, a, b *yaml.Node) {
	for i := range max(len(a.Content), len(b.Content)) {
		switch {
		case i >= len(a.Content):
			d.say("%s + %s", item(path, i), inline(b.Content[i]))
		case i >= len(b.Content):
			d.say("%s − %s", item(path, i), inline(a.Content[i]))
		default:
			d.compare(item(path, i), a.Content[i], b.Content[i])
		}
	}
}

// inline shows a part of a document on one line, bounded, for a message.
func inline(node *yaml.Node) string { return clip(line(node)) }

// line is a part of a document on one line.
func line(node *yaml.Node) string {
	if node.Kind == yaml.ScalarNode {
		return node.Value
	}
	// The nodes come from JSON, with its quotes, and are not used again.
	plain(node)
	flow(node)
	text, err := yaml.Marshal(node)
	if err != nil {
		return "…"
	}
	return strings.TrimSpace(string(text))
}
