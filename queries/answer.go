package queries

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode"

	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// result is what became of a question, as rampart_queries_total counts it.
type result string

const (
	answered    result = "ok"
	slow        result = "slow"
	unreachable result = "unreachable"
	refused     result = "refused" // by the server, in its words
	empty       result = "empty"
	ambiguous   result = "ambiguous" // more than one series
	notNumber   result = "not a number"
	stale       result = "stale"
	failed      result = "failed" // a bug of ours
)

// answer is what came back for one arm. The zero value is no answer.
type answer struct {
	result result
	value  float64   // if answered
	stamp  time.Time // if answered and known: of the sample behind it
	words  string    // if not answered: why
}

func (a answer) good() bool { return a.result == answered }

// longestWords bounds what is repeated of a server's own words, in bytes.
const longestWords = 300

// reply reads a value that a server gave. Only one finite number counts: a scalar, or the one sample of a vector.
func reply(v model.Value) answer {
	switch v := v.(type) {
	case *model.Scalar:
		return number(float64(v.Value))
	case model.Vector:
		return sample(v)
	case nil:
		return answer{result: refused, words: "it answers without a value"}
	default:
		return answer{result: notNumber, words: fmt.Sprintf("it is a %s; expected one number per arm", v.Type())}
	}
}

func sample(v model.Vector) answer {
	switch {
	case len(v) == 0:
		return answer{result: empty, words: "nothing matches it"}
	case len(v) > 1:
		words := fmt.Sprintf("%d series match it, such as %s and %s; expected one: aggregate them, as avg(…) does", len(v), label(v[0]), label(v[1]))
		return answer{result: ambiguous, words: words}
	case v[0] == nil || v[0].Histogram != nil:
		return answer{result: notNumber, words: "it is a histogram; expected one number per arm, as histogram_quantile(…) gives"}
	}
	return number(float64(v[0].Value))
}

func label(s *model.Sample) string {
	if s == nil {
		return "{}"
	}
	return clean(s.Metric.String(), longestWords/3)
}

func number(value float64) answer {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return answer{result: notNumber, words: fmt.Sprintf("it is %s, which is no quantity", model.SampleValue(value))}
	}
	return answer{result: answered, value: value}
}

// failure reads an error of the client library.
func failure(err error, within time.Duration) answer {
	if said, theirs := errors.AsType[*prometheus.Error](err); theirs {
		return refusal(said, within)
	}
	var network net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return tooSlow(within)
	case errors.Is(err, errLong), errors.Is(err, errElsewhere):
		return answer{result: refused, words: inner(err).Error()}
	}
	return answer{result: unreachable, words: "Prometheus cannot be reached: " + clean(inner(err).Error(), longestWords)}
}

func tooSlow(within time.Duration) answer {
	return answer{result: slow, words: fmt.Sprintf("Prometheus did not answer within %s", within)}
}

// refusal reads what the server said instead of an answer. Of some statuses the library keeps its words as they came.
func refusal(said *prometheus.Error, within time.Duration) answer {
	var body struct {
		Type  prometheus.ErrorType `json:"errorType"`
		Error string               `json:"error"`
	}
	if json.Unmarshal([]byte(said.Detail), &body) != nil || body.Error == "" {
		body.Type, body.Error = said.Type, said.Msg
	}
	switch words := clean(body.Error, longestWords); body.Type {
	case prometheus.ErrTimeout:
		return tooSlow(within)
	case prometheus.ErrBadResponse:
		return answer{result: refused, words: "its answer cannot be read: " + words}
	default:
		return answer{result: refused, words: "Prometheus says: " + words}
	}
}

// inner leaves out what the http client puts before an error: the method, and the address with what may be secret in it.
func inner(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// clean makes words of others fit for one line of a reason.
func clean(words string, longest int) string {
	words = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, words)
	words = strings.Join(strings.Fields(words), " ")
	if len(words) > longest {
		words = strings.ToValidUTF8(words[:longest], "") + "…"
	}
	return words
}
