package policy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/rampart-proxy/rampart/policy"
)

var update = flag.Bool("update", false, "rewrite the want sections of the transcripts")

// TestReleasesFollowTheirTranscripts plays each transcript's turns against Decide, as a leader over a perfect etcd would, and compares what is served after
// each with what the transcript wants. The paragraph at the head of each file begins with the rule of DESIGN that it shows.
func TestReleasesFollowTheirTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/release/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { play(t, file) })
	}
}

func play(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	archive := txtar.Parse(data)
	if !strings.HasPrefix(string(archive.Comment), "DESIGN §") {
		t.Error("the transcript does not say first which rule it shows, as in: DESIGN §9: a pause lasts until resume.")
	}
	w := newWorld(t, string(section(t, archive, "service.yaml").Data))
	var got strings.Builder
	for line := range strings.Lines(string(section(t, archive, "turns").Data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fmt.Fprintf(&got, "> %s\n%s", line, w.do(line))
	}
	want := section(t, archive, "want")
	if *update {
		want.Data = []byte(got.String())
		if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != string(want.Data) {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want.Data)
	}
}

func section(t *testing.T, archive *txtar.Archive, name string) *txtar.File {
	for i := range archive.Files {
		if archive.Files[i].Name == name {
			return &archive.Files[i]
		}
	}
	t.Fatalf("the transcript has no section %q", name)
	return nil
}

// world is an etcd that commits everything, and the proxies' answers as the transcript sets them.
type world struct {
	t      *testing.T
	text   string // the document
	mod    int64
	gone   bool
	served *policy.Served
	permit map[string]bool
	cause  string
	rev    int64
	turn   policy.Turn // fleet, verdict, pause, order and gap carry over from turn to turn
	now    time.Time
}

func newWorld(t *testing.T, text string) *world {
	w := &world{t: t, text: text, permit: map[string]bool{}, rev: 100, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.put(text)
	return w
}

func (w *world) put(text string) {
	w.rev++
	w.text, w.mod, w.gone = text, w.rev, false
}

// do carries out one line and returns what it changed, indented.
func (w *world) do(line string) string {
	words := strings.Fields(line)
	switch words[0] {
	case "turn":
		return w.take(words[1:])
	case "replace": // replace OLD NEW in the document and put it
		old, replacement := strings.ReplaceAll(words[1], "~", " "), strings.ReplaceAll(words[2], "~", " ")
		if !strings.Contains(w.text, old) {
			w.t.Fatalf("%s: the document does not contain %q", line, old)
		}
		w.put(strings.ReplaceAll(w.text, old, strings.ReplaceAll(replacement, `\n`, "\n")))
	case "show": // what is served besides weights
		return w.show()
	case "wish": // wish OLD NEW: serve another backend
		w.put(strings.Replace(w.text, "serve: "+words[1], "serve: "+words[2], 1))
	case "delete":
		w.rev++
		w.mod, w.gone = 0, words[1] == "alone"
	case "pause":
		w.turn.Paused = true
	case "resume":
		w.turn.Paused = false
	case "order":
		w.rev++
		w.turn.Order = &policy.Order{Verb: policy.Verb(words[1]), Mod: w.rev}
		if len(words) > 2 {
			w.turn.Order.Release = words[2]
		}
	case "rollback": // an operator deletes the permit
		w.rev++
		clear(w.permit)
	case "hours":
		hours, err := strconv.Atoi(words[1])
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(time.Duration(hours) * time.Hour)
	default:
		w.t.Fatalf("unknown command %q", line)
	}
	return ""
}

// take plays one turn: "turn 250ms connected=3 ready=3 confirmed=3 verdict=healthy gap".
func (w *world) take(words []string) string {
	w.rev++
	turn := w.turn
	elapsed, err := time.ParseDuration(words[0])
	if err != nil {
		w.t.Fatal(err)
	}
	w.now = w.now.Add(elapsed)
	turn.Elapsed, turn.Now, turn.Revision, turn.Deadman, turn.Served = elapsed, w.now, w.rev, 15*time.Second, w.served
	for _, word := range words[1:] {
		w.set(&turn, word)
	}
	w.turn.Fleet, w.turn.Judgement = turn.Fleet, turn.Judgement
	turn.Wish = w.wish()
	turn.Around = policy.Around{Gateways: map[string]policy.Gateway{"default": policy.Gateway{Name: "default"}.WithDefaults()}, Served: w.served}
	turn.Permit = w.served.Serves() && w.served.Release != nil && w.permit[w.served.Release.ID]
	turn.Cause = w.cause
	return w.commit(policy.Decide(turn))
}

func (w *world) set(turn *policy.Turn, word string) {
	name, value, _ := strings.Cut(word, "=")
	number, _ := strconv.Atoi(value)
	switch name {
	case "connected":
		turn.Fleet.Connected = number
	case "ready":
		turn.Fleet.Ready = number
	case "confirmed":
		turn.Fleet.Confirmed = number
	case "fleet":
		turn.Fleet = policy.Fleet{Connected: number, Ready: number, Confirmed: number}
	case "rejected":
		turn.Fleet.Rejected = number
	case "verdict", "excess", "rate", "requests", "unsettling":
		w.judge(&turn.Judgement, name, value)
	case "gap":
		turn.Gap = true
	case "deadman":
		turn.Deadman = time.Duration(number) * time.Second
	case "orphan":
		turn.Orphan = true
	case "restore":
		turn.Restore = true
	default:
		w.t.Fatalf("unknown word %q", word)
	}
}

// judge sets what the judge says; what goes by numbers stays as it is when its verdict changes. The excess is in points.
func (w *world) judge(j *policy.Judgement, name, value string) {
	number, err := strconv.ParseFloat(value, 64)
	switch name {
	case "verdict":
		said := map[string]policy.Judgement{
			"unknown":   {Lacks: "more requests", Reason: "too few requests"},
			"healthy":   {Verdict: policy.Healthy, Reason: "errors: not worse"},
			"unhealthy": {Verdict: policy.Unhealthy, Reason: "errors: green 48 %"},
		}[value]
		j.Verdict, j.Reason, j.Lacks, err = said.Verdict, said.Reason, said.Lacks, nil
	case "excess":
		j.Excess = number / 100
	case "rate":
		j.Rate = number
	case "requests":
		j.StepRequests = uint64(number)
	case "unsettling": // unsettling=no, or what it waits for
		j.Unsettling, j.Lacks, err = value != "no", strings.ReplaceAll(value, "~", " "), nil
	}
	if err != nil {
		w.t.Fatalf("%s=%s: %v", name, value, err)
	}
}

func (w *world) wish() policy.Wish {
	if w.mod == 0 {
		return policy.Wish{Gone: w.gone}
	}
	parsed, err := policy.ParseService("shop", []byte(w.text))
	if err != nil {
		return policy.Wish{Mod: w.mod, Problems: strings.Split(err.Error(), "\n")}
	}
	return policy.Wish{Mod: w.mod, Service: parsed.WithDefaults()}
}

// commit applies a decision as one transaction and prints it.
func (w *world) commit(d policy.Decision) string {
	var out strings.Builder
	if d.Alarm != "" {
		fmt.Fprintf(&out, "  alarm: %s\n", d.Alarm)
	}
	if d.Rollback != nil {
		fmt.Fprintf(&out, "  ROLLBACK %s: %s\n", w.stable(d.Rollback.Release), d.Rollback.Reason)
		delete(w.permit, d.Rollback.Release)
		w.cause = d.Rollback.Reason
		return out.String()
	}
	if d.NeedPermit != "" && d.Save && !w.permit[d.NeedPermit] {
		w.t.Fatalf("a save needs permit %s, which does not exist", d.NeedPermit)
	}
	if d.CreatePermit != "" {
		w.permit[d.CreatePermit] = true
		w.cause = ""
	}
	delete(w.permit, d.DeletePermit)
	if d.DropOrder {
		w.turn.Order = nil
	}
	w.served = d.Served
	if d.Delete {
		w.served = nil
	}
	for _, e := range d.Events {
		fmt.Fprintf(&out, "  %s: %s\n", e.Name, w.stable(e.Text))
	}
	if d.Save || d.Delete {
		out.WriteString(w.describe())
	}
	return out.String()
}

// stable hides the revision in release ids.
func (w *world) stable(text string) string {
	if w.served != nil && w.served.Release != nil {
		return strings.ReplaceAll(text, w.served.Release.ID, w.served.Release.Candidate.Backend+"-N")
	}
	return text
}

func (w *world) describe() string {
	s := w.served
	if !s.Serves() {
		if s != nil && s.Refused != nil {
			return "  = nothing served, document refused\n"
		}
		return "  = nothing served\n"
	}
	text := fmt.Sprintf("  = live %s", s.Live.Ref)
	if r := s.Release; r != nil {
		text += fmt.Sprintf("; %s %s at %s (%s), waits for %s", r.Candidate.Ref, r.Phase, r.Weight, r.Mode, r.Waits)
	} else {
		text += "; steady"
	}
	if s.Blocked != nil {
		text += fmt.Sprintf("; %s is refused until the wish changes", *s.Blocked)
	}
	return text + "\n"
}

// show prints the routes and what stands behind both arms.
func (w *world) show() string {
	var out strings.Builder
	for _, r := range w.served.Service.Routes {
		fmt.Fprintf(&out, "  route %s%s: timeout %s\n", r.Match.Path, r.Match.Prefix, r.Timeout)
	}
	arms := []policy.Arm{w.served.Live}
	if r := w.served.Release; r != nil {
		arms = append(arms, r.Candidate)
	}
	for _, arm := range arms {
		fmt.Fprintf(&out, "  %s: %s", arm.Ref, strings.Join(append(arm.Definition.Endpoints, string(arm.Definition.Protocol)), " "))
		if arm.Definition.Health != nil {
			fmt.Fprintf(&out, ", health at %s", arm.Definition.Health.Path)
		}
		out.WriteString("\n")
	}
	return out.String()
}
