package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Weight is a share of a service's traffic in hundredths of a percent: 0 to Full.
type Weight int

const (
	// Full is all of a service's traffic, 100 %.
	Full Weight = 10000
	// MaxRunning is the most a candidate weighs while its release runs; 100 % exists only as a committed base.
	MaxRunning Weight = Full - 1
)

// Share returns the weight as a fraction from 0 to 1.
func (w Weight) Share() float64 { return float64(w) / float64(Full) }

// String prints the weight as people write it: "5 %", "0.25 %".
func (w Weight) String() string {
	return strconv.FormatFloat(float64(w)/100, 'f', -1, 64) + " %"
}

// MarshalText writes the weight as documents hold it: "5%".
func (w Weight) MarshalText() ([]byte, error) {
	return []byte(strings.ReplaceAll(w.String(), " ", "")), nil
}

// UnmarshalText reads what MarshalText wrote, with or without a space before the sign. It refuses anything below 0 %, above 100 %, or finer than 0.01 %.
func (w *Weight) UnmarshalText(text []byte) error {
	fraction, err := parsePercent(string(text))
	if err != nil {
		return err
	}
	hundredths := fraction * float64(Full)
	rounded := Weight(hundredths + 0.5)
	if diff := hundredths - float64(rounded); diff > 1e-6 || diff < -1e-6 {
		return fmt.Errorf("%q is finer than 0.01%%", text)
	}
	*w = rounded
	return nil
}

// Share is a fraction from 0 to 1 that documents write as a percentage down to 0.0001 %.
type Share float64

// String prints the share as people write it: "0.01 %".
func (s Share) String() string {
	return strconv.FormatFloat(float64(s)*100, 'g', 6, 64) + " %"
}

// MarshalText writes the share as documents hold it: "0.01%". UnmarshalText reads it back to the same share.
func (s Share) MarshalText() ([]byte, error) {
	percent := math.Round(float64(s)*shareSteps) / shareSteps * 100
	return []byte(strconv.FormatFloat(math.Round(percent*1e4)/1e4, 'f', -1, 64) + "%"), nil
}

// UnmarshalText reads what MarshalText wrote. It refuses anything outside 0 % to 100 %, or finer than 0.0001 %: one request in a million.
func (s *Share) UnmarshalText(text []byte) error {
	fraction, err := parsePercent(string(text))
	if err != nil {
		return err
	}
	steps := math.Round(fraction * shareSteps)
	if math.Abs(fraction*shareSteps-steps) > 1e-6 {
		return fmt.Errorf("%q is finer than 0.0001%%", text)
	}
	*s = Share(steps / shareSteps)
	return nil
}

// shareSteps is how many steps of 0.0001 % there are to everything.
const shareSteps = 1e6

func parsePercent(text string) (float64, error) {
	number, found := strings.CutSuffix(strings.TrimSpace(text), "%")
	number = strings.TrimSpace(number)
	if !found || number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a percentage such as 5%%", text)
	}
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || !(percent >= 0 && percent <= 100) {
		return 0, fmt.Errorf("%q is not a percentage from 0%% to 100%%", text)
	}
	return percent / 100, nil
}

// Duration is a time.Duration that documents and records write as "30s" or "1m30s".
type Duration time.Duration

// Std returns d for the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String prints the duration without trailing zero units: "1h", "5m", "1.5s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes the duration as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a Go duration and refuses a negative one.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed < 0 {
		return fmt.Errorf("%q is not a duration such as 30s or 5m", text)
	}
	*d = Duration(parsed)
	return nil
}
