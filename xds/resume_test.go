package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAReconnectingProxyIsSentOnlyWhatDiffers(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), cluster("b", "1"), cluster("c", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		m := c.take("Cluster a=1 b=1 c=1")
		held := map[string]string{"a": versionOf(t, m, "a"), "b": versionOf(t, m, "b"), "c": versionOf(t, m, "c")}
		c.hangUp()
		r.set(12, cluster("b", "2"), cluster("d", "2"))
		r.remove(13, Key{ClusterType, "c"})

		c = r.client("n1")
		c.resume(ClusterType, held)
		c.take("Cluster b=2")
		time.Sleep(defaultGrace)
		c.take("Cluster -c")
	})
}

func TestAResumedWildcardIsSentOnlyWhatDiffers(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("a", "1"), cluster("b", "1"), cluster("c", "1"))
		c := r.client("n1")
		c.ask(ClusterType)
		m := c.take("Cluster a=1 b=1 c=1")
		held := map[string]string{"a": versionOf(t, m, "a"), "b": versionOf(t, m, "b"), "c": versionOf(t, m, "c")}
		c.hangUp()
		r.set(12, cluster("b", "2"), cluster("d", "2"))
		r.remove(13, Key{ClusterType, "c"})

		c = r.client("n1")
		c.resumeAll(ClusterType, held)
		c.take("Cluster b=2 d=2")
		time.Sleep(defaultGrace)
		c.take("Cluster -c")
		c.hangUp()

		c = r.client("n1")
		m2 := r.versions(ClusterType, "a", "b", "d")
		c.resumeAll(ClusterType, m2)
		c.quiet()
		if got := r.standing(Requirement{Key: Key{ClusterType, "b"}, Revision: 12}); got != "1 of 1, 0 rejected" {
			t.Errorf("what the proxy brought does not count: %s", got)
		}
	})
}

func TestAnotherServersVersionsOfEqualContentAreEqual(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(200, route("r"))
		other := newEntry(route("r"), "c1", 90)
		c := r.client("n1")
		c.resume(RouteType, map[string]string{"edge": other.full.version})
		c.quiet()
	})
}

func TestAProxyThatHoldsANewerRevisionIsWithheldUntilThisServerCaughtUp(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("old"), cluster("a", "old"))
		c := r.client("n1")
		c.resume(RouteType, map[string]string{"edge": newEntry(route("new"), "c1", 15).full.version})
		c.quiet()
		c.ask(ClusterType)
		c.quiet()
		if p := r.s.Proxies()[0]; !strings.Contains(p.Frozen, "newer revision") {
			t.Errorf("flagged %q", p.Frozen)
		}
		r.set(14, cluster("a", "14"))
		c.quiet()
		r.set(15, route("new"))
		c.take("Cluster a=14")
		c.quiet()
	})
}

func TestAWithheldProxyIsWokenByAnotherGroupsPublication(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("old"))
		c := r.client("n1")
		c.resume(RouteType, map[string]string{"edge": newEntry(route("new"), "c1", 15).full.version})
		c.quiet()
		r.s.Publish(15, []Update{{Group: "other", Set: []Resource{route("x")}}})
		c.take("RouteConfiguration edge=old")
	})
}

func TestAProxyOfAnotherEtcdIsFrozenUntilThatIsAdopted(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("new"), cluster("a", "1"))
		c := r.client("n1")
		c.resume(RouteType, map[string]string{"edge": newEntry(route("old"), "lost", 9000).full.version})
		c.ask(ClusterType)
		c.quiet()
		r.set(12, route("newer"))
		c.quiet()
		if p := r.s.Proxies()[0]; !strings.Contains(p.Frozen, "lost") {
			t.Errorf("flagged %q", p.Frozen)
		}
		r.s.Adopt("another")
		c.quiet()
		r.s.Adopt("lost")
		c.take("Cluster a=1")
		c.take("RouteConfiguration edge=newer")
		if p := r.s.Proxies()[0]; p.Frozen != "" {
			t.Errorf("still flagged %q", p.Frozen)
		}
	})
}

func TestVersionsOfOtherControlPlanesAreReplaced(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, route("r"))
		c := r.client("n1")
		c.resume(RouteType, map[string]string{"edge": "2026-11-24T00:00:00Z/17"})
		c.take("RouteConfiguration edge=r")
	})
}

func TestTagsThatProxiesBringAreHandedOnBeforeTheyAreAnswered(t *testing.T) {
	var r *rig
	var held []string
	change := func(c *Config) {
		c.Held = func(key Key, tag string) {
			held = append(held, key.Name+" "+tag)
			latched := layer("l1", "0")
			latched.Tag = tag
			r.s.Publish(11, []Update{{Group: "edge", Set: []Resource{latched}}})
		}
	}
	inBubble(t, change, func(bubble *rig) {
		r = bubble
		r.s.Open()
		r.s.Prove(time.Now())
		r.set(11, layer("l1", "2500"))
		other := layer("l1", "0")
		other.Tag = "shop/green-42"
		c := r.client("n1")
		c.resume(RuntimeType, map[string]string{"l1": newEntry(other, "c1", 10).full.version})
		m := c.take("Runtime l1=l1:0/3s")
		if v := versionOf(t, m, "l1"); !strings.HasSuffix(v, "+shop/green-42") {
			t.Errorf("the version is %s", v)
		}
		if !slices.Equal(held, []string{"l1 shop/green-42"}) {
			t.Errorf("held was told %q", held)
		}
		foreign := r.client("n2")
		foreign.resume(RuntimeType, map[string]string{"l1": newEntry(other, "elsewhere", 10).full.version})
		foreign.quiet()
		if len(held) != 1 {
			t.Errorf("another cluster's tag was handed on: %q", held)
		}
	})
}

// A running Envoy asks for its layers first and for its clusters last when it reconnects. What it has must not be taken away in between.
func TestAReconnectingProxyKeepsItsPartsThoughItsClustersAreNamedLater(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.s.Open()
		defer r.proving()()
		ramp := func(keys string) Resource {
			l := layer("l1", keys)
			l.Parts[0].Needs = []Need{arm("arm"), pool("a")}
			return l
		}
		r.set(11, cluster("arm", "1"), cluster("a", "1"), endpoints("a", "e"), ramp("1"), routes(part("A", pool("a"))))
		held := func(url string, names ...string) map[string]string { return r.versions(url, names...) }
		layers, route := held(RuntimeType, "l1"), held(RouteType, "edge")
		clusters, assignments := held(ClusterType, "arm", "a"), held(EndpointType, "a")

		c := r.client("unchanged")
		c.resume(RuntimeType, layers)
		c.take("Runtime l1=l1:1/3s")
		c.resume(RouteType, route)
		c.quiet()
		c.resumeAll(ClusterType, clusters)
		c.resume(EndpointType, assignments)
		c.quiet()
		c.hangUp()

		r.set(12, ramp("2"), routes(part("A2", pool("a"))))
		c = r.client("changed")
		c.resume(RuntimeType, layers)
		c.resume(RouteType, route)
		c.quiet()
		c.resumeAll(ClusterType, clusters)
		c.quiet()
		c.resume(EndpointType, assignments)
		c.take("RouteConfiguration edge=edge:A2")
		c.take("Runtime l1=l1:2/3s")
		c.quiet()
		c.hangUp()

		c = r.client("without clusters")
		c.resume(RuntimeType, layers)
		time.Sleep(resumeWait - time.Millisecond)
		c.quiet()
		time.Sleep(time.Millisecond)
		c.take("Runtime l1=l1:")
	})
}

// resumeAll is resume for a wildcard.
func (c *client) resumeAll(url string, versions map[string]string) {
	c.t.Helper()
	r := requestOf(url)
	r.ResourceNamesSubscribe, r.InitialResourceVersions = []string{"*"}, versions
	c.send(r)
}

// versions are the full versions of what is published now.
func (r *rig) versions(url string, names ...string) map[string]string {
	synctest.Wait()
	g := r.s.lockGroup("edge")
	defer g.mu.Unlock()
	versions := map[string]string{}
	for _, name := range names {
		versions[name] = g.entry(Key{url, name}).full.version
	}
	return versions
}

func TestVersionsAreReadAsTheyWereWritten(t *testing.T) {
	for _, content := range []string{"0123456789abcdef", "0123456789abcdef~none", "0123456789abcdef~11223344+shop/green-1,x~y+z", "0123456789abcdef+t"} {
		text := version{cluster: "a.b", revision: 17, content: content}.String()
		v, ok := parseVersion(text)
		if !ok || v.cluster != "a.b" || v.revision != 17 || v.content != content {
			t.Errorf("%s was read as %+v", text, v)
		}
		if _, tag, _ := strings.Cut(content, "+"); v.tag != tag {
			t.Errorf("%s has the tag %q", text, v.tag)
		}
	}
	for _, text := range []string{"", "1", "v1/x", "c.x/0123456789abcdef", ".1/0123456789abcdef", "c.1/0123", "c.-1/0123456789abcdef", "c.1/0123456789abcdeg"} {
		if v, ok := parseVersion(text); ok {
			t.Errorf("%q was taken for ours: %+v", text, v)
		}
	}
}

func TestVersionsTellSubsetsAndTTLsApart(t *testing.T) {
	seen := map[string]string{}
	for i, r := range []Resource{
		{Body: []byte("ab")}, {Body: []byte("a"), Parts: []Part{part("b")}}, {Body: []byte("a"), Parts: []Part{part("b"), part("")}},
		{Body: []byte("ab"), TTL: time.Second}, {Body: []byte("ab"), TTL: 2 * time.Second}, {Body: []byte("ab"), Tag: "t"},
	} {
		e := newEntry(r, "c", 1)
		variants := []*variant{e.full}
		if e.safe != e.full {
			variants = append(variants, e.safe)
		}
		for _, v := range variants {
			if other, taken := seen[v.version]; taken {
				t.Errorf("resource %d has version %s, as has %s", i, v.version, other)
			}
			seen[v.version] = fmt.Sprint(i)
		}
	}
}
