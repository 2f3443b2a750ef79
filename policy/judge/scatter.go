package judge

import "math"

const (
	lambdas       = 6
	slack         = 1.15 // of the variance that is bet against, for a scatter that was learned
	clip          = 3.0
	scatterSlots  = 64
	scatterLeast  = 9 // samples of live before anything is bet
	usualMargin   = 0.25
	consistent    = 1.4826      // standard deviations in a median absolute deviation
	clipped       = 0.9205      // the variance of a standard normal quantity that is clipped at ±2
	mostAlike     = 0.95        // autocorrelation
	remember      = 1 - 1.0/256 // of the sums that tell it, with each sample
	skewAllowance = 0.1
	constantPart  = 1e-6 // of a quantity's size: a scatter below it is that of the numbers' last digits
)

// lambdasOf are the bets' sizes (judge.md 2c, λ).
func lambdasOf() [lambdas]float64 { return [...]float64{0.25, 0.5, 0.75, 1, 1.5, 2} }

// scatter learns from live how much the difference of two means scatters, from the last 64 samples.
//
// The mean of n requests has the variance σ²/n + f². Differences of successive turns within a sample tell σ², because what moves slower cancels in them;
// differences of successive samples tell both together. For a quantity that is read once there is nothing within, and σ² is all.
type scatter struct {
	ring [scatterSlots]level
	next uint64
	n    int

	variance float64 // σ²
	floor    float64 // f²: what does not average out
	rare     bool    // most samples are alike: what scatters are rare events, and few of them were seen
	psi      [lambdas]float64

	alike                             float64 // lag-one autocorrelation of samples, 0 to 0.95
	before, products, squares, taught float64 // the last sample, standardised; sums that forget; how many samples are in them
}

// level is one sample of live.
type level struct{ mean, count, squares, pairs float64 }

// off is what two samples differ by, over what the difference of single requests would scatter by.
func (l level) off(m level) float64 { return (l.mean - m.mean) / math.Sqrt(1/l.count+1/m.count) }

func newScatter() scatter {
	var s scatter
	s.psi = usualPsi()
	return s
}

func usualPsi() [lambdas]float64 {
	psi := lambdasOf()
	for i, lambda := range psi {
		psi[i] = slack * lambda * lambda / 2
	}
	return psi
}

func (s *scatter) known() bool { return s.n >= scatterLeast }

// phi is by how much the variance of a long mean exceeds that of independent samples.
func (s *scatter) phi() float64 { return (1 + s.alike) / (1 - s.alike) }

// add learns from a pool's sample of live.
func (s *scatter) add(p *pool) {
	if p.live.Count == 0 {
		return
	}
	s.ring[s.next%scatterSlots] = level{mean: p.live.Mean(), count: float64(p.live.Count), squares: p.squares, pairs: p.pairs}
	s.next++
	if s.n = min(s.n+1, scatterSlots); s.known() {
		s.learn()
	}
}

// back is the sample i samples before the newest.
func (s *scatter) back(i int) level { return s.ring[(s.next-1-uint64(i))%scatterSlots] }

// requests is how many of live's requests the ring tells of.
func (s *scatter) requests() float64 {
	sum := 0.0
	for i := range s.n {
		sum += s.back(i).count
	}
	return sum
}

// learn estimates everything anew.
func (s *scatter) learn() {
	var offs [scatterSlots]float64
	inverse := 0.0
	for i := range s.n - 1 {
		newer, older := s.back(i), s.back(i+1)
		offs[i] = newer.off(older)
		inverse += (1/newer.count + 1/older.count) / 2
	}
	n := s.n - 1
	between, rare := spread(offs[:n])
	s.rare = rare
	s.calibrate(offs[:n], between)
	s.correlate()
	// Few samples tell little: a fifth more at nine.
	unsure := 1 + 2/float64(n) - 2.0/(scatterSlots-1)
	total := between * between * unsure * unsure / (1 - s.alike)
	s.variance, s.floor = total, 0
	if within, ok := s.within(9 * total); ok {
		s.variance = within
		s.floor = max(0, total-within) * inverse / float64(n)
	}
}

// within is the variance that differences within samples tell, none of them above most, and one standard error more: of rare events few were seen.
func (s *scatter) within(most float64) (variance float64, ok bool) {
	sum, squares, pairs := 0.0, 0.0, 0.0
	for i := range s.n {
		l := s.back(i)
		part := min(l.squares, most*l.pairs)
		sum += part
		squares += part * part
		pairs += l.pairs
	}
	n := float64(s.n)
	return (sum + math.Sqrt(max(0, squares-sum*sum/n))) / max(pairs, 1), pairs >= scatterLeast
}

// spread is the standard deviation of differences, those beyond two of it clipped. Where most differences are next to nothing but for a few, as with rare events,
// the few are what matters, and none can be called too large.
func spread(offs []float64) (deviation float64, rare bool) {
	var sizes [scatterSlots]float64
	squares := 0.0
	for i, off := range offs {
		sizes[i] = math.Abs(off)
		squares += off * off
	}
	n := float64(len(offs))
	usual, all := consistent*median(sizes[:len(offs)]), math.Sqrt(squares/n)
	if usual <= all/3 {
		return all, true
	}
	squares = 0
	for _, off := range offs {
		squares += min(off*off, 4*usual*usual)
	}
	return math.Sqrt(squares / n / clipped), false
}

// calibrate sets ψ: as for the normal law with some slack, or more where live's own differences have larger tails. A difference and its negative are equally likely,
// so the mean of cosh is taken.
func (s *scatter) calibrate(offs []float64, deviation float64) {
	s.psi = usualPsi()
	if deviation == 0 {
		return
	}
	var sums [lambdas]float64
	for _, off := range offs {
		// All λ are multiples of a quarter.
		e1 := math.Exp(min(math.Abs(off)/deviation, clip) / 4)
		e2 := e1 * e1
		e4 := e2 * e2
		for i, e := range [lambdas]float64{e1, e2, e2 * e1, e4, e4 * e2, e4 * e4} {
			sums[i] += (e + 1/e) / 2
		}
	}
	for i, sum := range sums {
		s.psi[i] = max(s.psi[i], math.Log(sum/float64(len(offs))))
	}
}

// correlate sets the autocorrelation of live's samples, clipped, corrected for the bias that few samples have. It remembers more of them than the ring does, because
// 64 tell it to an eighth only.
func (s *scatter) correlate() {
	var values [scatterSlots]float64
	for i := range s.n {
		values[i] = s.back(i).mean
	}
	newest := s.back(0)
	// The scatter is that of the samples before.
	deviation := math.Sqrt(s.variance/newest.count+s.floor) + math.SmallestNonzeroFloat64
	value := min(max((newest.mean-median(values[:s.n]))/deviation, -clip), clip)
	s.products = s.products*remember + value*s.before
	s.squares = s.squares*remember + value*value
	s.taught = s.taught*remember + 1
	s.before = value
	s.alike = 0
	if s.squares > 0 {
		alike := s.products / s.squares
		s.alike = min(max(alike+1/s.taught, 0), mostAlike)
	}
}

// comparison is one sample's z and what may be bet on it.
type comparison struct {
	z, margin, phi float64
	lambda         float64 // the most
	psi            [lambdas]float64
}

// gain is what a bet gains.
func (c *comparison) gain(i int) float64 {
	lambda := lambdasOf()[i]
	part := min(lambda, c.lambda) / lambda
	return (part*lambda*c.z - part*part*c.psi[i]) / c.phi
}

// compare holds both means against each other.
func (s *scatter) compare(both samples, settings GaugeSettings) comparison {
	g, b := both.candidate.Mean(), both.live.Mean()
	worse := g - b
	if settings.HigherIsBetter {
		worse = -worse
	}
	inverseG, inverseB := 1/float64(both.candidate.Count), 1/float64(both.live.Count)
	deviation := math.Sqrt(s.variance*(inverseG+inverseB) + 2*s.floor)
	most := clip
	if least := constantPart*(math.Abs(g)+math.Abs(b)) + math.SmallestNonzeroFloat64; deviation < least {
		// Live was constant, so nothing is known of how it scatters when it does. All that can be told is on which side the candidate is.
		deviation, most = least, 1
	}
	if s.rare {
		// An event that live's requests never showed may befall three in as many of them (the rule of three), and this is one if it is what both differ by.
		event := worse * float64(both.candidate.Count)
		deviation = max(deviation, math.Abs(event)*math.Sqrt(3/s.requests()*(inverseG+inverseB)))
	}
	margin := settings.Margin
	if margin == 0 {
		margin = usualMargin * deviation
	}
	c := comparison{margin: margin, phi: s.phi(), psi: s.psi, lambda: math.Inf(1)}
	c.z = min(max((worse-margin)/deviation, -most), most)
	// Means over unequally many requests of a skewed law differ by a skewed law: large bets would win on it.
	if skew := math.Abs(inverseG-inverseB) / math.Sqrt(inverseG+inverseB); skew > 0 {
		c.lambda = max(lambdasOf()[0], skewAllowance/skew)
	}
	return c
}
