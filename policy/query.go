package policy

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode/utf8"
)

const (
	queryExample = `avg(gpu_queue{backend="{{.Backend}}"})`
	queryFields  = "{{.Service}}, {{.Backend}} or {{.Revision}}"
)

// Ask returns the PromQL that asks for one arm of a service. No value can leave the quotes that it stands between. Ask fails only for a template that no accepted document
// has.
func (q Query) Ask(service string, arm Ref) (string, error) {
	nodes, err := q.nodes()
	if err != nil {
		return "", fmt.Errorf("query %s: %w", q.Name, err)
	}
	values := map[string]string{"Service": inQuotes(service), "Backend": inQuotes(arm.Backend), "Revision": inQuotes(arm.Revision)}
	var out strings.Builder
	for _, node := range nodes {
		if text, ok := node.(*parse.TextNode); ok {
			out.Write(text.Text)
			continue
		}
		out.WriteString(values[fieldOf(node)])
	}
	return out.String(), nil
}

// inQuotes writes a value so that it stands for itself between PromQL's double or single quotes, and at least stays inside between back quotes. An escaped quote of the
// other kind is an error in PromQL, so quotes are written as bytes.
func inQuotes(value string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\x22`, `'`, `\x27`, "`", `\x60`, "\n", `\n`, "\r", `\r`).Replace(value)
}

// names reports whether the template names a field. One that cannot be read names none.
func (q Query) names(field string) bool {
	nodes, _ := q.nodes()
	return slices.ContainsFunc(nodes, func(node parse.Node) bool { return fieldOf(node) == field })
}

// nodes reads the template: texts, and actions that write out one of the three fields. What else text/template can do is refused, because a document must not be able
// to run anything; PromQL itself has no use for {{.
func (q Query) nodes() ([]parse.Node, error) {
	parsed, err := template.New("").Parse(q.Prometheus)
	if err != nil {
		return nil, unparsed(err)
	}
	if len(parsed.Templates()) > 1 {
		return nil, fmt.Errorf("defines templates; expected text and %s", queryFields)
	}
	for _, node := range parsed.Root.Nodes {
		if problem := actionProblem(node); problem != "" {
			return nil, fmt.Errorf("at %s: %s", q.place(node), problem)
		}
	}
	return parsed.Root.Nodes, nil
}

// unparsed puts the parser's "template: :<line>: <what>" into an error of ours. A field without its dot is a function to it.
func unparsed(err error) error {
	text := strings.TrimPrefix(err.Error(), "template: :")
	if parts := strings.Split(text, `"`); len(parts) == 3 && parts[2] == " not defined" {
		if meant := nearest(parts[1], fieldNames()); meant != "" {
			return fmt.Errorf("line %s; did you mean {{.%s}}?", clip(text), meant)
		}
	}
	return fmt.Errorf("line %s", clip(text))
}

func fieldNames() []string { return []string{"Service", "Backend", "Revision"} }

// actionProblem is the rule for one part of a template: "" for text and for the three fields.
func actionProblem(node parse.Node) string {
	fields, name := fieldNames(), fieldOf(node)
	if _, text := node.(*parse.TextNode); text || slices.Contains(fields, name) {
		return ""
	}
	if name == "" {
		return fmt.Sprintf("%s; expected %s alone", quoted(node.String()), queryFields)
	}
	if meant := nearest(name, fields); meant != "" {
		return fmt.Sprintf("unknown field %s; did you mean {{.%s}}?", quoted(node.String()), meant)
	}
	return fmt.Sprintf("unknown field %s; expected %s", quoted(node.String()), queryFields)
}

// fieldOf is the field that a part of a template writes out, or "" if it does anything else.
func fieldOf(node parse.Node) string {
	action, ok := node.(*parse.ActionNode)
	if !ok || len(action.Pipe.Cmds) != 1 || len(action.Pipe.Decl) > 0 || len(action.Pipe.Cmds[0].Args) != 1 {
		return ""
	}
	if field, ok := action.Pipe.Cmds[0].Args[0].(*parse.FieldNode); ok {
		return strings.Join(field.Ident, ".")
	}
	return ""
}

// place is where a part of the template stands in its text: line and column, counted from 1.
func (q Query) place(node parse.Node) string {
	before := q.Prometheus[:node.Position()]
	lastLine := before[strings.LastIndexByte(before, '\n')+1:]
	return fmt.Sprintf("%d:%d", 1+strings.Count(before, "\n"), 1+utf8.RuneCountInString(lastLine))
}
