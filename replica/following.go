package replica

import (
	"context"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/store"
)

// gatherFor is how long a change may wait for those that had arrived right behind it.
const gatherFor = 5 * time.Millisecond

// Run follows etcd until ctx ends.
func (s *Serving) Run(ctx context.Context) error {
	return s.store.Watch(ctx, func(b store.Batch) error {
		s.follow(b)
		return nil
	})
}

// GoOn pushes what was held for a moment, until ctx ends.
func (s *Serving) GoOn(ctx context.Context) error {
	for {
		var due <-chan time.Time
		if wait, held := s.waits(); held {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			s.noteLast()
			return nil
		case <-s.later:
		case <-due:
			s.goOn()
		}
	}
}

// waits is how long until what is held goes on.
func (s *Serving) waits() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, s.due.Sub(s.now())), !s.due.IsZero()
}

func (s *Serving) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = time.Time{}
	s.take()
	s.publish()
	s.note()
}

// follow takes one batch: what it changed is rendered and published at once, at the batch's revision; or with what has arrived right behind it, at the newest one.
func (s *Serving) follow(b store.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gathered = append(s.gathered, b)
	if b.More && !s.state.hasty(b) {
		s.hold(s.now().Add(gatherFor))
		return
	}
	s.take()
}

// take brings the state, and what is published, to the newest revision that has arrived. The caller holds mu.
func (s *Serving) take() {
	if len(s.gathered) == 0 {
		return
	}
	t := newTouched()
	for _, b := range s.gathered {
		t.add(s.state.apply(b))
	}
	s.gathered = nil
	if t.beaten {
		s.xds.Prove(s.now())
	}
	if t.adopted {
		s.adopt(t)
	}
	s.render(t)
	s.note() // an adopt starts the ledger anew, which opens
	s.open()
	s.see()
	s.metrics.followed(s.state.revision)
	s.arrived()
	if len(t.services)+len(t.gateways) > 0 || t.adopted {
		poke(s.wake)
	}
}

// render renders and publishes what was touched, as of the newest revision. The caller holds mu.
func (s *Serving) render(t touched) {
	for name := range t.gateways {
		s.renderGateway(name)
		s.dirtyGw = true
	}
	running := false
	for name := range t.services {
		_, asked := s.asked[name]
		running = running || asked || s.state.services[name].releasing()
		s.renderService(name, s.state.revision)
		s.dirty[name] = true
	}
	s.publish()
	if running {
		s.ask()
	}
}

// hold has something go on later, unless something goes on before that anyway. The caller holds mu.
func (s *Serving) hold(until time.Time) {
	if s.due.IsZero() || until.Before(s.due) {
		s.due = until
		poke(s.later)
	}
}

// publish pushes what changed since the last call and may go. The caller holds mu.
func (s *Serving) publish() {
	moment := envoy.Moment{Revision: s.state.revision, Now: s.now(), Present: s.present}
	out := s.renderer.FlushAt(moment)
	s.xds.Publish(s.state.revision, out.Updates)
	for _, push := range out.Routes {
		s.pushed(push, s.xds.ConnectedFor(push.Group, nil))
	}
	if !out.Due.IsZero() {
		s.hold(out.Due)
	}
}

func (s *Serving) present(group string) bool { return s.xds.ConnectedFor(group, nil) > 0 }

// pushed says what a push of a gateway's routes to so many proxies costs.
func (s *Serving) pushed(push envoy.RoutesPush, proxies int) {
	s.metrics.routes.pushed(push, proxies)
	if push.Large() && proxies > 0 {
		s.log.Info("the routes of a gateway are pushed", "gateway", push.Group, "services", push.Services, "bytes", push.Bytes, "proxies", proxies)
	}
}

// welcome has the routes of a group go at once that nobody was there for: a proxy joins it.
func (s *Serving) welcome(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renderer.Owes(group) && !s.present(group) {
		s.renderer.Press(group)
		s.publish()
	}
}

// welcomed does the same for a proxy that has joined in the moment in which its gateway came.
func (s *Serving) welcomed(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renderer.Owes(group) {
		s.publish()
	}
}

// note has the ledger follow what is served. The caller holds mu.
func (s *Serving) note() {
	again, err := s.ledger.note(s.state, s.store.ClusterID(), s.now())
	if err != nil {
		s.log.Warn("a wiped etcd might not be noticed after a restart", "err", err)
	}
	if !again.IsZero() {
		s.hold(again)
	}
}

// noteLast has the ledger hold what was served last, however short ago it was written.
func (s *Serving) noteLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.at = time.Time{}
	s.note()
}

// ask tells the collector which services to ask reports for. The caller holds mu.
func (s *Serving) ask() {
	wanted := s.wanted()
	clear(s.asked)
	for _, w := range wanted {
		s.asked[w.Service] = struct{}{}
	}
	s.collector.Want(wanted)
}

func (s *Serving) wanted() []envoy.Wanted {
	var wanted []envoy.Wanted
	for _, name := range s.state.running() {
		wanted = append(wanted, envoy.WantedOf(s.state.services[name].served, s.renderer.Settled(name)))
	}
	return wanted
}
