package queries

import "strings"

// selects reports whether an expression is a plain selector, such as gpu_queue{backend="blue"}: only of these does timestamp() tell how old the sample is.
func selects(expression string) bool {
	rest := strings.TrimSpace(expression)
	name := rest[:len(rest)-len(strings.TrimLeftFunc(rest, inName))]
	if name != "" && name[0] >= '0' && name[0] <= '9' || strings.EqualFold(name, "nan") || strings.EqualFold(name, "inf") {
		return false // a number
	}
	rest = strings.TrimSpace(rest[len(name):])
	if rest == "" {
		return name != ""
	}
	return rest[0] == '{' && closes(rest[1:])
}

func inName(r rune) bool {
	return r == '_' || r == ':' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// closes reports whether a text, its quoted parts aside, holds one brace, which closes, at its end.
func closes(text string) bool {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"', '\'', '`':
			length := quote(text[i:])
			if length == 0 {
				return false
			}
			i += length - 1
		case '{', '#':
			return false
		case '}':
			return i == len(text)-1
		}
	}
	return false
}

// quote is the length of the quoted text at the beginning, 0 if it does not end.
func quote(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == text[0]:
			return i + 1
		case text[i] == '\\' && text[0] != '`':
			i++
		}
	}
	return 0
}
