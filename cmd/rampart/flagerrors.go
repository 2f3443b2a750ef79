package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// flagError says what a flag expects instead of how the library failed to read it. Flags of types that are our own say it themselves.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	flag := invalid.GetFlag()
	expected := ""
	switch flag.Value.Type() {
	case "int", "int64":
		expected = "a whole number"
	case "uint64":
		expected = "a whole number, not below 0"
	case "float64":
		expected = "a number"
	case "duration":
		expected = "a time with its unit, such as 500ms, 3s or 2m"
	case "bool":
		expected = "true or false"
	case "intSlice":
		expected = "whole numbers with commas between them"
	default:
		return fmt.Errorf("--%s %q: %w", flag.Name, invalid.GetValue(), errors.Unwrap(invalid))
	}
	return fmt.Errorf("--%s %q: expected %s", flag.Name, invalid.GetValue(), expected)
}
