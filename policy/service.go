package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Service is a service document: what operators wish. Zero fields are filled by WithDefaults. The json names are the document's field names; the same
// struct is stored as JSON in the served copy.
type Service struct {
	Name     string             `json:"service"`
	Gateways []string           `json:"gateways,omitempty"` // default: [default]
	Hosts    []string           `json:"hosts"`
	Routes   []Route            `json:"routes,omitempty"` // default: one that matches everything
	Backends map[string]Backend `json:"backends"`
	Serve    string             `json:"serve"` // the backend that should serve
	Plan     Plan               `json:"plan,omitzero"`
	Analysis Analysis           `json:"analysis,omitzero"`
}

// Route says which requests it takes and how they are sent on. The first route that matches wins.
type Route struct {
	Match      Match     `json:"match,omitzero"`
	Timeout    *Duration `json:"timeout,omitempty"`    // of the whole request; 0s is none; default 15s
	TryTimeout *Duration `json:"tryTimeout,omitempty"` // of one try on an idempotent route; default half of Timeout
	Idempotent bool      `json:"idempotent,omitempty"` // 5xx and resets may be retried, not only what never reached the app
}

// Match selects requests. Path is exact; Prefix is a prefix; one of the two at most, and neither means Prefix "/".
type Match struct {
	Prefix  string            `json:"prefix,omitempty"`
	Path    string            `json:"path,omitempty"`
	Methods []string          `json:"methods,omitempty"`
	Headers map[string]string `json:"headers,omitempty"` // exact values
}

// Protocol is what a backend's endpoints speak.
type Protocol string

// The protocols a backend may speak.
const (
	HTTP1 Protocol = "http1" // the default
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
)

// Backend is one deployable version of a service. Exactly one of Endpoints and DNS is set.
type Backend struct {
	Revision  string   `json:"revision,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"` // "10.0.0.1:8080", "[::1]:8080"
	DNS       string   `json:"dns,omitempty"`       // "green.internal:8080"
	Protocol  Protocol `json:"protocol,omitempty"`
	Health    *Health  `json:"health,omitempty"`
}

// Health is an active HTTP health check of every endpoint.
type Health struct {
	Path string `json:"path"`
}

// Plan is how a release climbs. Exactly one of Steps, Linear, Exponential, Evidence and Cutover is set after WithDefaults.
type Plan struct {
	Steps       []Weight     `json:"steps,omitempty"`
	Linear      *Linear      `json:"linear,omitempty"`
	Exponential *Exponential `json:"exponential,omitempty"`
	Evidence    *Climb       `json:"evidence,omitempty"` // the default
	Cutover     *Cutover     `json:"cutover,omitempty"`

	Warmup   *Duration `json:"warmup,omitempty"`   // at the first step only the guard rail counts; default 30s
	Soak     *Duration `json:"soak,omitempty"`     // at least, at each step; default 30s, and none with Evidence, which has no use for it
	Bake     *Duration `json:"bake,omitempty"`     // at the end, with Holdback still on live; default 5m, with Evidence 5s
	Holdback *Weight   `json:"holdback,omitempty"` // default 5%
	Patience *Patience `json:"patience,omitempty"` // default {for: 30m, then: pause}
	Quorum   *Weight   `json:"quorum,omitempty"`   // of connected proxies that must have accepted a step; default 100%
	Keep     *Duration `json:"keep,omitempty"`     // how long after a commit going back is a cutover; default 1h
}

// Linear climbs in proportion to time: after t, t/Over of the traffic.
type Linear struct {
	Over Duration `json:"over"`
}

// Exponential starts at From and multiplies the weight by Factor every Every.
type Exponential struct {
	From   Weight   `json:"from,omitzero"`   // default 1%
	Factor float64  `json:"factor,omitzero"` // above 1; default 2
	Every  Duration `json:"every,omitzero"`  // default 30s
}

// Climb starts at From and rises as fast as the evidence allows (judge.md 2e, policy D of 2g).
type Climb struct {
	From Weight `json:"from,omitzero"` // default 1%
}

// Cutover moves everything at once, as soon as the endpoints are accepted and warm.
type Cutover struct{}

// Patience is how long Unknown may hold a step, and what happens then.
type Patience struct {
	For  Duration    `json:"for,omitzero"`
	Then PatienceEnd `json:"then,omitzero"`
}

// PatienceEnd is what ends patience.
type PatienceEnd string

// What may end patience.
const (
	ThenPause    PatienceEnd = "pause"
	ThenRollback PatienceEnd = "rollback"
)

// Analysis sets what counts as worse.
type Analysis struct {
	Errors        *Margin   `json:"errors,omitempty"`
	Latency       *Latency  `json:"latency,omitempty"`
	Limits        Limits    `json:"limits,omitzero"`
	FalseRollback *Share    `json:"falseRollback,omitempty"` // per release, all metrics together; default 1%
	Blip          *Duration `json:"blip,omitempty"`          // a failure of the candidate alone that is over within this is forgiven; default none
	Quality       []Quality `json:"quality,omitempty"`       // what requests report of themselves
	Queries       []Query   `json:"queries,omitempty"`       // what Prometheus knows
}

// Latency is how much slower than live the candidate may be: every quantile up to Ratio times live's (judge.md 2b). In documents it is a mapping, or the word off.
type Latency struct {
	Off   bool    `json:"-"`
	Ratio float64 `json:"ratio,omitzero"` // default 1.1
}

// MarshalJSON writes the mapping, or "off".
func (l Latency) MarshalJSON() ([]byte, error) {
	if l.Off {
		return json.Marshal(off)
	}
	type mapping Latency
	return json.Marshal(mapping(l))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (l *Latency) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte(`"`+off+`"`)) {
		*l = Latency{Off: true}
		return nil
	}
	type mapping Latency
	return json.Unmarshal(data, (*mapping)(l))
}

// Direction says which values of a quantity are better.
type Direction string

// The directions.
const (
	Higher Direction = "higher"
	Lower  Direction = "lower"
)

// Quality is a quantity that requests report of themselves, in the ORCA header or trailer endpoint-load-metrics.
type Quality struct {
	ORCA   string    `json:"orca"` // "named_metrics.accuracy"
	Better Direction `json:"better"`
	Margin float64   `json:"margin,omitzero"` // by which the candidate's mean may be worse, in the quantity's unit; default: a quarter of what live scatters
}

// Query is a quantity that Prometheus is asked for, for both arms with one template.
type Query struct {
	Name       string    `json:"name"`
	Prometheus string    `json:"prometheus"` // PromQL; {{.Service}}, {{.Backend}} and {{.Revision}} stand for the arm's
	Server     string    `json:"server,omitempty"`
	Better     Direction `json:"better"`
	Margin     float64   `json:"margin,omitzero"`    // as for Quality
	Every      Duration  `json:"every,omitzero"`     // default 10s
	Advisory   bool      `json:"advisory,omitempty"` // it is shown and judges nothing
}

// Margin is how much worse than live the candidate may be: up to Ratio times live's share plus Points (judge.md 2a: ρ and δ).
type Margin struct {
	Ratio  float64  `json:"ratio,omitzero"`  // default 1.1
	Points Share    `json:"points,omitzero"` // default 0.01%
	GRPC   []string `json:"grpc,omitempty"`  // gRPC statuses that count as errors besides those that Envoy's load reports count, such as RESOURCE_EXHAUSTED
}

// Limits bind the candidate whatever live does. Nil is none.
type Limits struct {
	Errors *Share    `json:"errors,omitempty"`
	P99    *Duration `json:"p99,omitempty"` // 99 of 100 of its requests take no longer
}

// Gateway is a gateway document: a fleet of Envoys that share listeners.
type Gateway struct {
	Name      string     `json:"gateway"`
	Listeners []Listener `json:"listeners,omitzero"` // may be empty: then only the RouteConfiguration of the gateway's name is served
	Deadman   *Deadman   `json:"deadman,omitempty"`  // default 15s
}

// Listener is a plain HTTP listener.
type Listener struct {
	Address string `json:"address"`
	Port    int    `json:"port"`
}

// off is how documents switch something off that is on by default.
const off = "off"

// Deadman is a gateway's dead-man time; zero is off, written "off".
type Deadman Duration

// MarshalText writes the time, or "off".
func (d Deadman) MarshalText() ([]byte, error) {
	if d == 0 {
		return []byte(off), nil
	}
	return Duration(d).MarshalText()
}

// UnmarshalText reads what MarshalText wrote. Zero must be written "off".
func (d *Deadman) UnmarshalText(text []byte) error {
	if string(text) == off {
		*d = 0
		return nil
	}
	err := (*Duration)(d).UnmarshalText(text)
	if err == nil && *d == 0 {
		// Nobody should switch the dead-man off by a slip of the pen.
		return fmt.Errorf("%q is no time; write off, or at least 1s", text)
	}
	return err
}

// DefaultGateway exists without a document, on 127.0.0.1:10000.
const DefaultGateway = "default"
