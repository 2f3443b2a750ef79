package xdsbench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/testenv/limit"
)

// yardstick is the limit's server, as a process.
type yardstick struct {
	xds, steps string
	proc       *testenv.Proc
	carrier    []byte // a step's response as rampart sent it: only its weight differs from step to step
	weight     int    // of the last step
}

// RoleLimit is the subcommand whose body is limit.Main.
const RoleLimit = "xds-limit"

func startYardstick(ctx context.Context, self, folder string, world captured) (*yardstick, error) {
	responses, err := world.responses()
	if err != nil {
		return nil, err
	}
	at := filepath.Join(folder, "limit")
	if err := os.RemoveAll(at); err != nil {
		return nil, fmt.Errorf("start the limit: %w", err)
	}
	if err := os.MkdirAll(at, 0o700); err != nil {
		return nil, fmt.Errorf("start the limit: %w", err)
	}
	if err := limit.SaveWorld(at, responses); err != nil {
		return nil, err
	}
	y := &yardstick{}
	for _, address := range []*string{&y.xds, &y.steps} {
		port, err := testenv.FreePort()
		if err != nil {
			return nil, err
		}
		*address = loopback(port)
	}
	y.proc, err = testenv.StartProc(ctx, testenv.Command{
		Program: testenv.Program{Path: self, Args: []string{RoleLimit, "--world", at, "--xds", y.xds, "--steps", y.steps}},
		Log:     filepath.Join(folder, "limit.log"),
	})
	if err != nil {
		return nil, err
	}
	return y, testenv.Eventually(ctx, func() (bool, error) { return true, y.ask(ctx, http.MethodGet, "/streams", nil) })
}

func (y *yardstick) ask(ctx context.Context, method, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+y.steps+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the limit: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	said, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the limit: %s: %s (%w)", answer.Status, said, err)
	}
	return nil
}

// prepare makes a step ready: rampart's response with another weight.
func (y *yardstick) prepare(ctx context.Context, weight int) (func() error, error) {
	var response discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(y.carrier, &response); err != nil {
		return nil, fmt.Errorf("prepare a step: %w", err)
	}
	response.Nonce = strconv.Itoa(weight)
	for _, resource := range response.Resources {
		var layer runtimev3.Runtime
		if err := proto.Unmarshal(resource.Resource.Value, &layer); err != nil {
			return nil, fmt.Errorf("prepare a step: %w", err)
		}
		if _, there := layer.GetLayer().GetFields()[weightKey()]; !there {
			continue
		}
		layer.Layer.Fields[weightKey()] = structpb.NewNumberValue(float64(weight))
		body, err := proto.Marshal(&layer)
		if err != nil {
			return nil, fmt.Errorf("prepare a step: %w", err)
		}
		resource.Resource.Value = body
	}
	step, err := proto.Marshal(&response)
	if err != nil {
		return nil, fmt.Errorf("prepare a step: %w", err)
	}
	return func() error {
		y.weight = weight
		return y.ask(ctx, http.MethodPost, "/step", step)
	}, nil
}
