package replica_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// picture is all that users and proxies could notice of what is served.
type picture struct {
	served  map[string]string         // key under served/ → its value
	configs map[*testenv.Envoy]string // what each Envoy says it is configured with
	weights map[*testenv.Envoy]string // the ramp's keys, as each Envoy routes by them
	answer  string                    // what users get
}

// unchanged demands that something changes nothing that is served: not a byte of any key under served/ but the note of a refusal and, while a release runs, its
// times; not the configuration of an Envoy, nor a weight; not what users get. What is done has to wait for a sign that it was taken notice of.
func (r *rig) unchanged(during func()) {
	r.t.Helper()
	before := r.picture(r.envoys)
	during()
	r.same(before)
}

// same demands that everything is as it was in an earlier picture.
func (r *rig) same(before picture) {
	r.t.Helper()
	var envoys []*testenv.Envoy
	for e := range before.configs {
		envoys = append(envoys, e)
	}
	after := r.picture(envoys)
	for key, value := range after.served {
		if old, there := before.served[key]; !there && value != nothing || there && old != value {
			r.t.Errorf("%s has changed:\n%s\n%s", key, old, value)
		}
	}
	for key := range before.served {
		if _, still := after.served[key]; !still {
			r.t.Errorf("%s is gone", key)
		}
	}
	for _, e := range envoys {
		if after.configs[e] != before.configs[e] {
			r.t.Errorf("the configuration of %s has changed: %s", e.ID, firstDifference(before.configs[e], after.configs[e]))
		}
		if after.weights[e] != before.weights[e] {
			r.t.Errorf("the weights of %s have changed: %s", e.ID, firstDifference(before.weights[e], after.weights[e]))
		}
	}
	if after.answer != before.answer {
		r.t.Errorf("users got answers from %s, and now from %s", before.answer, after.answer)
	}
}

func (r *rig) picture(envoys []*testenv.Envoy) picture {
	r.t.Helper()
	p := picture{served: map[string]string{}, configs: map[*testenv.Envoy]string{}, weights: map[*testenv.Envoy]string{}}
	listing := must[*clientv3.GetResponse](r.t)(r.raw.Get(r.ctx, store.Prefix+"served/", clientv3.WithPrefix()))
	releasing := false
	for _, pair := range listing.Kvs {
		p.served[strings.TrimPrefix(string(pair.Key), store.Prefix)] = r.lasting(pair.Value)
		releasing = releasing || strings.Contains(string(pair.Value), `"release":{`)
	}
	for _, e := range envoys {
		p.configs[e], p.weights[e] = r.config(e), r.ramp(e)
	}
	p.answer = r.ask("shop.example.com")
	if releasing && slices.Contains([]string{r.blue.Version(), r.green.Version()}, p.answer) {
		p.answer = "either arm"
	}
	return p
}

// nothing is what is lasting of a key that only tells of a refused first document.
const nothing = "nothing"

// lasting is a served value without what may change by itself or tells of what is not served: the note of a refusal, and a running release's times and what it waits for.
func (r *rig) lasting(value []byte) string {
	r.t.Helper()
	var members, release map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil {
		return string(value)
	}
	delete(members, "refused")
	if string(members["accepted"]) == "0" {
		return nothing
	}
	if json.Unmarshal(members["release"], &release) == nil && release != nil {
		for _, volatile := range []string{"age", "inPhase", "waits"} {
			delete(release, volatile)
		}
		members["release"] = must[[]byte](r.t)(json.Marshal(release))
	}
	return string(must[[]byte](r.t)(json.Marshal(members)))
}

// ramp is the weights that an Envoy routes by.
func (r *rig) ramp(e *testenv.Envoy) string {
	r.t.Helper()
	var lines []string
	for key, value := range must[map[string]string](r.t)(e.Runtime(r.ctx)) {
		if strings.HasPrefix(key, "ramp.") {
			lines = append(lines, fmt.Sprintf("%s: %s", key, value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var dates = regexp.MustCompile(`"(version_info|load_assignment_version)": .*`)

// undated is a configuration without the revisions at which its parts were published.
func undated(config string) string { return dates.ReplaceAllString(config, "") }
