package main

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
)

// reply is what a command that changes or awaits something answers: lines as it goes, or with -o json and -o yaml one value at its end. Errors are no part of it.
// It is owned by the goroutine of its command.
type reply struct {
	*app          // says lines, to standard output or into the value
	whole  *app   // prints the value
	format format // fixed after newReply
	said   bytes.Buffer
	value  serviceReply // of commands about one service or gateway
}

func newReply(a *app, f format) *reply {
	r := &reply{app: a, whole: a, format: f}
	if f != asTable {
		own := *a
		own.out, own.screen = &r.said, screen{}
		r.app = &own
	}
	return r
}

// text is what has been said so far, for the value.
func (r *reply) text() []string {
	said := strings.TrimRight(r.said.String(), "\n")
	if said == "" {
		return []string{}
	}
	return strings.Split(said, "\n")
}

// end prints a value and passes on how the command went: a no is a value and an error.
func (r *reply) end(value any, err error) error {
	if r.format == asTable {
		return err
	}
	if failed := r.whole.printValue(r.format, value); failed != nil {
		return errors.Join(failed, err)
	}
	return err
}

// serviceReply is the value of a command about one service or gateway. It never lacks its outcome: what could not even be tried is an error alone.
type serviceReply struct {
	Service string          `json:"service,omitempty"`
	Gateway string          `json:"gateway,omitempty"`
	Command string          `json:"command"`
	Outcome ending          `json:"outcome"`
	Text    []string        `json:"text"`              // what a person is told
	Live    *policy.Ref     `json:"live,omitempty"`    // what serves, as last seen
	Release *policy.Release `json:"release,omitempty"` // the running one, as last seen
	Last    *policy.Outcome `json:"last,omitempty"`    // how the last one ended
}

// ending is how a command ended, in words that scripts can rely on (docs/scripts.md).
type ending string

// The endings. Those of a release that is over are also the results that policy knows.
const (
	endedAsAsked   ending = "done"          // pause, resume, an order that was obeyed
	endedIdle      ending = "nothing to do" // it is so already
	endedStored    ending = "stored"        // in etcd, and nobody has acted on it yet
	endedDropped   ending = "dropped"       // the leader let the order go
	endedAccepted  ending = "accepted"      // the documents are
	endedRefused   ending = "refused"       // the document is, by rampart
	endedDry       ending = "dry run"       // nothing was asked to change
	endedLive      ending = "live"          // the wish is
	endedBack      ending = "rolled back"   // the release was
	endedCommitted ending = "committed"     // the release was, which was too early for a rollback
	endedReplaced  ending = "wish changed"  // somebody wished something else
	endedDeleted   ending = "deleted"       // the service or gateway was
	endedRunning   ending = "not over"      // the release goes on
	endedPending   ending = "not confirmed" // the permit is deleted, the proxies have not all answered
)

// is notes how the command stands; the last note counts.
func (r *reply) is(e ending, v *service) {
	r.value.Outcome = e
	if v == nil {
		return
	}
	r.value.Live, r.value.Release, r.value.Last = nil, v.release(), nil
	if v.served != nil {
		r.value.Last = v.served.Last
	}
	if v.served.Serves() {
		r.value.Live = &v.served.Live.Ref
	}
}

// endService prints the value of a command about one service or gateway, if it came so far as to have one.
func (r *reply) endService(err error) error {
	if r.value.Outcome == "" {
		return err
	}
	r.value.Text = r.text()
	return r.end(r.value, err)
}

// replyCommand is a command about one service that changes or awaits something.
func replyCommand(a *app, name, short string, work func(ctx context.Context, r *reply, service string) error) *cobra.Command {
	var output format
	command := serviceCommand(a, name, short, func(ctx context.Context, service string) error {
		r := newReply(a, output)
		r.value.Service, r.value.Command = service, name
		return r.endService(work(ctx, r, service))
	})
	outputFlag(command, &output, asTable, asYAML, asJSON)
	return command
}
