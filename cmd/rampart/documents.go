package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// maxInput is the most that is read of one input: room for tens of thousands of documents.
const maxInput = 32 << 20

// documents are all that a command was given, parsed.
type documents struct {
	all      []policy.Document
	problems policy.Problems
}

// documents reads files, the YAML and JSON files of folders, and standard input for "-".
func (a *app) documents(ctx context.Context, doing string, paths []string) (documents, error) {
	var found documents
	if len(paths) == 0 {
		return found, usage("%s: no documents given: name files, folders, or - for standard input", doing)
	}
	files, err := expand(paths)
	if err != nil {
		return found, usage("%s: %w", doing, err)
	}
	for _, file := range files {
		data, err := a.input(ctx, file)
		if ctx.Err() != nil {
			return found, notHere("%s: interrupted while reading %s", doing, sourceName(file))
		}
		if err != nil {
			return found, usage("%s: %w", doing, err)
		}
		if err := found.parse(sourceName(file), data); err != nil {
			return found, fmt.Errorf("%s: %w", doing, err)
		}
	}
	if len(found.all) == 0 && len(found.problems) == 0 {
		return found, usage("%s: there is no document in %s", doing, listed(paths))
	}
	found.twice()
	return found, nil
}

// expand replaces folders by the documents in them, sorted by name. Folders within folders are left alone.
func expand(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if path == "-" || (err == nil && !info.IsDir()) {
			files = append(files, path)
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) {
				files = append(files, filepath.Join(path, entry.Name()))
			}
		}
	}
	return files, nil
}

// sourceName is what problems call an input.
func sourceName(file string) string {
	if file == "-" {
		return "stdin"
	}
	return file
}

// input reads one input until ctx ends. What never says anything, a pipe or a terminal, is left to the end of the process then.
func (a *app) input(ctx context.Context, file string) ([]byte, error) {
	type content struct {
		data []byte
		err  error
	}
	read := make(chan content, 1)
	go func() {
		data, err := a.whole(file)
		read <- content{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case c := <-read:
		return c.data, c.err
	}
}

// whole reads one input whole. An endless one must not fill the memory.
func (a *app) whole(file string) ([]byte, error) {
	from := a.in
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer opened.Close()
		from = opened
	}
	data, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", sourceName(file), err)
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("read %s: more than %d MiB are no documents", sourceName(file), maxInput>>20)
	}
	return data, nil
}

// parse adds one file's documents, or its problems.
func (d *documents) parse(source string, data []byte) error {
	found, err := policy.ParseDocuments(source, data)
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		d.problems = append(d.problems, problems...)
		return nil
	}
	d.all = append(d.all, found...)
	return err
}

// twice finds documents of one name: which of them is meant cannot be known.
func (d *documents) twice() {
	first := map[string]policy.Document{}
	for _, doc := range d.all {
		key := store.Key(docKind(doc), doc.Name)
		if earlier, again := first[key]; again {
			d.problems = append(d.problems, policy.Problem{
				Source: doc.Source, Line: doc.Line, Column: 1, Text: fmt.Sprintf("%s is already given at %s:%d", doc.Name, earlier.Source, earlier.Line),
			})
			continue
		}
		first[key] = doc
	}
}

// docKind is the key that a document belongs to.
func docKind(d policy.Document) store.Kind {
	if d.Service != nil {
		return store.ServiceDoc
	}
	return store.GatewayDoc
}

// clashes checks all documents against what is served and against each other, as the leader will.
func (d *documents) clashes(w *world) policy.Problems {
	around := d.around(w)
	var problems policy.Problems
	for _, doc := range d.all {
		var found policy.Problems
		if doc.Service != nil {
			full := doc.Service.WithDefaults()
			found = policy.Accept(full, around.of(full, w))
		} else {
			gateways := maps.Clone(around.gateways)
			delete(gateways, doc.Name)
			found = policy.AcceptGateway(doc.Gateway.WithDefaults(), gateways)
		}
		for _, p := range found {
			if p.Source == "" {
				p.Source = doc.Source
			}
			if p.Line == 0 {
				p.Line, p.Column = doc.Line, 1
			}
			problems = append(problems, p)
		}
	}
	return problems
}

// surroundings is what all documents of one command have to fit in with.
type surroundings struct {
	hosts    policy.Hosts // of all services as they will be served
	gateways map[string]policy.Gateway
}

// around is what will be served when all documents are accepted.
func (d *documents) around(w *world) *surroundings {
	around := &surroundings{gateways: w.servedGateways()}
	for name, v := range w.services {
		around.hosts.Set(name, v.served)
	}
	for _, doc := range d.all {
		if doc.Gateway != nil {
			around.gateways[doc.Name] = doc.Gateway.WithDefaults()
			continue
		}
		next := policy.Served{}
		if now := around.hosts.Has(doc.Name); now != nil {
			next = *now
		}
		next.Service = doc.Service.WithDefaults()
		if !next.Serves() {
			wish := next.Service.Wish()
			next.Live = policy.Arm{Ref: wish, Definition: next.Service.Backends[wish.Backend]}
		}
		around.hosts.Set(doc.Name, &next)
	}
	return around
}

// of is what one service has to fit in with: those that share a host with it, and what is served of it now.
func (s *surroundings) of(doc policy.Service, w *world) policy.Around {
	around := policy.Around{Others: s.hosts.Sharing(doc), Gateways: s.gateways}
	if v := w.services[doc.Name]; v != nil {
		around.Served = v.served
	}
	return around
}

// problemText is one problem per line, without the control characters that hostile documents may hold.
func problemText(problems policy.Problems) string {
	lines := strings.Split(strings.TrimSpace(problems.Error()), "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return strings.Join(lines, "\n")
}
