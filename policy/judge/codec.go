package judge

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	mostTurns = 1 << 40 // a turn's number above this is damage: thousands of years of turns
	mostEver  = 1 << 60 // and so is a count over a release above this
	mostNoise = 1e18    // and a sum of squares
	mostKnown = 1 << 62 // a time in ns that stays a time when more is added
)

// codec is either direction of storing: one description of the state serves both, so that they cannot differ.
type codec interface {
	whole(v *uint64, most uint64)
	number(v *float64)
	small(v *float32)
}

// writer appends values.
type writer struct{ buf []byte }

func (w *writer) whole(v *uint64, _ uint64) { w.buf = binary.AppendUvarint(w.buf, *v) }

func (w *writer) number(v *float64) {
	w.buf = binary.LittleEndian.AppendUint64(w.buf, math.Float64bits(*v))
}

func (w *writer) small(v *float32) {
	w.buf = binary.LittleEndian.AppendUint32(w.buf, math.Float32bits(*v))
}

// reader takes values off. After the first error everything reads as zero.
type reader struct {
	buf []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.buf = nil
}

func (r *reader) whole(v *uint64, most uint64) {
	read, n := binary.Uvarint(r.buf)
	*v = 0
	switch {
	case r.err != nil:
	case n <= 0:
		r.fail(errShort)
	case read > most:
		r.fail(errValue)
	default:
		*v, r.buf = read, r.buf[n:]
	}
}

func (r *reader) number(v *float64) {
	*v = 0
	if len(r.buf) < 8 {
		r.fail(errShort)
		return
	}
	read := math.Float64frombits(binary.LittleEndian.Uint64(r.buf))
	r.buf = r.buf[8:]
	if math.IsNaN(read) || math.IsInf(read, 0) {
		r.fail(errValue)
		return
	}
	*v = read
}

func (r *reader) small(v *float32) {
	*v = 0
	if len(r.buf) < 4 {
		r.fail(errShort)
		return
	}
	read := math.Float32frombits(binary.LittleEndian.Uint32(r.buf))
	r.buf = r.buf[4:]
	if !(read >= 0) || math.IsInf(float64(read), 1) {
		r.fail(errValue)
		return
	}
	*v = read
}

func codeCounts(c codec, counts *Counts, most uint64) {
	c.whole(&counts.Good, most)
	c.whole(&counts.Bad, most)
}

func codeArms(c codec, a *arms, most uint64) {
	codeCounts(c, &a.live, most)
	codeCounts(c, &a.candidate, most)
}

func codeTime(c codec, d *time.Duration, most time.Duration) {
	v := uint64(*d)
	c.whole(&v, uint64(most))
	*d = time.Duration(v)
}

func (r *ring) code(c codec, span time.Duration) {
	c.whole(&r.next, mostTurns)
	n := uint64(r.n)
	c.whole(&n, min(r.next, uint64(slots)))
	r.n, r.total = int(n), 0
	for i := range r.n {
		length := &r.lengths[r.back(i)%uint64(slots)]
		beyond := max(*length, shortest) - shortest
		codeTime(c, &beyond, longest-shortest)
		*length = shortest + beyond
		r.total += *length
	}
	// A ring must not hold more than its span, or its owner's array would be too small for it.
	for r.n > 1 && r.total > span {
		r.total -= r.length(r.back(r.n - 1))
		r.n--
	}
}

func (w *window) code(c codec) {
	w.ring.code(c, span)
	w.sum = arms{}
	for i := range w.ring.n {
		turn := &w.turns[w.ring.back(i)%uint64(slots)]
		codeArms(c, turn, mostRequests)
		w.sum.add(*turn)
	}
}

func (g *Guard) code(c codec) {
	codeTime(c, &g.Blip, burstSpan)
	g.recent.code(c)
}

func (p *process) code(c codec) {
	c.whole((*uint64)(&p.odds), uint64(manyOdds)-1)
	for i := range p.wealth {
		c.number(&p.wealth[i])
	}
	c.number(&p.rest)
	c.number(&p.now)
	c.number(&p.peak)
	p.recent.code(c, burstSpan)
	for i := range p.recent.n {
		codeRow(c, &p.gained[p.recent.back(i)%uint64(burstSlots)])
	}
}

// codeRow stores a turn's gains; in most turns of a quiet service nothing gained.
func codeRow(c codec, row *[bets]float32) {
	some := uint64(0)
	if *row != [bets]float32{} {
		some = 1
	}
	c.whole(&some, 1)
	if some == 0 {
		return
	}
	for i := range row {
		c.small(&row[i])
	}
}

func (x *excess) code(c codec) {
	for i := range x.won {
		c.number(&x.won[i])
		c.number(&x.paid[i])
	}
}

func (d *dispersion) code(c codec) {
	d.short.code(c)
	d.long.code(c)
	codeCounts(c, &d.seen, mostEver)
	codeTime(c, &d.known, mostKnown)
	c.number(&d.value)
}

func (p *pairs) code(c codec) {
	codeCounts(c, &p.before, mostEver)
	codeCounts(c, &p.now, mostEver)
	codeTime(c, &p.filled, episodeWindow)
	c.number(&p.squares)
	c.number(&p.weight)
	c.number(&p.trust)
}

func (e *episodes) code(c codec) {
	c.number(&e.stake)
	if e.stake > 0 {
		e.bets.code(c)
		c.number(&e.handed)
		codeTime(c, &e.rest, episodeRest)
	}
	codeTime(c, &e.liveRest, episodeRest)
	c.whole(&e.seen, mostEver)
	e.noise.code(c)
}

func (i *incident) code(c codec) {
	codeTime(c, &i.left, incidentAfter)
	codeCounts(c, &i.usual, mostEver)
	c.whole(&i.taught, mostTurns)
}

func (e *Errors) code(c codec) {
	s := e.settings
	for _, v := range []*float64{&s.Alpha, &s.Ratio, &s.Points, &s.Limit} {
		c.number(v)
	}
	codeTime(c, &s.Blip, burstSpan)
	if e.limit == 0 {
		// Reading: what the body does not hold comes from the settings.
		e.begin(s)
	}
	e.margin.code(c)
	if e.settings.Limit > 0 {
		e.ceiling.code(c)
	}
	e.episodes.code(c)
	c.number(&e.now)
	c.number(&e.peak)
	e.excess.code(c)
	e.noise.code(c)
	e.incident.code(c)
	e.codeFlags(c)
	e.recent.code(c)
	codeArms(c, &e.all, mostEver)
	codeArms(c, &e.step, mostEver)
}

// codeFlags stores what is a word or a yes as a small number.
func (e *Errors) codeFlags(c codec) {
	words := [...]string{"", byErrors, byLimit}
	flags := uint64(0)
	for i, word := range words {
		if e.by == word {
			flags = uint64(i)
		}
	}
	n := uint64(len(words))
	if e.held {
		flags += n
	}
	if e.weighed {
		flags += 2 * n
	}
	c.whole(&flags, 4*n-1)
	e.by = words[flags%n]
	e.held = flags/n%2 == 1
	e.weighed = flags/n >= 2
}

// valid reports whether a state that was read can have come from turns: nothing in it may turn into something that is not a number later.
func (e *Errors) valid() bool {
	return e.noise.valid() && e.margin.valid() && e.ceiling.valid() && e.excess.valid() && e.peak >= 0 && e.peak >= e.now && e.episodes.valid()
}

func (d *dispersion) valid() bool {
	return d.value >= 1 && d.value <= phiMost && d.short.valid() && d.long.valid()
}

func (p *pairs) valid() bool {
	ok := true
	for _, v := range [...]float64{p.squares, p.weight, p.trust} {
		ok = ok && v >= 0 && v <= mostNoise
	}
	return ok
}

func (e *episodes) valid() bool {
	if !e.noise.valid() {
		return false
	}
	if e.stake == 0 {
		return true
	}
	return e.stake > 0 && e.stake <= stakeMost && math.Abs(e.handed) <= mostNoise && e.bets.valid()
}

func (x *excess) valid() bool {
	ok := true
	for i, won := range x.won {
		ok = ok && math.Abs(won) <= mostNoise && x.paid[i] >= 0 && x.paid[i] <= mostNoise
	}
	return ok
}

func (p *process) valid() bool { return wealthy(p.wealth[:], p.rest) && p.peak >= 0 && p.peak >= p.now }

func wealthy(bets []float64, rest float64) bool {
	ok := rest <= 0
	for _, wealth := range bets {
		ok = ok && wealth <= mostNoise
	}
	return ok
}
