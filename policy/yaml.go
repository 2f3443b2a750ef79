package policy

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v3"
)

// flow makes a node be written in one line.
func flow(node *yaml.Node) {
	if len(node.Content) > 0 {
		node.Style = yaml.FlowStyle
	}
	for _, child := range node.Content {
		flow(child)
	}
}

// nodeOf reads a value's JSON, whose fields are in the order of the document, as YAML.
func nodeOf(value any) *yaml.Node {
	data, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	var document yaml.Node
	if yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return nil
	}
	return document.Content[0]
}

// YAML writes the document as people would, fields in order; ParseService reads it back.
func (s Service) YAML() []byte { return written(s) }

// YAML writes the document as people would, fields in order; ParseGateway reads it back.
func (g Gateway) YAML() []byte { return written(g) }

// written turns JSON's style into YAML's: mappings on lines of their own, short lists in one, and quotes only where the reader would see something else.
func written(value any) []byte {
	node := nodeOf(value)
	if node == nil {
		return nil
	}
	plain(node)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if encoder.Encode(node) != nil || encoder.Close() != nil {
		return nil
	}
	return out.Bytes()
}

// plain undoes the quotes and braces that JSON needs.
func plain(node *yaml.Node) {
	simple := node.Kind == yaml.SequenceNode
	for i, child := range node.Content {
		plain(child)
		simple = simple && child.Kind == yaml.ScalarNode
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			child.Style = 0
		}
	}
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!str":
		// The encoder quotes again what would be read as a number or a truth value.
		node.Style = 0
	case simple || len(node.Content) == 0:
		node.Style = yaml.FlowStyle
	default:
		node.Style = 0
	}
}
