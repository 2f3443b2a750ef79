package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rampart-proxy/rampart/policy/simulation"
)

// progress shows on standard error how far long work has come: a bar on a terminal, a line now and then elsewhere.
type progress struct {
	app    *app
	what   string
	bar    bool
	screen screen

	done, all atomic.Int64
}

func (a *app) newProgress(what string) *progress {
	return &progress{app: a, what: clean(what), bar: isTerminal(a.err), screen: screenOf(a.err)}
}

// tell notes how much is done. It may be called from any goroutine.
func (p *progress) tell(done, all int) {
	p.all.Store(int64(all))
	for before := p.done.Load(); int64(done) > before && !p.done.CompareAndSwap(before, int64(done)); before = p.done.Load() {
	}
}

// during shows the progress of a question for as long as it takes to answer it.
func (p *progress) during(ctx context.Context, ask func(context.Context) (simulation.Forecast, error)) (simulation.Forecast, error) {
	type answer struct {
		forecast simulation.Forecast
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		forecast, err := ask(ctx)
		answered <- answer{forecast, err}
	}()
	began := p.app.now()
	every := 10 * time.Second
	if p.bar {
		every = 200 * time.Millisecond
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	p.show(0)
	for {
		select {
		case got := <-answered:
			p.end()
			return got.forecast, got.err
		case <-ticker.C:
			p.show(p.app.now().Sub(began))
		}
	}
}

// show draws the bar, or says a line.
func (p *progress) show(since time.Duration) {
	text := p.text(since)
	if !p.bar {
		p.app.complain(text)
		return
	}
	p.screen.width = p.screen.widthNow()
	_, _ = fmt.Fprint(p.app.err, "\r"+p.screen.fit(text)+"\x1b[K")
}

// end leaves no trace of a bar.
func (p *progress) end() {
	if p.bar {
		_, _ = fmt.Fprint(p.app.err, "\r\x1b[K")
	}
}

// text is the progress in one line. How long it still takes is only said when something is known of that.
func (p *progress) text(since time.Duration) string {
	done, all := p.done.Load(), p.all.Load()
	part := float64(done) / float64(max(1, all))
	text := p.what
	if p.bar {
		const width = 20
		text = pad(bar(part, width), width) + "  " + text
	}
	if all > 0 {
		text += fmt.Sprintf(", %d of %d releases", done, all)
	}
	if part > 0.02 && since > 0 {
		text += ", " + whole(time.Duration(float64(since)*(1-part)/part)) + " left"
	}
	return strings.TrimSpace(text)
}
