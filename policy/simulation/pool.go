package simulation

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// each calls play with every number below n, on all processors, and returns when all calls have. It begins no more of them once ctx has ended.
func each(ctx context.Context, n int, play func(number int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			for ctx.Err() == nil {
				number := int(next.Add(1)) - 1
				if number >= n {
					return
				}
				play(number)
			}
		})
	}
	workers.Wait()
}
