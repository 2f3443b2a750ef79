package replica

import "context"

// orphan reports whether something is or was served of which etcd no longer tells, and nobody has adopted that.
func (d *Deciding) orphan(name string, v service) bool {
	switch adopted := d.serving.adoptedAt(); {
	case v.unreadable():
		return true
	case v.servedMod > 0 || v.restore:
		return false
	case v.served != nil:
		return true
	default:
		for _, mod := range v.permits {
			if mod > adopted {
				return true
			}
		}
		return d.hadHistory(name, v, adopted)
	}
}

// hadHistory asks once whether a service that serves nothing served something since the last adopt.
func (d *Deciding) hadHistory(name string, v service, adopted int64) bool {
	t := d.track(name)
	if t.history || v.docMod == 0 {
		return false
	}
	if !t.asked {
		d.lookBack([]string{name})
	}
	if !t.asked || t.past != nil && t.past.Event != "stopped" && t.past.Revision > adopted {
		t.asked = false
		return true
	}
	t.history = true
	return false
}

// lookBack asks for the newest line of services' histories. What etcd does not answer is asked again.
func (d *Deciding) lookBack(names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lines, err := d.store.LastLines(ctx, names)
	if err != nil {
		return
	}
	for _, name := range names {
		t := d.track(name)
		t.asked, t.past = true, nil
		if line, found := lines[name]; found {
			t.past = &line
		}
	}
}

// meet asks for the histories of several services at once, as far as that will be asked.
func (d *Deciding) meet(names []string) {
	if strange := d.strangers(names); len(strange) > 1 {
		d.lookBack(strange)
	}
}

// strangers are the services among the names that serve nothing and whose histories are not known yet.
func (d *Deciding) strangers(names []string) []string {
	d.serving.mu.Lock()
	defer d.serving.mu.Unlock()
	var found []string
	for _, name := range names {
		v := d.serving.state.services[name]
		if v != nil && v.docMod > 0 && v.servedMod == 0 && v.served == nil && !d.track(name).history {
			found = append(found, name)
		}
	}
	return found
}
