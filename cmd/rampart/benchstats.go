package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// sample is one measured value.
type sample struct {
	what  string
	unit  unit
	value float64
}

// unit is what a value counts.
type unit string

const (
	milliseconds unit = "ms"
	requests     unit = "requests"
	releases     unit = "releases"
)

// text is a value with its unit.
func (u unit) text(value float64) string {
	if u == milliseconds {
		return msText(&value)
	}
	return strconv.FormatFloat(value, 'f', -1, 64)
}

// distribution is what one kind of value came to over all runs.
type distribution struct {
	What   string    `json:"what"`
	Unit   unit      `json:"unit"`
	Runs   int       `json:"runs"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	P90    float64   `json:"p90"`
	Max    float64   `json:"max"`
	Values []float64 `json:"values"` // in the order of the runs
}

// measured is what a trial came to.
type measured struct {
	Trial         string         `json:"trial"`
	Distributions []distribution `json:"distributions"`
	Failed        int64          `json:"failed"` // requests that failed although only the control plane was touched
	Burden        []load         `json:"burden"`
	Error         string         `json:"error,omitempty"` // why there are fewer runs than were asked for
}

// load is what a process cost.
type load struct {
	Process string  `json:"process"`
	CPU     float64 `json:"cpu"` // share of one core
	RSS     int64   `json:"rss"` // bytes, the most that was seen
}

// found puts the samples together, in the order in which their kinds first came.
func (b *bench) found(name string) measured {
	m := measured{Trial: name, Distributions: []distribution{}, Failed: b.failed, Burden: b.burden.loads()}
	for _, one := range b.samples {
		at := slices.IndexFunc(m.Distributions, func(d distribution) bool { return d.What == one.what })
		if at < 0 {
			at = len(m.Distributions)
			m.Distributions = append(m.Distributions, distribution{What: one.what, Unit: one.unit})
		}
		m.Distributions[at].Values = append(m.Distributions[at].Values, one.value)
	}
	for i := range m.Distributions {
		m.Distributions[i].sum()
	}
	return m
}

// sum computes the quantiles: each is the least value that so large a share of the values does not exceed.
func (d *distribution) sum() {
	sorted := slices.Sorted(slices.Values(d.Values))
	d.Runs = len(sorted)
	d.Min, d.Max = sorted[0], sorted[d.Runs-1]
	d.Median, d.P90 = quantile(sorted, 0.5), quantile(sorted, 0.9)
}

func quantile(sorted []float64, q float64) float64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func distributions(all []measured) table {
	t := table{{"MEASUREMENT", "WHAT", "RUNS", "MIN", "MEDIAN", "P90", "MAX"}}
	for _, m := range all {
		for _, d := range m.Distributions {
			t = append(t, []string{m.Trial, d.What, fmt.Sprint(d.Runs), d.Unit.text(d.Min), d.Unit.text(d.Median), d.Unit.text(d.P90), d.Unit.text(d.Max)})
		}
	}
	return t
}

func burdens(all []measured) table {
	t := table{{"MEASUREMENT", "PROCESS", "CPU", "RSS", "FAILED REQUESTS"}}
	for _, m := range all {
		for _, l := range m.Burden {
			t = append(t, []string{m.Trial, l.Process, fmt.Sprintf("%.1f %%", 100*l.CPU), fmt.Sprintf("%d MB", l.RSS>>20), fmt.Sprint(m.Failed)})
		}
	}
	return t
}

// burden adds up what rampart and its etcd used, over several lives of both.
type burden struct {
	since  time.Time
	lived  time.Duration
	server use
	etcd   use
}

// use is what one kind of process used.
type use struct {
	pid    int
	before time.Duration // CPU time it had used when its observation began
	cpu    time.Duration
	rss    int64
}

// begin begins to observe the server that runs now; its etcd is met when it is there.
func (b *burden) begin(f *fleet, now time.Time) {
	b.since = now
	b.server.meet(f.server.Pid())
	b.etcd.pid = 0
	b.meetEtcd()
}

func (b *burden) meetEtcd() {
	// A server that has just begun has no child yet; a system without /proc has none to be seen.
	if children, err := childrenOf(b.server.pid); err == nil && len(children) > 0 {
		b.etcd.meet(children[0])
	}
}

// meet begins with what the process has used already.
func (u *use) meet(pid int) {
	u.pid, u.before = pid, 0
	if stat, err := readStat(pid); err == nil {
		u.before = stat.cpu
	}
}

// note adds what was used since begin or since it was called last. The server must still live.
func (b *burden) note(now time.Time) {
	if b.etcd.pid == 0 {
		b.meetEtcd()
		b.etcd.before = 0
	}
	b.lived += now.Sub(b.since)
	b.server.note()
	b.etcd.note()
	b.since = now
}

func (u *use) note() {
	stat, err := readStat(u.pid)
	if err != nil {
		return
	}
	u.cpu += stat.cpu - u.before
	u.before = stat.cpu
	u.rss = max(u.rss, stat.rss)
}

func (b *burden) loads() []load {
	if b.lived == 0 {
		return []load{}
	}
	seconds := b.lived.Seconds()
	return []load{
		{Process: "rampart", CPU: b.server.cpu.Seconds() / seconds, RSS: b.server.rss},
		{Process: "its etcd", CPU: b.etcd.cpu.Seconds() / seconds, RSS: b.etcd.rss},
	}
}
