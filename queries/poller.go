package queries

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// Wanted is a service whose queries are asked, because a release of it runs.
type Wanted struct {
	Service, Release string
	Live, Candidate  policy.Ref
	Queries          []policy.Query
}

func (w Wanted) same(other Wanted) bool {
	return w.Service == other.Service && w.Release == other.Release && w.Live == other.Live && w.Candidate == other.Candidate && slices.Equal(w.Queries, other.Queries)
}

// Config is what a Poller works with.
type Config struct {
	Server    string              // the Prometheus of queries that name none; "" is none
	Now       func() time.Time    //
	Log       *slog.Logger        //
	Count     func(result string) // called for each question with what became of it: see docs/metrics.md; may be nil
	Transport http.RoundTripper   // how servers are reached; nil is over the network
}

// Poller asks the queries of running releases, again and again, and keeps the newest answers.
type Poller struct {
	// Fixed after New.
	config    Config
	transport http.RoundTripper
	wake      chan struct{} // capacity 1: what is wanted has changed

	mu      sync.Mutex
	wanted  []Wanted            // guarded by mu
	watches map[string][]*watch // guarded by mu: by service, as its Wanted lists the queries
	servers map[string]*server  // guarded by mu: by address
	told    map[warned]struct{} // guarded by mu: warnings that were logged
}

// mostTold bounds the memory of warnings; what a server warns of beyond is not logged.
const mostTold = 1000

// New makes a poller that asks nothing yet.
func New(c Config) *Poller {
	p := &Poller{
		config: c, transport: c.Transport, wake: make(chan struct{}, 1),
		watches: map[string][]*watch{}, servers: map[string]*server{}, told: map[warned]struct{}{},
	}
	if p.transport == nil {
		p.transport = newTransport()
	}
	if p.config.Count == nil {
		p.config.Count = func(string) {}
	}
	return p
}

// Want sets which services' queries are asked. A query that stays as it was keeps its answer. It may be called at every turn.
func (p *Poller) Want(wanted []Wanted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.EqualFunc(p.wanted, wanted, Wanted.same) {
		return
	}
	watches, servers := map[string][]*watch{}, map[string]*server{}
	for _, want := range wanted {
		for i, q := range want.Queries {
			w := p.newWatch(want, q, servers)
			if earlier := p.watches[want.Service]; i < len(earlier) && w.same(earlier[i]) {
				w = earlier[i]
			}
			watches[want.Service] = append(watches[want.Service], w)
		}
	}
	p.wanted, p.watches, p.servers = slices.Clone(wanted), watches, servers
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// newWatch prepares a query, or says why it cannot be asked. The servers that are used are added to the given ones. The caller holds mu.
func (p *Poller) newWatch(want Wanted, q policy.Query, servers map[string]*server) *watch {
	w := &watch{service: want.Service, release: want.Release, query: q, live: want.Live, candidate: want.Candidate, problem: "there is no answer yet"}
	if err := w.write(); err != nil {
		w.problem = clean("the query cannot be asked: "+err.Error(), longestWords)
		return w
	}
	address := q.Server
	if address == "" {
		address = p.config.Server
	}
	if address == "" {
		w.problem = "no Prometheus is named; give the query a `server`, or rampart serve --prometheus"
		return w
	}
	if problem := policy.ServerProblem(address); problem != "" {
		w.problem = "the query cannot be asked: server: " + problem
		return w
	}
	made, err := p.serverAt(address, servers)
	if err != nil {
		w.problem = clean(err.Error(), longestWords)
	}
	w.server = made
	return w
}

// serverAt is the server of an address, whoever asked it before. The caller holds mu.
func (p *Poller) serverAt(address string, servers map[string]*server) (*server, error) {
	known := servers[address]
	if known == nil {
		known = p.servers[address]
	}
	if known == nil {
		made, err := newServer(address, p.transport)
		if err != nil {
			return nil, err
		}
		known = made
	}
	servers[address] = known
	return known, nil
}

// write fills the query in for both arms.
func (w *watch) write() (err error) {
	for i, arm := range []policy.Ref{w.live, w.candidate} {
		if w.expressions[i], err = w.query.Ask(w.service, arm); err != nil {
			return err
		}
	}
	return nil
}

// Take returns the newest answers to a service's queries, as its Wanted lists them: nothing if it is not wanted.
func (p *Poller) Take(now time.Time, service string) []policy.QueryReading {
	p.mu.Lock()
	defer p.mu.Unlock()
	var readings []policy.QueryReading
	for _, w := range p.watches[service] {
		readings = append(readings, w.take(now))
	}
	return readings
}

// Run asks until ctx ends.
func (p *Poller) Run(ctx context.Context) error {
	defer p.closeIdle()
	var followers sync.WaitGroup
	defer followers.Wait()
	following := map[*watch]context.CancelFunc{}
	for {
		asked := p.asked()
		for w, stop := range following {
			if !asked[w] {
				stop()
				delete(following, w)
			}
		}
		for w := range asked {
			if following[w] == nil {
				own, stop := context.WithCancel(ctx)
				following[w] = stop
				followers.Go(func() { p.follow(own, w) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
	}
}

func (p *Poller) closeIdle() {
	if t, ok := p.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// asked is the set of the queries that can be asked.
func (p *Poller) asked() map[*watch]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := map[*watch]bool{}
	for _, watches := range p.watches {
		for _, w := range watches {
			if w.server != nil {
				asked[w] = true
			}
		}
	}
	return asked
}

// follow asks one query again and again. What a slow answer delays is left out, never asked twice at once.
func (p *Poller) follow(ctx context.Context, w *watch) {
	tick := time.NewTicker(w.every())
	defer tick.Stop()
	for {
		select {
		case w.server.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if ctx.Err() == nil { // of two that are ready select takes either
			p.ask(ctx, w)
		}
		<-w.server.slots
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask asks one query for both arms at once, of the same moment.
func (p *Poller) ask(ctx context.Context, w *watch) {
	at := p.config.Now()
	short, cancel := context.WithTimeout(ctx, w.within())
	defer cancel()
	var answers [2]answer
	var both sync.WaitGroup
	for i, expression := range w.expressions {
		both.Go(func() {
			answers[i] = p.askArm(short, w, question{expression: expression, at: at, oldest: w.oldest(), within: w.within()})
		})
	}
	both.Wait()
	if ctx.Err() == nil {
		p.note(w, at, answers)
	}
}

// askArm asks for one arm. A panic is that question's failure.
func (p *Poller) askArm(ctx context.Context, w *watch, q question) (found answer) {
	defer func() {
		if cause := recover(); cause != nil {
			p.config.Log.Error("a query panicked", "service", w.service, "err", fmt.Sprint(cause))
			found = answer{result: failed, words: "rampart failed to read the answer"}
		}
	}()
	found, warnings := w.server.ask(ctx, q)
	for _, one := range w.warnings(warnings) {
		p.tell(one)
	}
	return found
}

// tell logs a warning the first time.
func (p *Poller) tell(w warned) {
	p.mu.Lock()
	_, known := p.told[w]
	known = known || len(p.told) >= mostTold
	if !known {
		p.told[w] = struct{}{}
	}
	p.mu.Unlock()
	if !known {
		p.config.Log.Warn("Prometheus warns", "service", w.service, "reason", w.query+": "+w.words)
	}
}

// note keeps the answers, and logs when a query begins or ceases to have ones that count.
func (p *Poller) note(w *watch, at time.Time, answers [2]answer) {
	p.mu.Lock()
	before := w.result
	w.note(at, answers[0], answers[1])
	after, problem := w.result, w.problem
	p.mu.Unlock()
	p.config.Count(string(after))
	switch {
	case after == before || after == answered && before == "":
	case after == answered:
		p.config.Log.Info("a query has answers again", "service", w.service, "release", w.release, "reason", w.query.Name)
	default:
		p.config.Log.Warn("a query has no answer that counts", "service", w.service, "release", w.release, "reason", w.query.Name+": "+problem)
	}
}
