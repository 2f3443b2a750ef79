package judge

import (
	"math"
	"strings"
	"time"
)

const (
	foundersPart = 0.25            // of the wealth at the start, shared equally by the proxies that are known when the bets begin
	comersPart   = 0.25            // for those that come later
	founding     = 2 * time.Second // bets on proxies begin this long after the first of them was heard
	forgotten    = time.Minute     // a proxy that was not heard of for this long is dropped
	mostProxies  = 10000           // further ones are judged as part of the fleet only
	basel        = 6 / math.Pi / math.Pi
)

// crowd is an e-process for each proxy, with parts of one wealth that are fixed before the proxy's first try is weighed. The proxies that were heard of while the
// crowd is founded get equal parts. Those that come later come in generations as numerous as the founders, and generation g gets 6/(π²g²) of what is kept for all of
// them. So however many come, no more is spent than there was. A proxy that is gone leaves its place with what is left of its part, to be bet on another.
type crowd struct {
	clock    time.Duration // since the first proxy was heard of
	founders int           // 0 while the crowd is founded
	comers   int           // places given out later
	spare    float64       // wealth that is not yet given out
	places   []place
	free     []int32
	index    map[string]int32
}

// place is one proxy's.
type place struct {
	shortfall
	part  float64 // of the whole, at the start
	heard time.Duration
	proxy string // "": free
	met   bool   // weighed in this turn
}

func (p *place) wealth() float64 { return p.part * p.shortfall.wealth() }

// meet takes note of who reports in a turn.
func (c *crowd) meet(t SeenTurn) {
	if len(t.Proxies) == 0 && len(c.places) == 0 {
		return
	}
	for _, p := range t.Proxies {
		if i, known := c.index[p.Proxy]; known {
			c.places[i].heard = c.clock
		} else if p.Proxy != "" {
			c.join(p.Proxy)
		}
	}
	c.clock += t.Length
	if c.founders == 0 && c.clock > founding {
		c.found()
	}
}

// join gives a newcomer a place, if one is left.
func (c *crowd) join(proxy string) {
	if c.index == nil {
		c.index = map[string]int32{}
	}
	if n := len(c.free); n > 0 {
		i := c.free[n-1]
		c.free = c.free[:n-1]
		c.take(i, proxy)
		return
	}
	if len(c.places) == mostProxies {
		return
	}
	c.places = append(c.places, place{})
	if c.founders > 0 {
		c.places[len(c.places)-1].part = c.comer()
	}
	c.take(int32(len(c.places)-1), proxy)
}

func (c *crowd) take(i int32, proxy string) {
	p := &c.places[i]
	*p = place{shortfall: newShortfall(), part: p.part, heard: c.clock, proxy: strings.Clone(proxy)}
	c.index[p.proxy] = i
}

// comer is the part of the next newcomer.
func (c *crowd) comer() float64 {
	generation := float64(1 + c.comers/c.founders)
	c.comers++
	part := comersPart * basel / (generation * generation * float64(c.founders))
	c.spare -= part
	return part
}

// found ends the founding: the bets begin.
func (c *crowd) found() {
	c.founders, c.spare = len(c.places), comersPart
	for i := range c.places {
		c.places[i].part = foundersPart / float64(c.founders)
	}
}

// turn settles the bets of those that report. One that is twice in a turn counts once.
func (c *crowd) turn(proxies []ProxyIssued, k *stakes) {
	if c.founders == 0 {
		return
	}
	for _, p := range proxies {
		i, known := c.index[p.Proxy]
		if !known || !p.Steady || c.places[i].met {
			continue
		}
		c.places[i].met = true
		c.places[i].turn(p.Issued, k)
	}
}

// settle returns the wealth of all proxies, with what is not yet given out, and who has most of it. It drops those that are gone.
func (c *crowd) settle() (wealth float64, top *place) {
	if c.founders == 0 {
		return foundersPart + comersPart, nil
	}
	wealth = c.spare
	for i := range c.places {
		p := &c.places[i]
		p.met = false
		has := p.wealth()
		wealth += has
		switch {
		case p.proxy == "":
			continue
		case c.clock-p.heard > forgotten:
			c.drop(int32(i))
		case top == nil || has > top.wealth():
			top = p
		}
	}
	return wealth, top
}

// drop frees a place. Guilt is not handed on: what the next one begins with is what the last one began with, at most.
func (c *crowd) drop(i int32) {
	p := &c.places[i]
	delete(c.index, p.proxy)
	c.free = append(c.free, i)
	*p = place{shortfall: newShortfall(), part: min(p.part, p.wealth())}
}
