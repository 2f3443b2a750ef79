package policy

import "time"

// settling is how long the two sources are only compared: their reports beat against each other.
const settling = 2 * time.Second

// reconciler finds tries that have ended although no load report says so. An Envoy leaves the end of a try out of its reports now and then, when nothing else happens to
// that pool in the same interval and the machine is short of CPU; its statistics tell how long the try took all the same. What load reports count is ahead of what
// statistics tell by less than a flush, so the difference of both has a floor; each end that a load report lacks lowers that floor for good.
type reconciler struct {
	ahead, floor int64
	compared     time.Duration
}

// turn takes what a turn's load reports and statistics say has ended, and returns how many ends the load reports lack. Only a turn with statistics can show that.
func (r *reconciler) turn(length time.Duration, finished, timed uint64, statistics bool) (lacking uint64) {
	if finished > mostPerTurn || timed > mostPerTurn {
		return 0
	}
	r.ahead += int64(finished) - int64(timed)
	if r.compared == 0 && !statistics {
		return 0
	}
	if r.compared += length; r.compared <= settling {
		r.floor = min(r.floor, r.ahead)
		if r.compared == length {
			r.floor = r.ahead
		}
		return 0
	}
	if r.ahead < r.floor {
		lacking = uint64(r.floor - r.ahead)
		r.floor = r.ahead
	}
	return lacking
}
