package policy

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// longestQuery bounds a query as it is written, in bytes.
const longestQuery = 8 << 10

// QueryTemplate is a query that can be written for either arm.
type QueryTemplate struct{ text *template.Template }

// queryArm is what a template is filled with, each value fit to stand between quotes.
type queryArm struct{ Service, Backend, Revision string }

// Template reads what the query says for both arms. Only {{.Service}}, {{.Backend}} and {{.Revision}} may stand in it: neither loops nor functions, so that filling it
// in cannot fail or take long. A query that would be the same for both arms is refused, because it compares nothing.
func (q Query) Template() (QueryTemplate, error) {
	if strings.TrimSpace(q.Prometheus) == "" {
		return QueryTemplate{}, errors.New(`missing; expected PromQL such as avg(gpu_queue{backend="{{.Backend}}"})`)
	}
	if len(q.Prometheus) > longestQuery {
		return QueryTemplate{}, fmt.Errorf("%d bytes; expected at most %d", len(q.Prometheus), longestQuery)
	}
	text, err := template.New("query").Option("missingkey=error").Parse(q.Prometheus)
	if err != nil {
		return QueryTemplate{}, fmt.Errorf("no template: %s; expected PromQL with {{.Backend}}", strings.TrimPrefix(err.Error(), "template: query:"))
	}
	names, err := fieldsOf(text)
	if err != nil {
		return QueryTemplate{}, err
	}
	if !slices.Contains(names, "Backend") && !slices.Contains(names, "Revision") {
		return QueryTemplate{}, errors.New("it asks the same for both arms; expected {{.Backend}} or {{.Revision}} in it")
	}
	return QueryTemplate{text}, nil
}

// fieldsOf lists the names that a template has, and refuses whatever is more than text and names.
func fieldsOf(text *template.Template) ([]string, error) {
	if text.Tree == nil || len(text.Templates()) != 1 {
		return nil, errOnlyNames
	}
	var names []string
	for _, node := range text.Root.Nodes {
		switch n := node.(type) {
		case *parse.TextNode, *parse.CommentNode:
		case *parse.ActionNode:
			name := fieldOf(n)
			if !slices.Contains([]string{"Service", "Backend", "Revision"}, name) {
				return nil, fmt.Errorf("%s: %w", n, errOnlyNames)
			}
			names = append(names, name)
		default:
			return nil, fmt.Errorf("%s: %w", n, errOnlyNames)
		}
	}
	return names, nil
}

var errOnlyNames = errors.New("expected nothing between braces but {{.Service}}, {{.Backend}} and {{.Revision}}")

// fieldOf is the name that an action stands for, "" if it is more than a name.
func fieldOf(n *parse.ActionNode) string {
	if len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) != 1 {
		return ""
	}
	field, ok := n.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
	if !ok || len(field.Ident) != 1 {
		return ""
	}
	return field.Ident[0]
}

// For writes the query for one arm. No value can leave the quotes that it stands between.
func (t QueryTemplate) For(service string, arm Ref) (string, error) {
	if t.text == nil {
		return "", errors.New("write a query: it has not been read")
	}
	var b strings.Builder
	err := t.text.Execute(&b, queryArm{Service: inQuotes(service), Backend: inQuotes(arm.Backend), Revision: inQuotes(arm.Revision)})
	if err != nil {
		return "", fmt.Errorf("write a query: %w", err)
	}
	return b.String(), nil
}

// inQuotes writes a value so that it stands for itself between PromQL's double or single quotes, and at least stays inside between back quotes. An escaped quote of the
// other kind is an error in PromQL, so quotes are written as bytes.
func inQuotes(value string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\x22`, `'`, `\x27`, "`", `\x60`, "\n", `\n`, "\r", `\r`).Replace(value)
}

// ServerProblem is the rule for the address of a Prometheus server: what is wrong and what was expected; "" is nothing.
func ServerProblem(server string) string {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Sprintf("%s; expected a URL such as http://prometheus:9090", quoted(server))
	}
	return ""
}
