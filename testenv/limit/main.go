package limit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
)

// Main is the body of the server as a process: `--world FOLDER --xds ADDRESS --steps ADDRESS`. The folder is SaveWorld's.
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("limit", flag.ContinueOnError)
	world := flags.String("world", "", "folder of encoded responses")
	xds := flags.String("xds", "127.0.0.1:0", "address for streams")
	steps := flags.String("steps", "127.0.0.1:0", "address for steps")
	if err := flags.Parse(args); err != nil {
		return err
	}
	responses, err := loadWorld(*world)
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp", *xds)
	if err != nil {
		return fmt.Errorf("listen for streams: %w", err)
	}
	control, err := net.Listen("tcp", *steps)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for steps: %w", err), streams.Close())
	}
	return New(responses).Serve(ctx, streams, control)
}

// SaveWorld writes encoded responses, by type URL, for a server that is another process.
func SaveWorld(folder string, responses map[string][]byte) error {
	for typeURL, response := range responses {
		if err := os.WriteFile(filepath.Join(folder, url.PathEscape(typeURL)), response, 0o600); err != nil {
			return fmt.Errorf("save a world: %w", err)
		}
	}
	return nil
}

func loadWorld(folder string) (map[string][]byte, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("load a world: %w", err)
	}
	responses := map[string][]byte{}
	for _, file := range files {
		typeURL, err := url.PathUnescape(file.Name())
		if err != nil {
			return nil, fmt.Errorf("load a world: %w", err)
		}
		if responses[typeURL], err = os.ReadFile(filepath.Join(folder, file.Name())); err != nil {
			return nil, fmt.Errorf("load a world: %w", err)
		}
	}
	return responses, nil
}

// control is how another process asks for a step: POST /step with the encoded response; GET /streams tells how many there are.
func (s *Server) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /step", func(w http.ResponseWriter, r *http.Request) {
		response, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, strconv.Itoa(s.Step(response)))
	})
	mux.HandleFunc("GET /streams", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strconv.Itoa(s.Streams())) })
	return mux
}
