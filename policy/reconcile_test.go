package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// reported plays an arm whose statistics come every half second, a little late, and some of whose ends no load report has. It returns how many ends were found to lack.
func reported(t *rapid.T, lost func(turn int) uint64) (found uint64) {
	var r reconciler
	var waiting uint64
	for i := range 400 {
		ended := uint64(rapid.IntRange(1, 9).Draw(t, "ended"))
		missing := min(ended, lost(i))
		waiting += ended
		timed, statistics := uint64(0), i%2 == 1
		if statistics {
			timed, waiting = waiting, 0
		}
		found += r.turn(250*time.Millisecond, ended-missing, timed, statistics)
	}
	return found
}

func TestEndsThatLoadReportsLackAreFoundByTheStatistics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if found := reported(t, func(int) uint64 { return 0 }); found > 0 {
			t.Fatalf("%d ends are said to lack where none does", found)
		}
		lacking := uint64(0)
		found := reported(t, func(turn int) uint64 {
			if turn < 20 || turn%40 != 0 {
				return 0
			}
			lacking++
			return 1
		})
		if found != lacking {
			t.Fatalf("%d of %d lacking ends are found", found, lacking)
		}
	})
}

// A try that hangs has ended by neither source.
func TestWhatHangsIsNotTakenForEnded(t *testing.T) {
	var r reconciler
	for i := range 100 {
		if lacking := r.turn(250*time.Millisecond, 0, 0, i%2 == 1); lacking > 0 {
			t.Fatalf("turn %d: %d ends", i, lacking)
		}
	}
}
