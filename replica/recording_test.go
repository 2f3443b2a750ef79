package replica_test

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
)

// recording reads what is kept of a release's readings.
func (r *rig) recording(release string) []policy.Recording {
	r.t.Helper()
	found, err := r.raw.Get(r.ctx, "/rampart/v1/readings/shop/"+release+"/", clientv3.WithPrefix())
	if err != nil {
		r.t.Fatal(err)
	}
	var pieces []policy.Recording
	for _, kv := range found.Kvs {
		piece, err := policy.DecodeRecording(kv.Value)
		if err != nil {
			r.t.Fatal(err)
		}
		pieces = append(pieces, piece)
	}
	return pieces
}

// What a leader judged can be judged again: to the same end by the same settings, and to another one by others.
func TestARollbackIsRecordedAndReplaysToTheSameEnd(t *testing.T) {
	r := releasing(t)
	r.fail(0.5)
	release := r.rolledBack().Last.Release
	r.until("the recording", func() (bool, error) {
		replay := policy.RunAgain(r.recording(release), nil, nil)
		return replay.Was.Convicted, fmt.Errorf("%d turns, none convicted", replay.Turns)
	})
	replay := policy.RunAgain(r.recording(release), nil, nil)
	if !replay.Is.Convicted || replay.Is.At != replay.Was.At || replay.Is.Weight != 1000 || replay.Lost != 0 {
		t.Errorf("judged again: %+v", replay)
	}
	lax := policy.RunAgain(r.recording(release), func(s policy.Service) policy.Service {
		s.Analysis.Errors = &policy.Margin{Ratio: 1000, Points: 1}
		return s
	}, nil)
	if lax.Is.Convicted && lax.Is.At < replay.Was.At || len(lax.Changed) == 0 {
		t.Errorf("judged by a wide margin: %+v", lax)
	}
}
