package testenv

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func TestTheFateOfRequestsFollowsTheBehaviour(t *testing.T) {
	quality := 0.8
	b := Behaviour{Fail: 0.2, Status: 8, Slow: 3, Tail: 0.1, TailSlow: 10, Hang: 0.05, Quality: &quality, Scatter: 0.1}
	const throws = 100_000
	var fails, hangs, tails, sum float64
	for range throws {
		f := b.throw(time.Second)
		fails, hangs = fails+one(f.fails), hangs+one(f.hangs)
		tails += one(f.latency == 30*time.Second)
		if f.latency != 3*time.Second && f.latency != 30*time.Second || f.fails != (f.status == 8) {
			t.Fatalf("%+v", f)
		}
		value, err := strconv.ParseFloat(strings.TrimPrefix(f.orca, "TEXT named_metrics.quality="), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += value
	}
	// Five standard deviations of the shares are below 0.007, of the mean 0.002.
	for name, c := range map[string][2]float64{"fail": {fails, 0.2}, "hang": {hangs, 0.05}, "tail": {tails, 0.1}, "quality": {sum, 0.8}} {
		if math.Abs(c[0]/throws-c[1]) > 0.007 {
			t.Errorf("%s: %.4f, want %.4f", name, c[0]/throws, c[1])
		}
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func TestAModelWithoutABehaviourIsGood(t *testing.T) {
	if got := (Behaviour{}).throw(time.Second); got != (fate{latency: time.Second}) {
		t.Errorf("got %+v", got)
	}
}

func TestAModelReportsItsQualityAndHangs(t *testing.T) {
	m := startModel(t, "v3")
	quality := 0.75
	if err := m.Behave(t.Context(), Behaviour{Quality: &quality}); err != nil {
		t.Fatal(err)
	}
	answer, err := get(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Header.Get("endpoint-load-metrics"); got != "TEXT named_metrics.quality=0.750000" {
		t.Errorf("it reports %q", got)
	}
	if err := m.Behave(t.Context(), Behaviour{Hang: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := get(ctx, m)
		ended <- err
	}()
	before := answerTimes(t, m)
	if err := Eventually(within(t, patience), func() (bool, error) { return answerTimes(t, m).LastAsked > before.FirstGood, nil }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a hung request ended with %v", err)
	}
	if got := answerTimes(t, m); got.Good != 1 {
		t.Errorf("%d good answers, want the one before it hung", got.Good)
	}
}

func TestAModelCountsWhatItsBehaviourMakesOddAndTellsPrometheus(t *testing.T) {
	m := startModel(t, "v3")
	began := time.Now().UnixNano()
	quality := 0.5
	for _, c := range []struct {
		b   Behaviour
		odd int64
	}{{Behaviour{Slow: 2}, 2}, {Behaviour{Quality: &quality}, 2}, {Behaviour{Fail: 1}, 0}, {Behaviour{}, 0}} {
		if err := m.Behave(t.Context(), c.b); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := get(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if got := answerTimes(t, m); got.Odd != c.odd || (got.FirstOdd > began) != (c.odd > 0) {
			t.Errorf("%+v: %+v, want %d odd", c.b, got, c.odd)
		}
	}
	answer, err := http.Get("http://" + m.Metrics() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	for _, line := range []string{`model_good_total{version="v3"} 6`, `model_quality_total{version="v3"} 1`} {
		if err != nil || !strings.Contains(string(body), line+"\n") {
			t.Errorf("%v: want %s in\n%s", err, line, body)
		}
	}
}

func TestLoadOfGRPCCallsAMethod(t *testing.T) {
	m := startModel(t, "v3")
	if err := m.Behave(t.Context(), Behaviour{Fail: 0.5, Status: 8}); err != nil {
		t.Fatal(err)
	}
	got := runLoad(t, LoadConfig{Targets: []string{m.Address()}, Rate: 100, Timeout: patience, GRPC: true}, after(50))
	if report := answerTimes(t, m); got.Failed != 0 || report.Bad == 0 || report.Good+report.Bad != got.Requests {
		t.Errorf("users saw %+v, the model %+v", got.Outcomes, report)
	}
}

func answerTimes(t *testing.T, m *Model) ModelReport {
	t.Helper()
	report, err := m.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func get(ctx context.Context, m *Model) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Address(), nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err == nil {
		err = answer.Body.Close()
	}
	return answer, err
}

func TestAModelAnswersGRPC(t *testing.T) {
	m := startModel(t, "v3")
	conn, err := grpc.NewClient(m.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	call := func() codes.Code {
		_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return status.Code(err)
	}
	if got := call(); got != codes.OK {
		t.Errorf("a good model answers %s", got)
	}
	for said, want := range map[int]codes.Code{8: codes.ResourceExhausted, 0: codes.Internal} {
		if err := m.Behave(t.Context(), Behaviour{Fail: 1, Status: said}); err != nil {
			t.Fatal(err)
		}
		if got := call(); got != want {
			t.Errorf("told to fail with %d it answers %s", said, got)
		}
	}
	if got := answerTimes(t, m); got.Good != 1 || got.Bad != 1 {
		t.Errorf("it counts %+v", got)
	}
}

func TestABehaviourThatCannotBeIsRefused(t *testing.T) {
	m := startModel(t, "v1")
	for want, b := range map[string]Behaviour{"fail": {Fail: 2}, "hang": {Hang: -1}, "slow": {Slow: -2}, "status": {Status: 17}} {
		if err := m.Behave(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}
