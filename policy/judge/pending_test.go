package judge_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// request is one try: when it was issued, and when it finished or was given up.
type request struct {
	issued, ended time.Duration
	finished      bool
}

const nowhere = time.Duration(math.MaxInt64)

// traffic is an arm's requests, spread over some proxies.
type traffic struct {
	random  *rand.Rand
	proxies [][]request
	turn    time.Duration
	from    []time.Duration // phase of each proxy's reports
}

// report is what a proxy says of one interval. arrives is the turn in which it is read.
type report struct {
	issued, finished, active uint64
	arrives                  int
}

// reports are those of one proxy: once per turn, each up to two turns late, in order.
func (f *traffic) reports(proxy int, turns int) []report {
	var all []report
	last, delay := 0, 0
	for i := range turns {
		at := f.from[proxy] + time.Duration(i)*f.turn
		if f.random.IntN(4) == 0 {
			delay = f.random.IntN(3)
		}
		r := report{arrives: max(last, i+delay)}
		last = r.arrives
		for _, q := range f.proxies[proxy] {
			if q.issued > at-f.turn && q.issued <= at {
				r.issued++
			}
			if q.finished && q.ended > at-f.turn && q.ended <= at {
				r.finished++
			}
			if q.issued <= at && q.ended > at {
				r.active++
			}
		}
		all = append(all, r)
	}
	return all
}

// lost is how many requests had hung for longer than after, or been given up, at a time.
func (f *traffic) lost(at, after time.Duration) (n uint64) {
	for _, requests := range f.proxies {
		for _, q := range requests {
			if hung := q.ended > at && q.issued < at-after; hung || !q.finished && q.ended <= at {
				n++
			}
		}
	}
	return n
}

// run feeds all turns and returns what was counted in each.
func (f *traffic) run(p *judge.Pending, turns int) []uint64 {
	issued, finished := make([]uint64, turns+3), make([]uint64, turns+3)
	active := make([][]uint64, len(f.proxies))
	for proxy := range f.proxies {
		active[proxy] = make([]uint64, turns+3)
		newest := 0
		for _, r := range f.reports(proxy, turns) {
			issued[r.arrives] += r.issued
			finished[r.arrives] += r.finished
			for ; newest < r.arrives; newest++ {
				active[proxy][newest+1] = active[proxy][newest]
			}
			active[proxy][r.arrives] = r.active
		}
	}
	slow := make([]uint64, turns)
	for i := range turns {
		level := uint64(0)
		for proxy := range active {
			level += active[proxy][i]
		}
		slow[i] = p.Turn(f.turn, issued[i], finished[i], level)
	}
	return slow
}

// newTraffic draws an arm whose rate jumps about, with the fate of each request drawn by end.
func newTraffic(random *rand.Rand, turn time.Duration, proxies int, rates []float64, end func(at time.Duration) request) *traffic {
	f := &traffic{random: random, turn: turn, proxies: make([][]request, proxies)}
	for range proxies {
		f.from = append(f.from, time.Duration(random.Float64()*float64(turn)))
	}
	at := time.Duration(0)
	for i, rate := range rates {
		// Each rate lasts five seconds.
		for at = max(at, time.Duration(i)*5*time.Second); at < time.Duration(i+1)*5*time.Second; {
			if at += time.Duration(random.ExpFloat64() / max(rate, 0.01) * float64(time.Second)); at < time.Duration(i+1)*5*time.Second {
				proxy := random.IntN(proxies)
				f.proxies[proxy] = append(f.proxies[proxy], end(at))
			}
		}
	}
	return f
}

// drawTraffic draws the circumstances.
func drawTraffic(t *rapid.T, end func(random *rand.Rand, at time.Duration) request) (f *traffic, turns int) {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
	turn := rapid.SampledFrom([]time.Duration{100 * time.Millisecond, quarter, time.Second}).Draw(t, "turn")
	rates := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 1, 10, 100, 400}), 2, 4).Draw(t, "rates")
	f = newTraffic(random, turn, rapid.IntRange(1, 5).Draw(t, "proxies"), rates, func(at time.Duration) request { return end(random, at) })
	return f, int(time.Duration(len(rates)) * 5 * time.Second / turn)
}

func TestRequestsOfAHealthyArmAreNeverLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Some take nearly as long as they may, or even all.
		shortest := time.Duration(rapid.SampledFrom([]int{0, 500, 900, 990}).Draw(t, "shortest in ms")) * time.Millisecond
		f, turns := drawTraffic(t, func(random *rand.Rand, at time.Duration) request {
			return request{issued: at, ended: at + shortest + time.Duration(random.Float64()*float64(time.Second-shortest)), finished: true}
		})
		var p judge.Pending
		p.After(time.Second)
		for i, slow := range f.run(&p, turns) {
			if slow > 0 {
				t.Fatalf("%d counted in turn %d", slow, i)
			}
		}
	})
}

// Whatever hangs or is given up, no more is counted than has.
func TestNoMoreIsCountedThanIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part, quits := rapid.Float64Range(0, 1).Draw(t, "hang"), rapid.Float64Range(0, 1).Draw(t, "give up")
		f, turns := drawTraffic(t, func(random *rand.Rand, at time.Duration) request {
			switch lot := random.Float64(); {
			case lot > part:
				return request{issued: at, ended: at + time.Duration(random.Float64()*float64(900*time.Millisecond)), finished: true}
			case random.Float64() < quits:
				return request{issued: at, ended: at + time.Duration(random.ExpFloat64()*float64(time.Second))}
			default:
				return request{issued: at, ended: nowhere}
			}
		})
		var p judge.Pending
		p.After(time.Second)
		sum := uint64(0)
		for i, slow := range f.run(&p, turns) {
			sum += slow
			if lost := f.lost(time.Duration(i+1)*f.turn, time.Second); sum > lost {
				t.Fatalf("%d counted by turn %d, %d are lost", sum, i, lost)
			}
		}
	})
}

// counted runs a steady arm for some seconds and returns how many requests were counted.
func counted(t *testing.T, rate float64, seconds int, end func(random *rand.Rand, at time.Duration) request) uint64 {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 7))
	f := newTraffic(random, quarter, 3, slices.Repeat([]float64{rate}, seconds/5), func(at time.Duration) request { return end(random, at) })
	var p judge.Pending
	p.After(time.Second)
	sum := uint64(0)
	for _, slow := range f.run(&p, 4*seconds) {
		sum += slow
	}
	return sum
}

func hangs(_ *rand.Rand, at time.Duration) request { return request{issued: at, ended: nowhere} }

func halfHangs(random *rand.Rand, at time.Duration) request {
	if random.IntN(2) == 0 {
		return hangs(random, at)
	}
	return request{issued: at, ended: at + 50*time.Millisecond, finished: true}
}

func givesUp(_ *rand.Rand, at time.Duration) request {
	return request{issued: at, ended: at + 300*time.Millisecond}
}

func TestWhatIsLostIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(random *rand.Rand, at time.Duration) request
		want float64 // of 20 s of requests
	}{
		"all hang":          {hangs, 15.8},    // those of the last 1 s, of what reports may be late, and of six turns, are not yet
		"half hang":         {halfHangs, 6.3}, // and of these, as many more as may hide behind those that finish
		"clients give up":   {givesUp, 17.5},  // within six turns
		"nothing is amiss":  {func(_ *rand.Rand, at time.Duration) request { return request{at, at + 20*time.Millisecond, true} }, 0},
		"nothing for 999ms": {func(_ *rand.Rand, at time.Duration) request { return request{at, at + 999*time.Millisecond, true} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, rate := range []float64{10, 300} {
				got := float64(counted(t, rate, 20, c.end)) / rate
				if got < c.want-0.6 || got > c.want+2 || c.want == 0 && got > 0 {
					t.Errorf("at %v requests/s %.1f s of requests were counted, not %v", rate, got, c.want)
				}
			}
		})
	}
}

// A level that is off for two turns, and comes back, is a report that came late.
func TestNumbersThatDoNotFitForTwoTurnsCountNothing(t *testing.T) {
	var p judge.Pending
	p.After(time.Second)
	for i := range 400 {
		active := uint64(10)
		if i%10 > 7 {
			active = uint64(i % 7)
		}
		if slow := p.Turn(quarter, 25, 25, active); slow > 0 {
			t.Fatalf("%d counted in turn %d", slow, i)
		}
	}
}

func TestNumbersThatAreNoReadingCountNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p judge.Pending
		number := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64())
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			p.After(time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(3*time.Second)), rapid.Int64()).Draw(t, "after")))
			length := time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(6*time.Second)), rapid.Int64()).Draw(t, "length"))
			issued, finished, active := number.Draw(t, "issued"), number.Draw(t, "finished"), number.Draw(t, "active")
			slow := p.Turn(length, issued, finished, active)
			if odd := length <= 0 || max(issued, finished, active) > 1<<32; odd && slow > 0 || slow > 60*3<<32 {
				t.Fatalf("%d counted", slow)
			}
			var h judge.Histogram
			h[judge.Buckets-1] = rapid.Uint64Range(0, 5).Draw(t, "finished late")
			p.Settle(&h)
			if h.Total() > slow+5 {
				t.Fatalf("%d settled of %d", h.Total(), slow)
			}
		}
	})
}

// A reading that is none breaks the count: what went on before is not known any more, and must be young for all we know.
func TestAfterWhatIsNoReadingAllIsYoungAgain(t *testing.T) {
	var p judge.Pending
	p.After(time.Second)
	for i := range 100 {
		p.Turn(quarter, 1, 1, 100)
		if i == 50 {
			p.Turn(quarter, 1<<63, 0, 0)
			for j := range 6 {
				if slow := p.Turn(quarter, 0, 0, 100); slow > 0 {
					t.Fatalf("%d counted %d turns later", slow, j)
				}
			}
		}
	}
}

// A request that was counted and finishes after all brings a time, too. It must not count twice.
func TestCountedRequestsThatFinishCountOnce(t *testing.T) {
	var p judge.Pending
	p.After(time.Second)
	var sum judge.Histogram
	turn := func(issued, finished, active uint64, times ...int) {
		p.Turn(quarter, issued, finished, active)
		var h judge.Histogram
		for _, bucket := range times {
			h[bucket]++
		}
		p.Settle(&h)
		sum.Add(&h)
	}
	turn(0, 0, 0)
	turn(8, 0, 8)
	for range 20 {
		turn(0, 0, 8)
	}
	if sum[judge.Buckets-1] != 8 || sum.Total() != 8 {
		t.Fatalf("%d of 8 counted", sum.Total())
	}
	// They end; five bring their times at once, one that is fast is another, and three come later.
	turn(1, 9, 0, 10, 70, 71, 72, 72, 73)
	for range 4 {
		turn(0, 0, 0)
	}
	turn(0, 0, 0, 70, 70, 71)
	for range 400 {
		turn(0, 0, 0)
	}
	if sum[10] != 1 || sum.Total() > 8+1+5 || sum.Total() < 8+1 {
		t.Errorf("%d counted", sum.Total())
	}
	turn(1, 1, 0, 75)
	if sum[75] != 1 {
		t.Error("a slow request of a healthy arm was taken for one of those")
	}
}

func TestPendingAllocatesNothing(t *testing.T) {
	var p judge.Pending
	var h judge.Histogram
	i := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		i++
		p.After(time.Second)
		p.Turn(quarter, 25, 24, i%400)
		p.Settle(&h)
	}); n != 0 {
		t.Errorf("%v allocations per turn", n)
	}
}
