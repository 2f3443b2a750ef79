package judge

import "time"

const (
	incidentErrors = 10               // live's errors in 10 s, at least
	incidentAfter  = 15 * time.Second // the hold lasts this much longer than the incident
)

// incident is the hold while live itself is in trouble. What both arms suffer cancels in the evidence, but not what the shared fault does to them unequally.
// It looks at live only, so a bad candidate cannot hide behind it.
//
// What is usual for live is learned from turns that have left the last 10 s, and not from those of the 10 s before an incident was noticed: else an incident in
// the first minute of a release would count as usual before it is noticed, and never be.
type incident struct {
	left   time.Duration
	usual  Counts
	taught uint64 // turns with a number below this teach nothing
}

// age learns from a turn that leaves the last 10 s.
func (i *incident) age(number uint64, live Counts) {
	if number >= i.taught {
		i.usual.add(live)
	}
}

// turn takes live's last 10 s, with this turn of the given length before the turn next, and reports whether to hold.
func (i *incident) turn(recent Counts, next uint64, length time.Duration) bool {
	if recent.Bad >= incidentErrors && recent.rate() > i.level() {
		i.left = incidentAfter
	} else {
		i.left = max(0, i.left-length)
	}
	if i.left > 0 {
		i.taught = next
	}
	return i.left > 0
}

// kept is what stays for another release, which learned from a part of the past.
func (i *incident) kept(part float64) incident { return incident{usual: i.usual.kept(part)} }

// level is the error share above which live is in an incident (judge.md, section 1).
func (i *incident) level() float64 { return 5*i.usual.upper() + 0.01 }
