package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

func newWatch(a *app) *cobra.Command {
	var output format
	command := serviceCommand(a, "watch", "Follow a service: weights, requests, evidence, events", func(ctx context.Context, name string) error {
		return a.watch(ctx, name, output)
	})
	command.Long = "Watch shows a service live on a terminal; otherwise it prints one line per event. With --output json it prints one JSON object per line,\n" +
		"with --output yaml one document for each.\n" +
		"Ctrl-C ends it and leaves the release alone."
	outputFlag(command, &output, asTable, asYAML, asJSON)
	return command
}

// watcher follows one service and shows it. Its picture is owned by run.
type watcher struct {
	app     *app
	store   *store.Store
	show    func(picture, []store.Line) // the picture, and the lines of history that are new
	picture picture
	reports map[string]store.Report
	beside  bool   // a standstill is told beside what is shown, on standard error
	stands  string // the standstill that was told last
}

// watch chooses how to show: the same pictures become a live view, lines of events, or values.
func (a *app) watch(ctx context.Context, name string, output format) error {
	return a.withStore(ctx, "watch "+name, func(s *store.Store) error {
		p, err := a.look(ctx, s, name)
		if err != nil {
			return err
		}
		// How old the served copy is cannot be known; its times go on from here until the next one comes.
		p.seen = p.now
		w := &watcher{app: a, store: s, picture: p, show: a.showEvents, beside: true}
		switch {
		case output != asTable:
			w.show = func(p picture, fresh []store.Line) { a.showValues(p, fresh, output) }
		case a.screen.live:
			w.show, w.beside = newFrame(a).draw, false
		default:
			a.say("%s", p.why()[0])
		}
		err = w.run(ctx, name)
		switch {
		case errors.Is(err, errEnough):
			a.complain(name + " is no longer there.")
			return nil
		case ctx.Err() != nil:
			a.complain("\n" + leftAlone(w.picture))
			return nil
		}
		return err
	})
}

// leftAlone says that the end of watching ends nothing else.
func leftAlone(p picture) string {
	if p.service.release() == nil {
		return p.service.name + " is left as it is."
	}
	return "The release is left alone: " + clean(progressText(p.service)) + "."
}

// run follows until ctx ends or the service is gone.
func (w *watcher) run(ctx context.Context, name string) error {
	group, ctx := errgroup.WithContext(ctx)
	services, reports := make(chan *service), make(chan map[string]store.Report)
	group.Go(func() error {
		return follow(ctx, w.store, func(now *world) (bool, error) { return false, hand(ctx, services, now.service(name).copied()) })
	})
	group.Go(func() error {
		return w.store.WatchReplicas(ctx, func(current map[string]store.Report) error { return hand(ctx, reports, current) })
	})
	group.Go(func() error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		w.show(w.picture, nil)
		for {
			var err error
			select {
			case <-ctx.Done():
				return ctx.Err()
			case v := <-services:
				err = w.takeService(ctx, v)
			case w.reports = <-reports:
				w.refresh(nil)
			case <-tick.C:
				w.takeEvidence(ctx)
			}
			if err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// hand gives a value to whoever receives from the channel.
func hand[T any](ctx context.Context, to chan<- T, value T) error {
	select {
	case to <- value:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copied is safe to hand to another goroutine.
func (v *service) copied() *service {
	c := *v
	c.permits = maps.Clone(v.permits)
	return &c
}

// takeService takes a newer state. Only what the watch brought about this service counts; it is called for other services' changes as well.
func (w *watcher) takeService(ctx context.Context, v *service) error {
	if !v.there() {
		return errEnough
	}
	before := w.picture.service
	if v.servedMod != before.servedMod {
		w.picture.seen = w.app.now()
	} else if v.paused == before.paused && v.doc.Mod == before.doc.Mod && len(v.permits) == len(before.permits) {
		return nil
	}
	w.picture.service = v
	w.refresh(w.newHistory(ctx))
	return nil
}

// newHistory fetches the lines since the last time. An etcd that does not answer now is asked again with the next change.
func (w *watcher) newHistory(ctx context.Context) []store.Line {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	lines, err := w.store.History(short, w.picture.service.name, historyTail)
	if err != nil {
		return nil
	}
	fresh := newLines(w.picture.lines, lines)
	w.picture.lines = lines
	return fresh
}

// takeEvidence reads the judge's numbers, and the history in case a change came while etcd did not answer.
func (w *watcher) takeEvidence(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	found, err := readEvidence(short, w.store, w.picture.service.name, w.picture.service.release())
	if err == nil {
		w.picture.evidence = found
	}
	w.takeLeader(short)
	fresh := w.newHistory(ctx)
	w.picture.now = w.app.now()
	if stands := w.picture.standstill(); len(fresh) > 0 || stands != w.stands || w.picture.service.release() != nil {
		w.tellStandstill(stands)
		w.refresh(fresh)
	}
}

// takeLeader also finds out whether etcd answers at all.
func (w *watcher) takeLeader(ctx context.Context) {
	_, led, err := w.store.Leader(ctx)
	switch {
	case err == nil:
		w.picture.led, w.picture.silent = led, time.Time{}
	case w.picture.silent.IsZero():
		w.picture.silent = w.app.now()
	}
}

// tellStandstill says once that nothing goes on, and once that it does again.
func (w *watcher) tellStandstill(stands string) {
	before := w.stands
	w.stands = stands
	switch {
	case !w.beside || stands == before:
	case stands == "":
		w.app.complain("watch: etcd answers, and a replica leads again")
	default:
		w.app.complain("watch: " + stands)
	}
}

// refresh shows the picture as it is now.
func (w *watcher) refresh(fresh []store.Line) {
	w.picture.now = w.app.now()
	w.picture.take(w.reports)
	w.show(w.picture, fresh)
}

// showEvents prints one line per event.
func (a *app) showEvents(p picture, fresh []store.Line) {
	for _, l := range fresh {
		a.say("%s", clean(timeText(l.Time, p.now)+"  "+l.Text))
	}
}

// watchLine is one value of --output json or yaml: a state, or an event of the history.
type watchLine struct {
	Time     time.Time       `json:"time"`
	Service  string          `json:"service"`
	Event    *store.Line     `json:"event,omitempty"`
	Release  *policy.Release `json:"release,omitempty"`
	Live     *policy.Ref     `json:"live,omitempty"`
	Paused   bool            `json:"paused,omitempty"`
	Evidence *evidence       `json:"evidence,omitempty"`
	Fleet    *policy.Fleet   `json:"fleet,omitempty"`
}

// showValues writes the new events before the state that they led to.
func (a *app) showValues(p picture, fresh []store.Line, f format) {
	for _, l := range fresh {
		a.printLine(f, watchLine{Time: l.Time, Service: p.service.name, Event: &l})
	}
	state := watchLine{Time: p.now, Service: p.service.name, Paused: p.service.paused, Release: p.service.release(), Evidence: p.evidence}
	if p.service.served.Serves() {
		state.Live = &p.service.served.Live.Ref
	}
	if p.reported {
		state.Fleet = &p.fleet
	}
	a.printLine(f, state)
}

// printLine writes one value of a stream: a line of JSON, or a document of YAML, with the mark of its end so that a reader need not wait for the next one.
func (a *app) printLine(f format, line watchLine) {
	data, err := json.Marshal(line)
	if err == nil && f == asYAML {
		data, err = yamlOf(data)
		data = slices.Concat([]byte("---\n"), data, []byte("..."))
	}
	if err != nil {
		a.complain("watch: " + err.Error())
		return
	}
	a.say("%s", data)
}
