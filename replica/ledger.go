package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ledger is a small file in the data folder that remembers which services this replica served, from which etcd cluster. A restarted replica compares it with
// etcd before it lets proxies in, so that a wiped or restored etcd cannot empty them.
type ledger struct {
	path     string
	written  noted     // what the file was written from; zero: not yet, or it must be written anew
	at       time.Time // when
	open     bool      // it has been compared; from then on it follows the state
	former   string    // the etcd cluster that the file was about when it was compared
	clusters []string  // other etcd clusters that were adopted: their proxies are served
}

// noted tells one content of the file from another.
type noted struct {
	comings uint64 // of the state's index
	adopted int64
	first   bool // the file was written at all
}

// noteEvery is how often the ledger is written at most: it names all services, and thousands may come one after the other.
const noteEvery = time.Second

// ledgerFile is the file's content.
type ledgerFile struct {
	Cluster  string   `json:"cluster"`
	Services []string `json:"services"`
	Adopted  int64    `json:"adopted,omitempty"`  // mod revision of the newest adopt that this replica saw
	Clusters []string `json:"clusters,omitempty"` // adopted
}

func newLedger(folder string) *ledger { return &ledger{path: filepath.Join(folder, "served.json")} }

// missing lists the services that the file knows and the state lacks, unless that was adopted while this replica was away. Another cluster id makes all of them
// missing: an adopt in it may have come with a backup.
func (l *ledger) missing(s *state, cluster string) ([]string, error) {
	data, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		l.open = true
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ledger of served services: %w", err)
	}
	var known ledgerFile
	if err := json.Unmarshal(data, &known); err != nil {
		// A torn ledger must not keep proxies out for ever; what it would have said is lost.
		l.open = true
		return nil, fmt.Errorf("read the ledger of served services %s: %w", l.path, err)
	}
	l.former, l.clusters = known.Cluster, known.Clusters
	if known.Cluster == cluster && s.adopted > known.Adopted {
		l.open = true
		return nil, nil
	}
	var missing []string
	for _, name := range known.Services {
		if v := s.services[name]; v == nil || !v.served.Serves() || known.Cluster != cluster {
			missing = append(missing, name)
		}
	}
	l.open = len(missing) == 0
	return missing, nil
}

// note writes the names of the services served now, when they have changed. When that was done a moment ago it says when it is to be done again.
func (l *ledger) note(s *state, cluster string, now time.Time) (again time.Time, err error) {
	content := noted{comings: s.index.comings, adopted: s.adopted, first: true}
	if !l.open || content == l.written {
		return time.Time{}, nil
	}
	if next := l.at.Add(noteEvery); l.written.first && now.Before(next) {
		return next, nil
	}
	names := []string{}
	for name, v := range s.services {
		if v.served.Serves() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	data, err := json.Marshal(ledgerFile{Cluster: cluster, Services: names, Adopted: s.adopted, Clusters: l.clusters})
	if err != nil {
		return time.Time{}, err
	}
	l.at = now
	if err := os.WriteFile(l.path+".new", data, 0o600); err != nil {
		return now.Add(noteEvery), fmt.Errorf("write the ledger of served services: %w", err)
	}
	if err := os.Rename(l.path+".new", l.path); err != nil {
		return now.Add(noteEvery), fmt.Errorf("write the ledger of served services: %w", err)
	}
	l.written = content
	return time.Time{}, nil
}

// adopt starts the ledger anew: what is gone is gone, and proxies that hold what the etcd cluster before this one, or one of the given ones, published are
// served. It returns all that are adopted.
func (l *ledger) adopt(foreign []string, cluster string) []string {
	l.open = true
	l.written = noted{}
	for _, other := range append(foreign, l.former) {
		if other != "" && other != cluster && !l.adopted(other) {
			l.clusters = append(l.clusters, other)
		}
	}
	return l.clusters
}

func (l *ledger) adopted(cluster string) bool { return slices.Contains(l.clusters, cluster) }
