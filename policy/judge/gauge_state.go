package judge

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"math"
)

const (
	stateOfGauge = 'q'
	mostSquares  = 1e150 // sums of squares of values within mostValue, over counts within mostEver, are below it
)

var (
	_ encoding.BinaryMarshaler   = (*Gauge)(nil)
	_ encoding.BinaryUnmarshaler = (*Gauge)(nil)
	_ encoding.TextMarshaler     = (*Gauge)(nil)
	_ encoding.TextUnmarshaler   = (*Gauge)(nil)
)

// MarshalBinary returns the whole state, for another process to go on from. It does not fail.
func (g *Gauge) MarshalBinary() ([]byte, error) {
	state := *g
	if state.limit == 0 {
		state.bet(state.settings.fit())
	}
	return seal(stateOfGauge, state.code), nil
}

// UnmarshalBinary takes over what MarshalBinary returned, settings included. Anything else is an error and changes nothing.
func (g *Gauge) UnmarshalBinary(data []byte) error {
	var state Gauge
	err := open(stateOfGauge, data, state.code)
	if err == nil && !(state.valid() && state.scatter.valid()) {
		err = errValue
	}
	if err != nil {
		return fmt.Errorf("read the state of a quantity: %w", err)
	}
	*g = state
	return nil
}

// MarshalText is MarshalBinary in base64, so that the state can stand in JSON.
func (g *Gauge) MarshalText() ([]byte, error) {
	data, err := g.MarshalBinary()
	return base64.StdEncoding.AppendEncode(nil, data), err
}

// UnmarshalText takes over what MarshalText returned. Anything else is an error and changes nothing.
func (g *Gauge) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("read the state of a quantity: %w", err)
	}
	return g.UnmarshalBinary(data)
}

func (g *Gauge) code(c codec) {
	settings := g.settings
	c.number(&settings.Alpha)
	c.number(&settings.Margin)
	codeFlag(c, &settings.HigherIsBetter)
	if g.limit == 0 {
		// Reading: what the body does not hold comes from the settings.
		g.bet(settings.fit())
	}
	for i := range g.bets {
		c.number(&g.bets[i])
	}
	for _, v := range []*float64{&g.rest, &g.now, &g.peak, &g.margin} {
		c.number(v)
	}
	codeFlag(c, &g.sure)
	g.pool.code(c)
	g.scatter.code(c)
	codeSample(c, &g.all.live)
	codeSample(c, &g.all.candidate)
	for i := range g.recent {
		c.number(&g.recent[i].sum)
		c.number(&g.recent[i].count)
	}
	c.whole(&g.weighed, mostTurns)
}

func codeSample(c codec, s *Sample) {
	c.number(&s.Sum)
	c.whole(&s.Count, mostEver)
}

// codeCount stores a count that is kept as a number to reckon with.
func codeCount(c codec, v *float64) {
	n := uint64(max(*v, 0))
	c.whole(&n, mostEver)
	*v = float64(n)
}

func (p *pool) code(c codec) {
	codeSample(c, &p.live)
	codeSample(c, &p.candidate)
	codeTime(c, &p.length, poolSilence)
	codeSample(c, &p.before)
	c.number(&p.squares)
	codeCount(c, &p.pairs)
}

func (s *scatter) code(c codec) {
	c.whole(&s.next, mostTurns)
	n := uint64(s.n)
	c.whole(&n, min(s.next, scatterSlots))
	s.n = int(n)
	for i := range n {
		l := &s.ring[(s.next-1-i)%scatterSlots]
		c.number(&l.mean)
		codeCount(c, &l.count)
		c.number(&l.squares)
		codeCount(c, &l.pairs)
	}
	for _, v := range []*float64{&s.variance, &s.floor, &s.alike, &s.before, &s.products, &s.squares, &s.taught} {
		c.number(v)
	}
	codeFlag(c, &s.rare)
	for i := range s.psi {
		c.number(&s.psi[i])
	}
}

func within(v, least, most float64) bool { return v >= least && v <= most }

// valid reports whether a state that was read can have come from turns: nothing in it may turn into something that is not a number later.
func (g *Gauge) valid() bool {
	ok := within(g.rest, 0, 1) && within(g.peak, 1, richest*(lambdas+1)) && within(g.now, 0, g.peak) && within(g.margin, 0, mostSquares)
	for _, bet := range g.bets {
		ok = ok && within(bet, 0, richest)
	}
	for _, s := range []Sample{g.all.live, g.all.candidate, g.pool.live, g.pool.candidate, g.pool.before} {
		ok = ok && math.Abs(s.Sum) <= mostSquares
	}
	for _, l := range g.recent {
		ok = ok && math.Abs(l.sum) <= mostSquares && within(l.count, 0, mostEver)
	}
	return ok && within(g.pool.squares, 0, mostSquares)
}

func (s *scatter) valid() bool {
	ok := within(s.variance, 0, mostSquares) && within(s.floor, 0, mostSquares) && within(s.alike, 0, mostAlike) && within(s.before, -clip, clip)
	ok = ok && within(s.taught, 0, mostEver) && within(s.squares, 0, mostEver) && within(s.products, -mostEver, mostEver)
	for i := range s.n {
		l := s.back(i)
		ok = ok && math.Abs(l.mean) <= 2*mostValue && l.count >= 1 && within(l.squares, 0, mostSquares)
	}
	for i, psi := range usualPsi() {
		ok = ok && within(s.psi[i], psi, mostEver)
	}
	return ok
}
