package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

const (
	widestBar  = 45
	shownLines = 8 // of history, in the live view
)

// frame is a live view on a terminal. It is owned by the goroutine that draws.
type frame struct {
	app   *app
	drawn int // lines on the screen that the next picture replaces
}

func newFrame(a *app) *frame { return &frame{app: a} }

// draw replaces the last picture by the next one, in place.
func (f *frame) draw(p picture, _ []store.Line) {
	s := f.app.screen
	s.width = s.widthNow()
	f.replace(p.view(s))
}

// replace puts lines in the place of those drawn before.
func (f *frame) replace(lines []string) {
	// What has scrolled away cannot be drawn over.
	if height := f.app.screen.heightNow(); height > 1 && len(lines) >= height {
		lines = lines[:height-1]
	}
	var out strings.Builder
	if f.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dF", f.drawn)
	}
	for _, line := range lines {
		out.WriteString("\x1b[2K" + line + "\n")
	}
	out.WriteString("\x1b[J")
	f.drawn = len(lines)
	// A terminal that has gone away ends the process by SIGHUP.
	_, _ = f.app.out.Write([]byte(out.String()))
}

// view is a picture as lines that fit the screen.
func (p picture) view(s screen) []string {
	var lines []string
	lines = append(lines, s.paint(bold, s.fit(clean(p.headline()))))
	if r := p.service.release(); r != nil {
		lines = append(lines, p.arms(s, r)...)
		if p.evidence != nil {
			lines = append(lines, s.paint(judgeColour(p.evidence.Latest), s.fit(clean("  judge      "+p.judge()))))
			for _, text := range p.findings() {
				lines = append(lines, s.fit(clean("             "+text)))
			}
		}
		for _, words := range p.fleet.Waiting {
			lines = append(lines, s.paint(waits, s.fit(clean("  waits for  "+proxyText(words)))))
		}
		lines = append(lines, s.fit(clean("  next       "+p.next())))
	} else if v := p.service.served; v.Serves() {
		for _, line := range p.steadyDetails() {
			lines = append(lines, s.fit(clean(line)))
		}
	}
	if stands := p.standstill(); stands != "" {
		lines = append(lines, s.paint(alert, s.fit("  alarm      "+stands)))
	}
	for _, alarm := range p.alarms {
		lines = append(lines, s.paint(alert, s.fit(clean("  alarm      "+alarm))))
	}
	for _, line := range p.refusedDetails() {
		lines = append(lines, s.paint(alert, s.fit(clean(line))))
	}
	for _, l := range p.lines[max(0, len(p.lines)-shownLines):] {
		text := s.fit(clean(fmt.Sprintf("  %s  %s", l.Time.Local().Format(time.TimeOnly), l.Text)))
		lines = append(lines, s.paint(eventColour(l.Event), text))
	}
	return lines
}

// headline is the first line: "shop  green v42 over blue v41   soaking at 5 %, 18 s of 30 s   3 of 3 proxies confirmed".
func (p picture) headline() string {
	v := p.service
	r := v.release()
	if r == nil {
		return strings.TrimSuffix(p.answer(), ".")
	}
	parts := []string{v.name + "  " + r.Candidate.String() + " over " + v.served.Live.String(), p.phaseText()}
	if p.reported {
		parts = append(parts, fmt.Sprintf("%d of %s confirmed", p.fleet.Confirmed, proxies(p.fleet.Connected)))
	}
	return strings.Join(parts, "   ")
}

// arms shows both sides of a release with their weights and what they got lately.
func (p picture) arms(s screen, r *policy.Release) []string {
	weight := r.Weight
	if !p.permitted() {
		weight = 0
	}
	live, candidate := p.service.served.Live.String(), r.Candidate.String()
	width := max(displaywidth.String(live), displaywidth.String(candidate))
	room := widestBar
	if s.width > 0 {
		room = min(widestBar, s.width-width-44)
	}
	row := func(name string, w policy.Weight, rate, errors float64) string {
		text := "  " + pad(name, width) + "  "
		if room > 4 {
			text += pad(bar(w.Share(), room), room) + "  "
		}
		text += padLeft(fmt.Sprintf("%.2f %%", 100*w.Share()), len("100.00 %"))
		if p.evidence != nil {
			text += padLeft(fmt.Sprintf("%.0f req/s", rate), 12) + padLeft(ratio(errors, rate)+" errors", 17)
		}
		return s.fit(text)
	}
	rates := policy.Rates{}
	if p.evidence != nil {
		rates = p.evidence.Rates
	}
	return []string{
		row(live, policy.Full-weight, rates.Live, rates.LiveErrors),
		row(candidate, weight, rates.Candidate, rates.CandidateErrors),
	}
}

// bar draws a share in eighths of a cell. Any share above zero shows.
func bar(share float64, cells int) string {
	eighths := int(share*float64(cells*8) + 0.5)
	if eighths == 0 && share > 0 {
		eighths = 1
	}
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}

// judgeColour is green only for a verdict: no news is not good news.
func judgeColour(j policy.Judgement) colour {
	switch {
	case j.Verdict == policy.Healthy:
		return good
	case j.Verdict == policy.Unhealthy:
		return alert
	case j.Incident:
		return waits
	}
	return plain
}

// eventColour marks the events that someone may have to act on. Their words say the same.
func eventColour(event string) colour {
	switch event {
	case "committed":
		return good
	case "rolling back", "rolled back", "refused":
		return alert
	case "paused", "restarted":
		return waits
	}
	return plain
}
