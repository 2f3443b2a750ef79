package testenv

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// serve runs a web server until the test ends and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = connection.(*net.TCPConn).SetLinger(0)
	_ = connection.Close()
}

func TestEveryResetCountsAlsoOnAConnectionThatWasGoodBefore(t *testing.T) {
	var mu sync.Mutex
	asked, hungUp := 0, int64(0)
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		asked++
		odd := asked%2 == 1
		if odd {
			hungUp++
		}
		mu.Unlock()
		if odd {
			hangUp(w)
		}
	})
	totals := runLoad(t, LoadConfig{Targets: []string{address}, Rate: 100, Lanes: 1, Timeout: patience}, after(60))
	mu.Lock()
	defer mu.Unlock()
	if totals.Resets != hungUp || totals.Failed != hungUp || totals.Requests != int64(asked) {
		t.Errorf("%d of %d were hung up, the load counts %+v", hungUp, asked, totals.Outcomes)
	}
	if totals.Versions[""].Failed != hungUp {
		t.Errorf("a reset names no version: %+v", totals.Versions)
	}
}

func TestAnAnswerThatBreaksOffIsAReset(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(VersionHeader, "v1")
		w.Header().Set("Content-Length", "100")
		_, _ = fmt.Fprint(w, "half")
	})
	totals := runLoad(t, LoadConfig{Targets: []string{address}, Rate: 100, Timeout: patience}, after(5))
	if totals.Resets != totals.Requests || totals.Versions["v1"].Failed != totals.Requests {
		t.Errorf("got %+v", totals)
	}
}

func TestNobodyListeningIsAReset(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	totals := runLoad(t, LoadConfig{Targets: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Rate: 100, Timeout: patience}, after(5))
	if totals.Resets != totals.Requests || totals.Latency.Total() != 0 {
		t.Errorf("got %+v", totals.Outcomes)
	}
}

// Open-loop: a server that hangs must not slow down those who ask, and what cannot even be sent has failed.
func TestAServerThatHangsDoesNotSlowTheLoad(t *testing.T) {
	gone := make(chan struct{})
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(gone) })
	began := time.Now()
	totals := runLoad(t, LoadConfig{Targets: []string{address}, Rate: 200, Timeout: 100 * time.Millisecond, InFlight: 10}, func(l *Load) (bool, error) {
		now := l.Totals()
		return now.Timeouts >= 10 && now.Dropped >= 10, nil
	})
	due := int64(time.Since(began).Seconds()*200) + 1
	if totals.Failed != totals.Requests || totals.Timeouts+totals.Dropped != totals.Requests {
		t.Errorf("got %+v", totals.Outcomes)
	}
	// That ten were dropped while ten hung is the proof that nobody waited; nor may the load make up for anything.
	if totals.Requests > due {
		t.Errorf("%d requests were due, %d ended", due, totals.Requests)
	}
}

func TestAMissingRouteIsAFailureAndNothingIsFollowed(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/missing", http.StatusFound)
			return
		}
		http.NotFound(w, r)
	})
	missing := runLoad(t, LoadConfig{Targets: []string{address}, Path: "/missing", Rate: 100, Timeout: patience}, after(5))
	if missing.Errors != missing.Requests || missing.Statuses[404] != missing.Requests {
		t.Errorf("got %+v", missing)
	}
	moved := runLoad(t, LoadConfig{Targets: []string{address}, Path: "/old", Rate: 100, Timeout: patience}, after(5))
	if moved.Failed != 0 || moved.Statuses[302] != moved.Requests {
		t.Errorf("got %+v", moved)
	}
}

func TestTargetsAndTheirLanesAreTakenInTurn(t *testing.T) {
	var mu sync.Mutex
	connections := map[string]map[string]int{} // requests by target and connection
	see := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.Host != "shop.example.com" || r.Method != http.MethodPost {
			t.Errorf("%s %s", r.Method, r.Host)
		}
		at := r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()
		if connections[at] == nil {
			connections[at] = map[string]int{}
		}
		connections[at][r.RemoteAddr]++
	}
	targets := []string{serve(t, see), serve(t, see), serve(t, see)}
	totals := runLoad(t, LoadConfig{Targets: targets, Host: "shop.example.com", Rate: 100, Lanes: 4, Timeout: patience}, after(120))
	if totals.Failed != 0 {
		t.Errorf("got %+v", totals.Outcomes)
	}
	mu.Lock()
	defer mu.Unlock()
	var shares []int64
	for _, target := range targets {
		share := int64(0)
		for _, requests := range connections[target] {
			share += int64(requests)
		}
		shares = append(shares, share)
		// A lane opens a second connection while its first is busy, which a machine that stalls may make of any of them, but not of all.
		if n := int64(len(connections[target])); n < 4 || n >= share {
			t.Errorf("%s has %d connections for %d requests, want 4, or a few more", target, n, share)
		}
	}
	if slices.Max(shares)-slices.Min(shares) > 1 {
		t.Errorf("targets were taken out of turn: %v", shares)
	}
}

func TestALoadWithoutARateIsRefused(t *testing.T) {
	for _, c := range []LoadConfig{{Rate: 1}, {Targets: []string{"127.0.0.1:1"}}} {
		if _, err := NewLoad(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestOnlyTimeoutsAreTimeouts(t *testing.T) {
	if endOf(errors.New("connection reset by peer")) != reset || endOf(fmt.Errorf("read: %w", net.ErrClosed)) != reset {
		t.Error("a reset is told as a timeout")
	}
}

func TestSecondsAreWholeAndWhatIsOldIsForgotten(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	tally := newTally()
	for i := range 2 * (keptSeconds + 10) {
		tally.add(result{version: "v1", status: 200, at: began.Add(time.Duration(i) * 500 * time.Millisecond)})
	}
	seconds := tally.last(2 * keptSeconds)
	if len(seconds) != keptSeconds-1 {
		t.Fatalf("%d seconds are kept", len(seconds))
	}
	for i, s := range seconds {
		if s.Requests != 2 || s.Versions["v1"].Requests != 2 {
			t.Fatalf("second %d has %+v", i, s)
		}
		if want := began.Add(time.Duration(10+i) * time.Second); !s.Start.Equal(want) {
			t.Fatalf("second %d begins at %v, want %v", i, s.Start, want)
		}
	}
}

func TestTheDifferenceOfTwoSnapshotsIsWhatCameBetween(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	kinds := []result{
		{how: answered, status: 200, version: "v1"}, {how: failedStatus, status: 500, version: "v2"}, {how: failedStatus, status: 503},
		{how: reset}, {how: timedOut}, {how: dropped},
	}
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.SliceOf(rapid.IntRange(0, len(kinds)-1))
		whole, part := newTally(), newTally()
		for _, kind := range drawn.Draw(t, "before") {
			whole.add(kinds[kind].ended(at))
		}
		earlier := whole.snapshot()
		for _, kind := range drawn.Draw(t, "between") {
			whole.add(kinds[kind].ended(at))
			part.add(kinds[kind].ended(at))
		}
		got, want := whole.snapshot().Minus(earlier), part.snapshot()
		if got.Outcomes != want.Outcomes || got.Latency != want.Latency {
			t.Fatalf("got %+v, want %+v", got.Outcomes, want.Outcomes)
		}
		for version, count := range got.Versions {
			if count != want.Versions[version] {
				t.Fatalf("%q: got %+v, want %+v", version, count, want.Versions[version])
			}
		}
		for status, n := range got.Statuses {
			if n != want.Statuses[status] {
				t.Fatalf("%d: got %d, want %d", status, n, want.Statuses[status])
			}
		}
		if got.Failed != got.Errors+got.Resets+got.Timeouts+got.Dropped {
			t.Fatalf("kinds of failure do not add up: %+v", got.Outcomes)
		}
	})
}

func (r result) ended(at time.Time) result {
	r.at, r.took = at, 20*time.Millisecond
	return r
}

func TestQuantilesAreNeverTooLowAndHardlyTooHigh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		durations := rapid.SliceOfN(rapid.Int64Range(int64(smallestLatency), int64(3*time.Minute)), 1, 50).Draw(t, "durations")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		var h Histogram
		below := 0
		for _, d := range durations {
			h.add(time.Duration(d))
		}
		bound := h.Quantile(q)
		lowered := time.Duration(float64(bound) / 1.0450)
		under := 0
		for _, d := range durations {
			if time.Duration(d) <= bound+1 {
				below++
			}
			if time.Duration(d) < lowered {
				under++
			}
		}
		if n := float64(len(durations)); float64(below) < q*n || float64(under) >= max(q*n, 1) {
			t.Fatalf("%v is no quantile %v: %d of %d are not above it, %d are below %v", bound, q, below, len(durations), under, lowered)
		}
	})
	if got := new(Histogram).Quantile(0.5); got != 0 {
		t.Errorf("nothing has the median %v", got)
	}
}
